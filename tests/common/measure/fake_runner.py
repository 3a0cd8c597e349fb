"""A runner without a framework, for tests of the code that calls runners."""

from typing import Any

import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.measure.runner import Runner, StepBlock
from isoscale.common.reference.optimizer import OptimizerState


class FakeRunner(Runner):
    """Records every call; step i has loss ``losses[i]`` and takes ``seconds_per_step``."""

    def __init__(self, losses: list[float] | None = None, *, seconds_per_step: float = 0.5):
        self.calls: list[str] = []
        self.time = 0.0
        self._losses = losses
        self._seconds = seconds_per_step
        self._steps = 0

    def clock(self) -> float:
        self.calls.append("clock")
        return self.time

    def place(self, batch: Arrays) -> Arrays:
        self.calls.append("place")
        return batch

    def step(self, batch: Any) -> int:
        self.calls.append("step")
        self.time += self._seconds
        self._steps += 1
        return self._steps - 1

    def forward(self, batch: Any) -> Any:
        return batch

    def gradients(self, batch: Any, *, sync: bool = True) -> Any:
        raise NotImplementedError

    def barrier(self) -> None:
        self.calls.append("barrier")

    def wait(self) -> None:
        self.calls.append("wait")

    def wait_for(self, handle: Any) -> None:
        self.calls.append(f"wait_for {handle}")

    def metrics(self, handles: list[int]) -> list[dict[str, float]]:
        self.calls.append("metrics")
        return [{"loss": self._losses[i] if self._losses else 1.0 / (i + 1)} for i in handles]

    def read_logits(self, handle: Arrays) -> np.ndarray:
        return np.eye(10)[handle["labels"]] * 9.0  # always the correct label

    def read_gradients(self, handle: Any) -> Any:
        raise NotImplementedError

    def parameters(self) -> Arrays:
        self.calls.append("parameters")
        return {"steps": np.asarray([float(self._steps)], np.float32)}

    def set_parameters(self, parameters: Arrays) -> None:
        raise NotImplementedError

    def optimizer_state(self) -> OptimizerState:
        return OptimizerState(slots={}, step=self._steps)

    def set_optimizer_state(self, state: OptimizerState) -> None:
        raise NotImplementedError

    def accelerator_peak_bytes(self) -> list[int] | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


class TwoRanks(FakeRunner):
    """Pretends that a second rank took twice as long."""

    def gather(self, value: Any) -> list[Any]:
        if isinstance(value, list):  # seconds of a window, and a signal
            return [value, [2 * value[0], *value[1:]]]
        return [value, 2 * value] if isinstance(value, float) else [value, value]


class BlockRunner(FakeRunner):
    """Issues blocks; a step of a block takes half the time of a single step. Handles are ranges."""

    def place_pool(self, batches: list[Arrays]) -> list[Arrays]:
        self.calls.append("place_pool")
        return batches

    def step(self, batch: Any) -> Any:
        steps = batch.steps if isinstance(batch, StepBlock) else 1
        if isinstance(batch, StepBlock):
            self.calls.append(f"block {batch.first}")
            self.time += steps * self._seconds / 2
        else:
            self.calls.append("step")
            self.time += self._seconds
        self._steps += steps
        return range(self._steps - steps, self._steps)

    def metrics(self, handles: list[Any]) -> list[dict[str, float]]:
        return super().metrics([number for handle in handles for number in handle])

    def parameters(self) -> Arrays:
        return {"steps": np.asarray(self._steps)}

    def set_parameters(self, parameters: Arrays) -> None:
        self._steps = int(parameters["steps"])

    def set_optimizer_state(self, state: OptimizerState) -> None:
        self.calls.append("set_optimizer_state")
