"""Scenarios: each defines what a run does between its clocks, and the type of its result.

A scenario is a file in ``common/measure/scenarios`` with a ``SCENARIO``. The program behind a
runner starts the scenario's session; the report and TensorBoard show its figures.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from isoscale.common.config.run_config import RunConfig
from isoscale.common.data.dataset import Dataset
from isoscale.common.machine.cores import Pinning
from isoscale.common.measure.result import RunIdentity, RunOutcome, RunResult
from isoscale.common.measure.runner import Runner
from isoscale.common.measure.turns import Turns
from isoscale.common.measure.windows import Window
from isoscale.common.processes.heartbeat import Heartbeat
from isoscale.common.processes.stop import Stop


class CheckpointSaver(Protocol):
    """Saves checkpoints when they are due (``common/checkpoint/saver.py``).

    Attributes:
      saved_steps: steps of the checkpoints that were written.
      failures: one line for each checkpoint that could not be written.
    """

    saved_steps: list[int]
    failures: list[str]

    def steps_until_due(self, step: int) -> int:
        """Returns the number of steps before the next checkpoint, 1 or more."""

    def save(self, runner: Runner, step: int) -> None:
        """Saves the training after ``step`` steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """The inputs of a session.

    Attributes:
      config, runner, dataset: configuration, runner and data of the run.
      heartbeat: the session reports its activities here.
      clock: returns seconds.
      first_step: 0, or the next step of the checkpoint that the run resumes.
      saver: saves checkpoints between windows; a window ends at each one; None: saves none.
      pinning: the session verifies it after warm-up and after the last window.
      stop: the session asks it after each window whether a signal wants the run to end.
      turns: rank 0 of a run that takes turns with others waits here for each window; None: the run
        measures alone.
      takes_turns: whether the run takes turns, on every rank.
      until_all: of an independent run: calls a function again and again until every process has
        come here; None: the ranks train one model.
    """

    config: RunConfig
    runner: Runner
    dataset: Dataset
    heartbeat: Heartbeat
    clock: Callable[[], float] = time.perf_counter
    first_step: int = 0
    saver: CheckpointSaver | None = None
    pinning: Pinning = dataclasses.field(default_factory=Pinning)
    stop: Stop = dataclasses.field(default_factory=Stop)
    turns: Turns | None = None
    takes_turns: bool = False
    until_all: Callable[[Callable[[], None]], None] | None = None


class Session(Protocol):
    """One run of a scenario; the same on every rank.

    Attributes:
      windows: the windows that were measured so far.
    """

    windows: list[Window]

    def run(self) -> RunOutcome:
        """Measures; returns the fields of the scenario's result without the identity.

        Raises:
          Interrupted: a signal ended the run; if it saves checkpoints, it has saved a last one.
        """


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure of a result in an export.

    Attributes:
      field: path of the figure in the record of a result, such as ``step_seconds.median``.
      name: name of the column, with the unit.
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
    """A figure of a result in TensorBoard.

    Attributes:
      tag: tag in event files.
      name: name of the column, with the unit.
      about: meaning of the figure.
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
    """Defines what a run does between its clocks, and how its result is shown.

    Attributes:
      name: value of ``RunConfig.scenario`` and of the field in cells.
      session: returns the session of a run.
      result: type of the results.
      summary: returns the text that a run prints at its end.
      columns: figures in exports, in order.
      metrics: figures in TensorBoard, in order.
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
    ) -> Any:
        """Returns the result of a run; every result is assembled here.

        Args:
          identity: fields that are known before the run.
          outcome: the session's measurements, or the error of a run without any.
          **more: fields from the program behind the runner: ``startup_seconds``, ``data``,
            ``versions``, ``resumed_from``, ``machine``, ``environment``.
        """
        return self.result(**{**vars(identity), **vars(outcome), **more})  # type: ignore[arg-type]
