"""The PyTorch runner: an eager (or compiled) step with a fused optimizer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.batches import (
    check_logits,
    metric_names,
    split_scalars,
    without_gradient,
)
from isoscale.common.measure.runner import Runner
from isoscale.common.reference.optimizer import OptimizerState, learning_rate
from isoscale.frameworks.torch_runner import attention, precision
from isoscale.frameworks.torch_runner import optimizer as optimizers
from isoscale.frameworks.torch_runner.parameters import CanonicalParameters, check_module
from isoscale.frameworks.torch_runner.strategy import Strategy

Batch = dict[str, torch.Tensor]
Metrics = dict[str, torch.Tensor]


class TorchRunner(Runner):
    """Trains on the one device of this process; the strategy connects the processes."""

    def __init__(
        self,
        config: RunConfig,
        *,
        build_model: Callable[..., nn.Module],
        make_strategy: Callable[[RunConfig], Strategy],
    ):
        precision.set_tf32(config.tf32)
        if config.platform == "cpu":
            torch.set_num_threads(config.threads_per_device)
        self._config = config
        self._spec = spec = config.spec
        self._strategy = self.ranks = make_strategy(config)
        (self._device,) = self._strategy.devices
        self._parameter_dtype = getattr(torch, config.parameter_dtype)
        self._foreach = "foreach-optimizer" in config.tweaks
        self._dropout = spec.dropout > 0
        self._checked = False
        with torch.device("meta"):
            model = build_model(
                spec,
                dtype=getattr(torch, config.dtype),
                param_dtype=self._parameter_dtype,
                tweaks=config.tweaks,
            )
        check_module(model)
        # In evaluation mode a call applies dropout only if its argument says so.
        self._model = model.to_empty(device=self._device).eval()
        self._canonical = CanonicalParameters(self._model, spec)
        self._canonical.write(spec.initial_parameters(seed=config.seed))
        tensors = self._canonical.tensors()
        self._parameters = list(tensors.values())
        self._optimizer = optimizers.make(
            config.optimizer,
            decayed=[tensors[p.name] for p in spec.parameters() if p.decay],
            others=[tensors[p.name] for p in spec.parameters() if not p.decay],
            foreach=self._foreach,
        )
        constant = config.optimizer.schedule == "constant"
        self._scheduled = not constant or config.optimizer.schedule_warmup_steps > 0
        self._wrapped = self._strategy.wrap(self._model)
        self._call = (
            torch.compile(self._wrapped) if config.compile_mode == "compile" else self._wrapped
        )
        self._updates = 0

    # What a step computes.

    def _call_model(
        self, batch: Batch, dropout: bool | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        inputs = [batch[name] for name in self._spec.input_names]
        output = self._call(*inputs, dropout=dropout)
        logits, auxiliary_B = output if isinstance(output, tuple) else (output, None)
        if not self._checked:  # once: eager mode would pay for it in every step
            dtype = str(logits.dtype).removeprefix("torch.")
            check_logits(self._spec, logits.shape, dtype, wanted=self._config.dtype)
            self._checked = True
        return logits, auxiliary_B

    def _loss(self, batch: Batch, dropout: bool | None) -> tuple[torch.Tensor, Metrics]:
        """Returns (this shard's share of the loss, metrics); shares add up to the global loss."""
        logits, auxiliary_B = self._call_model(batch, dropout)
        logits = logits.to(self._parameter_dtype)
        losses = functional.cross_entropy(
            logits.flatten(0, -2), batch["labels"].flatten(), reduction="none"
        )
        loss = torch.dot(losses, batch["weights"].flatten()) / batch["normalizer"]
        if auxiliary_B is None:
            return loss, {"loss": loss.detach()}
        auxiliary: Any = torch.dot(auxiliary_B, batch["group_weights"]) / batch["groups"]
        total = loss + self._spec.auxiliary_loss_coefficient * auxiliary
        return total, {
            "loss": total.detach(),
            "cross_entropy": loss.detach(),
            "auxiliary_loss": auxiliary.detach(),
        }

    def _backward(self, batch: Batch, dropout: bool | None) -> Metrics:
        """Adds the gradients of the loss to each parameter's ``grad``; returns the metrics."""
        loss, metrics = self._loss(batch, dropout)
        self._strategy.scale_loss(loss).backward()
        return metrics

    def _found_gradients(self) -> list[torch.Tensor]:
        """Returns the gradients of all parameters.

        Raises:
          ValueError: a parameter has no gradient. The optimizer would skip it in silence, decay
            and moments included.
        """
        found = [p.grad for p in self._parameters if p.grad is not None]
        if len(found) < len(self._parameters):
            raise without_gradient({n: t.grad for n, t in self._canonical.tensors().items()})
        return found

    def _loss_and_gradients(
        self, batch: Batch, dropout: bool | None
    ) -> tuple[Metrics, list[torch.Tensor]]:
        """Returns metrics and gradients.

        The gradients are the ``grad`` tensors of the parameters; the next call clears them.
        """
        self._optimizer.zero_grad(set_to_none=True)
        return self._backward(batch, dropout), self._found_gradients()

    def _accumulated_gradients(
        self, batch: Batch, dropout: bool | None
    ) -> tuple[Metrics, list[torch.Tensor]]:
        """Returns metrics and gradients, summed over parts; the last part reduces gradients."""
        self._optimizer.zero_grad(set_to_none=True)
        parts = self._config.gradient_accumulation_steps
        rows, whole = split_scalars(batch)
        chunks = {name: value.chunk(parts) for name, value in rows.items()}
        found = []
        for index in range(parts):
            part = {name: values[index] for name, values in chunks.items()}
            with self._strategy.sync(self._wrapped, index == parts - 1):
                found.append(self._backward({**part, **whole}, dropout))
        metrics = {name: torch.stack([row[name] for row in found]).sum() for name in found[0]}
        return metrics, self._found_gradients()

    def _train_step(self, batch: Batch) -> Metrics:
        dropout = None
        if self._dropout:
            dropout = True
            # The masks depend on seed, step and rank only: a resumed training draws the same ones.
            # PyTorch uses 32 bits of a seed.
            index = self._strategy.device_index()
            words = np.random.SeedSequence((self._config.seed, self._updates, index))
            torch.manual_seed(int(words.generate_state(1)[0]))
        accumulates = self._config.gradient_accumulation_steps > 1
        compute = self._accumulated_gradients if accumulates else self._loss_and_gradients
        metrics, gradients = compute(batch, dropout)
        config = self._config.optimizer
        if config.clip_norm:
            optimizers.clip_by_global_norm(gradients, clip_norm=config.clip_norm)
        if self._scheduled:
            rate = learning_rate(config, self._updates)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
        self._optimizer.step()
        self._updates += 1
        return metrics

    def _predict(self, batch: Batch) -> torch.Tensor:
        logits, _ = self._call_model(batch, None)
        return logits

    def _record_event(self) -> torch.cuda.Event | None:
        """Returns an event after all issued work; None on CPU, where calls finish their work."""
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    # The contract.

    def place(self, batch: Arrays) -> Batch:
        return self._strategy.place_batch(batch)

    def step(self, batch: Any) -> Any:
        return self._train_step(batch), self._record_event()

    def forward(self, batch: Batch) -> Any:
        with torch.no_grad():
            logits = self._predict(batch)
        return logits, self._record_event()

    def gradients(self, batch: Batch, *, sync: bool = True) -> Any:
        with self._strategy.sync(self._wrapped, sync):
            metrics, gradients = self._loss_and_gradients(batch, None)
        # Copies, because the next call writes into the same buckets.
        return (metrics, [torch.clone(g) for g in gradients], sync), self._record_event()

    def wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def wait_for(self, handle: Any) -> None:
        _, event = handle
        if event is not None:
            event.synchronize()

    def metrics(self, handles: list[Any]) -> list[dict[str, float]]:
        names = metric_names(self._spec)
        rows = torch.stack(
            [torch.stack([metrics[name] for name in names]) for metrics, _ in handles]
        )
        table = self._strategy.read_totals(rows.double())
        return [dict(zip(names, map(float, row), strict=True)) for row in table]

    def read_logits(self, handle: Any) -> np.ndarray:
        logits, _ = handle
        return self._strategy.read_rows(logits.to(self._parameter_dtype))

    def read_gradients(self, handle: Any) -> tuple[dict[str, float], list[Arrays]]:
        (metrics, gradients, reduced), _ = handle
        named = zip(self._canonical.tensors(), gradients, strict=True)
        share = {name: self._canonical.to_host(name, g) for name, g in named}
        shares = [share] if reduced else self._strategy.read_shares(share)
        return self.metrics([(metrics, None)])[0], shares

    def parameters(self) -> Arrays:
        return self._canonical.read()

    def set_parameters(self, parameters: Arrays) -> None:
        self._canonical.write(parameters)

    def optimizer_state(self) -> OptimizerState:
        slots: dict[str, Arrays] = {}
        for slot, key in optimizers.SLOTS[self._config.optimizer.name].items():
            slots[slot] = {}
            for name, tensor in self._canonical.tensors().items():
                value = self._optimizer.state.get(tensor, {}).get(key)
                value = torch.zeros_like(tensor) if value is None else value
                slots[slot][name] = self._canonical.to_host(name, value)
        return OptimizerState(slots=slots, step=self._updates)

    def set_optimizer_state(self, state: OptimizerState) -> None:
        self._updates = state.step
        for name, tensor in self._canonical.tensors().items():
            entry: dict[str, torch.Tensor] = {}
            for slot, key in optimizers.SLOTS[self._config.optimizer.name].items():
                entry[key] = self._canonical.to_native(name, state.slots[slot][name]).to(tensor)
            if self._config.optimizer.name == "adamw":
                entry["step"] = torch.tensor(
                    float(self._updates), dtype=torch.float32, device=self._device
                )
            self._optimizer.state[tensor] = entry

    def accelerator_peak_bytes(self) -> list[int] | None:
        if self._device.type != "cuda":
            return None
        return [torch.cuda.max_memory_allocated(self._device)]

    def describe(self) -> dict[str, Any]:
        kernel = attention.kernel(self._model, self._config, device=self._device)
        return {
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "devices": [str(self._device)],
            "device_kind": (
                torch.cuda.get_device_name(self._device)
                if self._device.type == "cuda"
                else torch.backends.cpu.get_cpu_capability()
            ),
            "matmul_precision": precision.in_force(),
            "threads": torch.get_num_threads(),
            "optimizer": "foreach" if self._foreach else "fused",
            **({"attention": kernel} if kernel else {}),
            **self._strategy.describe(),
        }

    def close(self) -> None:
        self.wait()
        self._strategy.close()


RUNNER = TorchRunner
