"""The PyTorch runner: an eager (or compiled) step with a fused optimizer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.runner import Runner
from isoscale.common.reference.optimizer import OptimizerState, learning_rate
from isoscale.frameworks.torch_runner import optimizer as optimizers
from isoscale.frameworks.torch_runner.parameters import CanonicalParameters

Batch = dict[str, torch.Tensor]


class TorchRunner(Runner):
    """Trains on one device of this process; the strategy joins processes."""

    def __init__(
        self,
        config: RunConfig,
        *,
        build_model: Callable[..., nn.Module],
        make_strategy: Callable[..., Any],
    ):
        torch.set_float32_matmul_precision("highest")  # no TF32
        torch.backends.cudnn.allow_tf32 = False
        if config.platform == "cpu":
            torch.set_num_threads(config.threads_per_device)
        self._config = config
        self._spec = spec = config.spec
        self._strategy = make_strategy(config)
        self._device = self._strategy.device
        self._parameter_dtype = getattr(torch, config.parameter_dtype)
        self._foreach = "foreach-optimizer" in config.tweaks
        self._dropout = bool(getattr(spec, "dropout_rate", 0.0))
        with torch.device("meta"):
            model = build_model(spec, dtype=getattr(torch, config.dtype), tweaks=config.tweaks)
        self._model = model.to(self._parameter_dtype).to_empty(device=self._device)
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

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """This shard's share of the loss: shares of all shards add up to the global loss."""
        output = self._call(*(batch[name] for name in self._spec.input_names))
        logits, auxiliary_B = output if isinstance(output, tuple) else (output, None)
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

    def _backward(self, batch: Batch) -> dict[str, torch.Tensor]:
        self._optimizer.zero_grad(set_to_none=True)
        loss, metrics = self._loss(batch)
        self._strategy.scale_loss(loss).backward()
        return metrics

    def _accumulate(self, batch: Batch, parts: int) -> dict[str, torch.Tensor]:
        """``_backward`` part by part; gradients are reduced with the last one."""
        self._optimizer.zero_grad(set_to_none=True)
        chunks = {name: value.chunk(parts) for name, value in batch.items() if value.ndim}
        whole = {name: value for name, value in batch.items() if not value.ndim}
        rows = []
        for index in range(parts):
            part = {name: values[index] for name, values in chunks.items()}
            with self._strategy.sync(self._wrapped, index == parts - 1):
                loss, metrics = self._loss({**part, **whole})
                self._strategy.scale_loss(loss).backward()
            rows.append(metrics)
        return {name: torch.stack([row[name] for row in rows]).sum() for name in rows[0]}

    # The contract.

    def place(self, batch: Arrays) -> Batch:
        placed = {}
        for name, value in self._strategy.shard(batch).items():
            tensor = torch.from_numpy(value)
            if name == "labels":
                tensor = tensor.long()  # what cross_entropy takes
            placed[name] = tensor.to(self._device)
        return placed

    def step(self, batch: Any) -> Any:
        if self._dropout:
            # A function of seed, step and rank: training goes on from a checkpoint with the same
            # masks. PyTorch looks at 32 bits of a seed.
            words = np.random.SeedSequence((self._config.seed, self._updates, self.rank))
            torch.manual_seed(int(words.generate_state(1)[0]))
        parts = self._config.gradient_accumulation_steps
        metrics = self._backward(batch) if parts == 1 else self._accumulate(batch, parts)
        config = self._config.optimizer
        if config.clip_norm:
            optimizers.clip_by_global_norm(
                [p.grad for p in self._parameters if p.grad is not None], clip_norm=config.clip_norm
            )
        if self._scheduled:
            rate = learning_rate(config, self._updates)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
        self._optimizer.step()
        self._updates += 1
        return metrics, self._strategy.record_event()

    def forward(self, batch: Batch) -> Any:
        self._model.eval()
        with torch.no_grad():
            output = self._call(*(batch[name] for name in self._spec.input_names))
        self._model.train()
        logits = output[0] if isinstance(output, tuple) else output
        return logits, self._strategy.record_event()

    def gradients(self, batch: Batch, *, sync: bool = True) -> Any:
        self._model.eval()  # no dropout: random state stays as it is
        with self._strategy.sync(self._wrapped, sync):
            metrics = self._backward(batch)
        self._model.train()
        # Copies: the next call writes into the same buckets.
        gradients = [torch.clone(p.grad) for p in self._parameters if p.grad is not None]
        return (metrics, gradients, sync), self._strategy.record_event()

    def wait(self) -> None:
        self._strategy.wait()

    def wait_for(self, handle: Any) -> None:
        _, event = handle
        if event is not None:
            event.synchronize()

    def metrics(self, handles: list[Any]) -> list[dict[str, float]]:
        names = list(handles[0][0])
        rows = torch.stack(
            [torch.stack([metrics[name] for name in names]) for metrics, _ in handles]
        )
        table = sum(self.gather(rows.double().cpu().numpy()))
        return [dict(zip(names, map(float, row), strict=True)) for row in table]

    def read_logits(self, handle: Any) -> np.ndarray:
        logits, _ = handle
        return np.concatenate(self.gather(logits.to(self._parameter_dtype).cpu().numpy()))

    def read_gradients(self, handle: Any) -> tuple[dict[str, float], list[Arrays]]:
        (metrics, gradients, reduced), _ = handle
        named = zip(self._canonical.tensors(), gradients, strict=True)
        share = {name: self._canonical.to_host(name, g) for name, g in named}
        if not reduced:
            # The wrapper would have taken the mean of scaled losses; undo the scale.
            ranks = self._strategy.world_size
            shares = self.gather({name: value / ranks for name, value in share.items()})
        else:
            shares = [share]
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
        return {
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "devices": [str(self._device)],
            "device_kind": (
                torch.cuda.get_device_name(self._device)
                if self._device.type == "cuda"
                else torch.backends.cpu.get_cpu_capability()
            ),
            "matmul_precision": "highest (no TF32)",
            "threads": torch.get_num_threads(),
            "optimizer": "foreach" if self._foreach else "fused",
            **self._strategy.describe(),
        }

    def close(self) -> None:
        self.wait()
        self._strategy.close()

    @property
    def rank(self) -> int:
        return self._strategy.rank

    def barrier(self) -> None:
        self._strategy.barrier()

    def gather(self, value: Any) -> list[Any]:
        return self._strategy.gather(value)


RUNNER = TorchRunner
