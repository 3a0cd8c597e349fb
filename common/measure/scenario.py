"""What a run does between its clocks, and the type of what it leaves.

A scenario is a file in ``common/measure/scenarios`` with a ``SCENARIO``. The program behind a
runner starts its session, and the report and TensorBoard show its figures.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from isoscale.common.config.run_config import RunConfig
from isoscale.common.data.dataset import Dataset
from isoscale.common.measure.result import RunIdentity, RunOutcome, RunResult
from isoscale.common.measure.runner import Runner
from isoscale.common.measure.windows import Window
from isoscale.common.processes.heartbeat import Heartbeat


class Saver(Protocol):
    """Saves checkpoints when they are due (``common/checkpoint/saver.py``).

    Attributes:
      saved_steps: steps of the checkpoints that were written.
      failures: one line for each checkpoint that could not be written.
    """

    saved_steps: list[int]
    failures: list[str]

    def steps_until_due(self, step: int) -> int:
        """Returns how many more steps there are before the next checkpoint, 1 or more."""

    def save(self, runner: Runner, step: int) -> None:
        """Saves the training as it is after ``step`` steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a session works with.

    Attributes:
      config, runner, dataset: of the run.
      heartbeat: is told what the session does.
      clock: in seconds.
      first_step: 0, or the step with which a checkpoint continues.
      saver: saves checkpoints between windows, which end where one is due; None: saves nothing.
    """

    config: RunConfig
    runner: Runner
    dataset: Dataset
    heartbeat: Heartbeat
    clock: Callable[[], float] = time.perf_counter
    first_step: int = 0
    saver: Saver | None = None


class Session(Protocol):
    """One run of a scenario; the same on every rank.

    Attributes:
      windows: the windows so far.
    """

    windows: list[Window]

    def run(self) -> RunOutcome:
        """Returns what was measured: the fields of the scenario's result but the identity."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of a result, as exports name it.

    Attributes:
      field: path of the figure in the record of a result, such as ``step_seconds.median``.
      name: of the column; says the unit.
    """

    field: str
    name: str


def figure(record: Mapping[str, Any], path: str) -> Any:
    """Returns the value at a path such as ``step_seconds.median``; None if it is absent."""
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a result, as TensorBoard compares it.

    Attributes:
      tag: in event files.
      name: of the column; says the unit.
      about: what is measured.
      field: path of the figure in the record of a result.
      scale: factor from the unit of the field to the unit of the name.
    """

    tag: str
    name: str
    about: str
    field: str
    scale: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a run does between its clocks.

    Attributes:
      name: as in ``RunConfig.scenario`` and in cells.
      session: starts a run.
      result: type of its results.
      summary: returns what a run prints at its end.
      columns: figures that exports show, in order.
      metrics: figures that TensorBoard compares, in order.
    """

    name: str
    session: Callable[[Task], Session]
    result: type[RunResult]
    summary: Callable[[RunConfig, Any], str]
    columns: tuple[Column, ...]
    metrics: tuple[Metric, ...]

    def assemble(
        self,
        identity: RunIdentity,
        outcome: RunOutcome,
        **more: object,
    ) -> RunResult:
        """Returns the result of a run: the one place where a result is put together.

        Args:
          identity: what was known before the run.
          outcome: what the session measured, or why there is nothing.
          **more: fields that the program behind the runner knows: ``startup_seconds``, ``data``,
            ``versions``, ``resumed_from``.
        """
        return self.result(**{**vars(identity), **vars(outcome), **more})  # type: ignore[arg-type]
