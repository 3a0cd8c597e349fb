"""The contract between the timed loop and a framework."""

import abc
import dataclasses
from typing import Any

import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.measure.strategy import OneProcess, Ranks
from isoscale.common.reference.optimizer import OptimizerState

Placed = Any
"""A batch on its devices; only the runner that created it knows its type."""


@dataclasses.dataclass(frozen=True)
class StepBlock:
    """Several consecutive steps that one call issues.

    Attributes:
      pool: batches from ``place_pool``.
      first: number of the first step; step i trains on batch (i mod pool size).
      steps: number of steps.
    """

    pool: Placed
    first: int
    steps: int


Handle = Any
"""Refers to issued work and its small results; only the runner that created it knows its type."""


class Runner(abc.ABC):
    """Trains one model with one strategy.

    ``step``, ``forward`` and ``gradients`` issue work; they return without waiting if the framework
    supports this. All ranks of a multi-process run call every method in the same order.
    Canonical arrays are NumPy arrays under the names of the model's spec.

    Attributes:
      ranks: the processes of the run; a runner with a strategy sets it to the strategy.
    """

    ranks: Ranks = OneProcess()

    @abc.abstractmethod
    def place(self, batch: Arrays) -> Placed:
        """Splits a global host batch over the devices; returns the placed batch."""

    @abc.abstractmethod
    def step(self, batch: Placed | StepBlock) -> Handle:
        """Issues one optimizer step, or the steps of a block."""

    @abc.abstractmethod
    def forward(self, batch: Placed) -> Handle:
        """Issues the forward pass alone, without dropout."""

    @abc.abstractmethod
    def gradients(self, batch: Placed, *, sync: bool = True) -> Handle:
        """Issues forward and backward pass; ``sync=False`` omits the reduction over devices.

        Parameters, optimizer state and random state do not change.
        """

    @abc.abstractmethod
    def wait(self) -> None:
        """Returns when every device of this process has finished all issued work."""

    @abc.abstractmethod
    def wait_for(self, handle: Handle) -> None:
        """Returns when the work of ``handle`` has finished."""

    @abc.abstractmethod
    def metrics(self, handles: list[Handle]) -> list[dict[str, float]]:
        """Returns ``loss``, and its parts if the model has any, of each step over the global batch.

        The list has one entry per step; a block's handle gives one entry for each of its steps.
        """

    @abc.abstractmethod
    def read_logits(self, handle: Handle) -> np.ndarray:
        """Returns the logits of the global batch from a handle of ``forward``."""

    @abc.abstractmethod
    def read_gradients(self, handle: Handle) -> tuple[dict[str, float], list[Arrays]]:
        """Returns (metrics, canonical gradients) from a handle of ``gradients``.

        The gradients are those of the global loss before clipping. The list has one entry if the
        gradients were reduced. Otherwise it has the share of each device of the run, in order.
        """

    @abc.abstractmethod
    def parameters(self) -> Arrays:
        """Returns the canonical parameters."""

    @abc.abstractmethod
    def set_parameters(self, parameters: Arrays) -> None:
        """Replaces all parameters on all devices."""

    @abc.abstractmethod
    def optimizer_state(self) -> OptimizerState:
        """Returns the optimizer state under canonical names."""

    @abc.abstractmethod
    def set_optimizer_state(self, state: OptimizerState) -> None:
        """Replaces the optimizer state on all devices."""

    @abc.abstractmethod
    def accelerator_peak_bytes(self) -> list[int] | None:
        """Returns the peak bytes of each device of this process; None on CPU or if unknown."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns the versions and effective settings, for the run's record."""

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the framework's resources; every rank must call it."""

    def place_pool(self, batches: list[Arrays]) -> Placed:
        """Moves all batches to the devices together, for blocks of ``steps_per_dispatch`` steps.

        Only runners of frameworks with a tweak for ``steps_per_dispatch`` implement it.

        Raises:
          NotImplementedError: the runner issues one step at a time.
        """
        raise NotImplementedError(f"{type(self).__name__} issues one step at a time")

    def rehearse(self, block: StepBlock) -> None:
        """Runs a block once to compile it, then restores parameters and optimizer state."""
        parameters, state = self.parameters(), self.optimizer_state()
        self.step(block)
        self.wait()
        self.set_parameters(parameters)
        self.set_optimizer_state(state)

    @property
    def rank(self) -> int:
        """Number of this process in the run, from 0."""
        return self.ranks.rank

    def barrier(self) -> None:
        """Returns when every process of the run has called it."""
        self.ranks.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in order of rank, on every process."""
        return self.ranks.gather(value)
