"""Between a runner and its checkpoints."""

import sys
from pathlib import Path
from typing import Any

from isoscale.common.checkpoint import files
from isoscale.common.checkpoint.files import State
from isoscale.common.measure.runner import Runner
from isoscale.common.reference.optimizer import OptimizerState


def restore(runner: Runner, state: State, *, step: int) -> None:
    """Puts a checkpoint's arrays on the devices; the runner's next step is ``step``."""
    runner.set_parameters(state.parameters)
    if step == 0:  # weights alone: no optimizer has seen them
        return
    runner.set_optimizer_state(OptimizerState(slots=state.slots, step=step))


class Saver:
    """Saves a run's checkpoints when it is time to; the same on every rank, of which one writes.

    Attributes:
      saved_steps: of the checkpoints that were written.
      failures: why one was not, a line each.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int | None,
        last_step: int,
        about: dict[str, Any],
    ):
        """Args:
        folder: exists; nobody else writes to it.
        every: steps between checkpoints; None: at the end only.
        last_step: the step at which the run ends.
        about: fields of the manifest that stay the same.
        """
        self._folder = folder
        self._every, self._last = every, last_step
        self._about = about
        self.saved_steps: list[int] = []
        self.failures: list[str] = []

    def steps_until_due(self, step: int) -> int:
        """Returns how many more steps there are before the next checkpoint, 1 or more."""
        left = self._last - step
        return left if self._every is None else min(left, self._every - step % self._every)

    def save(self, runner: Runner, step: int) -> None:
        """Saves what ``step`` steps have made of the parameters, unless that is not finite.

        A checkpoint that cannot be written does not end the run: ``failures`` says so.
        """
        optimizer = runner.optimizer_state()
        assert optimizer.step == step
        state = State(parameters=runner.parameters(), slots=optimizer.slots)
        if runner.rank:
            return
        broken = state.first_not_finite()
        if broken:  # it would replace one that can be gone on from
            self._fail(step, f"{broken} holds NaN or an infinity")
            return
        next_batch = step % self._about["batches"]
        try:
            files.save(self._folder, state, step=step, next_batch=next_batch, **self._about)
        except OSError as error:
            self._fail(step, str(error))
            return
        self.saved_steps.append(step)

    def _fail(self, step: int, why: str) -> None:
        self.failures.append(f"no checkpoint at step {step}: {why}")
        print(f"isoscale: {self.failures[-1]}", file=sys.stderr, flush=True)
