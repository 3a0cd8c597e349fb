"""Moves the state of a training between a runner and its checkpoints."""

import contextlib
import sys
from pathlib import Path
from typing import Any

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.config.errors import FolderError
from isoscale.common.measure.runner import Runner
from isoscale.common.reference.optimizer import OptimizerState


def restore(runner: Runner, state: State, *, step: int) -> None:
    """Loads a checkpoint's arrays onto the devices; the runner's next step is ``step``."""
    runner.set_parameters(state.parameters)
    if step == 0:  # weights without optimizer state
        return
    runner.set_optimizer_state(OptimizerState(slots=state.slots, step=step))


class Saver:
    """Saves a run's checkpoints when they are due. Every rank calls it; only rank 0 writes.

    Attributes:
      saved_steps: steps of the checkpoints that were written.
      failures: one line for each checkpoint that could not be written, with the reason.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int | None,
        last_step: int,
        about: dict[str, Any],
    ):
        """Stores the arguments; ``save`` writes files.

        Args:
          folder: an existing folder; no other process writes to it.
          every: steps between checkpoints; None: saves one at the end of the run.
          last_step: step at which the run ends.
          about: fields of the manifest that are the same in all checkpoints of the run.
        """
        self._folder = folder
        self._every, self._last = every, last_step
        self._about = about
        self.saved_steps: list[int] = []
        self.failures: list[str] = []

    def steps_until_due(self, step: int) -> int:
        """Returns the number of steps before the next checkpoint, 1 or more."""
        left = self._last - step
        return left if self._every is None else min(left, self._every - step % self._every)

    def save(self, runner: Runner, step: int) -> None:
        """Saves the training after ``step`` steps, if all its arrays are finite.

        If the checkpoint cannot be written, the run continues and ``failures`` gets a line.
        """
        optimizer = runner.optimizer_state()
        assert optimizer.step == step
        state = State(parameters=runner.parameters(), slots=optimizer.slots)
        if runner.rank:
            return
        broken = state.first_not_finite()
        if broken:  # otherwise it could evict a usable checkpoint
            self._fail(step, f"{broken} contains NaN or infinity")
            return
        next_batch = step % self._about["batches"]
        try:
            files.save(self._folder, state, step=step, next_batch=next_batch, **self._about)
        except FolderError as error:
            self._fail(step, str(error))
            return
        self.saved_steps.append(step)

    def _fail(self, step: int, why: str) -> None:
        self.failures.append(f"no checkpoint at step {step}: {why}")
        with contextlib.suppress(OSError):  # the log may lie on the same full disk
            print(f"isoscale: {self.failures[-1]}", file=sys.stderr, flush=True)
