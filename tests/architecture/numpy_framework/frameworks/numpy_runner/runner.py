"""The NumPy runner: hand-written gradients, and the optimizer of the NumPy reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from isoscale.common.config.model_spec import Arrays
from isoscale.common.config.run_config import RunConfig
from isoscale.common.measure.runner import Runner
from isoscale.common.reference.functions import softmax, weighted_loss
from isoscale.common.reference.optimizer import SLOTS, OptimizerState, reference_update

Metrics = dict[str, float]


class NumpyRunner(Runner):
    """Trains on one CPU device; every call returns when its work has finished."""

    def __init__(
        self,
        config: RunConfig,
        *,
        build_model: Callable[..., Any],
        make_strategy: Callable[..., Any],
    ):
        if config.dtype == "bfloat16":
            raise ValueError("NumPy has no bfloat16: use --dtype=float32 or float64")
        self.ranks = make_strategy(config)
        threadpool_limits(config.threads_per_device)
        self._config = config
        self._spec = config.spec
        self._dtype = np.dtype(config.parameter_dtype)
        self._model = build_model(
            config.spec,
            dtype=config.dtype,
            param_dtype=config.parameter_dtype,
            tweaks=config.tweaks,
        )
        self._decayed = {p.name for p in config.spec.parameters() if p.decay}
        self._state: dict[str, Arrays] = {}
        self._updates = 0
        self.set_parameters(config.spec.initial_parameters(seed=config.seed))

    # The mathematics of a step.

    def _loss_and_gradients(
        self, batch: Arrays, generator: np.random.Generator | None
    ) -> tuple[Metrics, Arrays]:
        """Returns metrics and gradients of the loss.

        Args:
          batch: a batch, or a part of one with the normalizer of the whole.
          generator: draws the masks of dropout; None: no dropout.
        """
        logits, saved = self._model.forward(self._parameters, batch["inputs"], generator)
        gradient = softmax(logits)
        gradient[np.arange(len(gradient)), batch["labels"]] -= 1
        gradient *= (batch["weights"] / batch["normalizer"])[:, None]
        loss = weighted_loss(logits, batch)
        return {"loss": loss}, self._model.backward(self._parameters, saved, gradient)

    def _parts(self, batch: Arrays) -> list[Arrays]:
        count = self._config.gradient_accumulation_steps
        split = {n: np.split(v, count) for n, v in batch.items() if np.ndim(v)}
        whole = {n: v for n, v in batch.items() if not np.ndim(v)}
        return [{**whole, **{n: v[i] for n, v in split.items()}} for i in range(count)]

    # The contract.

    def place(self, batch: Arrays) -> Arrays:
        return batch

    def step(self, batch: Arrays) -> Metrics:
        generator = np.random.default_rng((self._config.seed, self._updates))
        results = [self._loss_and_gradients(part, generator) for part in self._parts(batch)]
        gradients = {n: sum(found[n] for _, found in results) for n in self._parameters}
        self._parameters, self._state = reference_update(
            self._config.optimizer,
            self._parameters,
            gradients,
            self._state,
            step=self._updates,
            decayed=self._decayed,
        )
        self._updates += 1
        return {"loss": sum(metrics["loss"] for metrics, _ in results)}

    def forward(self, batch: Arrays) -> np.ndarray:
        return self._model.forward(self._parameters, batch["inputs"], None)[0]

    def gradients(self, batch: Arrays, *, sync: bool = True) -> tuple[Metrics, Arrays]:
        del sync  # one device
        return self._loss_and_gradients(batch, None)

    def wait(self) -> None:
        """All work has finished."""

    def wait_for(self, handle: Any) -> None:
        """All work has finished."""

    def metrics(self, handles: list[Metrics]) -> list[Metrics]:
        return handles

    def read_logits(self, handle: np.ndarray) -> np.ndarray:
        return handle

    def read_gradients(self, handle: tuple[Metrics, Arrays]) -> tuple[Metrics, list[Arrays]]:
        metrics, gradients = handle
        return metrics, [gradients]

    def parameters(self) -> Arrays:
        return {name: value.copy() for name, value in self._parameters.items()}

    def set_parameters(self, parameters: Arrays) -> None:
        self._parameters = {n: v.astype(self._dtype) for n, v in parameters.items()}

    def optimizer_state(self) -> OptimizerState:
        zeros = {n: np.zeros_like(v) for n, v in self._parameters.items()}
        slots = {slot: self._state.get(slot, zeros) for slot in SLOTS[self._config.optimizer.name]}
        return OptimizerState(slots=slots, step=self._updates)

    def set_optimizer_state(self, state: OptimizerState) -> None:
        self._updates = state.step
        self._state = {
            slot: {name: value.astype(self._dtype) for name, value in state.slots[slot].items()}
            for slot in SLOTS[self._config.optimizer.name]
        }

    def accelerator_peak_bytes(self) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"versions": {"numpy": np.__version__}, "devices": ["cpu"], "optimizer": "NumPy"}

    def close(self) -> None:
        """Nothing is open."""


RUNNER = NumpyRunner
