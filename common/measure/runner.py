"""The contract between the timed loop and a framework."""

import abc
import dataclasses
from typing import Any

import numpy as np

from isoscale.common.config.model_spec import Arrays
from isoscale.common.measure.strategy import OneProcess, Ranks
from isoscale.common.reference.optimizer import OptimizerState

Placed = Any
"""A batch on its devices; opaque outside the runner that made it."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Several consecutive steps that are issued by one call.

    Attributes:
      pool: what ``place_pool`` made.
      first: number of the first step; step i trains on batch i mod pool.
      steps: how many.
    """

    pool: Placed
    first: int
    steps: int


Handle = Any
"""Refers to issued work and its small results; opaque outside the runner that made it."""


class Runner(abc.ABC):
    """Trains one model with one strategy.

    ``step``, ``forward`` and ``gradients`` issue work and return without waiting for it where the
    framework can do that. All ranks of a multi-process run call every method in the same order.
    Canonical arrays are NumPy arrays under the names of the model's spec.

    Attributes:
      ranks: the processes of the run; a runner with a strategy sets it to that.
    """

    ranks: Ranks = OneProcess()

    @abc.abstractmethod
    def place(self, batch: Arrays) -> Placed:
        """Moves a global host batch to the devices, split over them."""

    @abc.abstractmethod
    def step(self, batch: Placed | Block) -> Handle:
        """Issues one optimizer step, or those of a block."""

    @abc.abstractmethod
    def forward(self, batch: Placed) -> Handle:
        """Issues the forward pass alone, without dropout."""

    @abc.abstractmethod
    def gradients(self, batch: Placed, *, sync: bool = True) -> Handle:
        """Issues forward and backward pass; ``sync=False`` leaves out the reduction over devices.

        Parameters, optimizer and random state stay as they are.
        """

    @abc.abstractmethod
    def wait(self) -> None:
        """Returns when every device of this process has finished all issued work."""

    @abc.abstractmethod
    def wait_for(self, handle: Handle) -> None:
        """Returns when the work of ``handle`` has finished."""

    @abc.abstractmethod
    def metrics(self, handles: list[Handle]) -> list[dict[str, float]]:
        """Returns ``loss`` (and its parts, where it has some) of steps, over the global batch.

        One entry per step; a block's handle stands for all of its steps.
        """

    @abc.abstractmethod
    def read_logits(self, handle: Handle) -> np.ndarray:
        """Returns the logits of the global batch from a handle of ``forward``."""

    @abc.abstractmethod
    def read_gradients(self, handle: Handle) -> tuple[dict[str, float], list[Arrays]]:
        """Returns (metrics, canonical gradients) from a handle of ``gradients``.

        Gradients of the global loss before clipping: one entry if they were reduced, else one
        share for each device of the run, in order.
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
        """Returns the peak memory of each device of this process; None on CPU or if unknown."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns versions and settings in force, for the run's record."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the run cleanly on every rank."""

    def place_pool(self, batches: list[Arrays]) -> Placed:
        """Moves all batches to the devices together, for blocks of ``steps_per_dispatch`` steps.

        Only frameworks with a tweak that sets ``steps_per_dispatch`` have it.
        """
        raise NotImplementedError(f"{type(self).__name__} issues one step at a time")

    def rehearse(self, block: Block) -> None:
        """Runs a block once, to compile it, and puts everything back as it was."""
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
