"""The result of a training run."""

import dataclasses
from typing import Any, Self

from isoscale.common.config.records import without_version
from isoscale.common.measure.result import (
    EvaluationFigures,
    ResumedFrom,
    RunOutcome,
    RunResult,
    SavedCheckpoints,
    Summary,
)
from isoscale.common.measure.turns import TurnsFigures

_BEFORE_VERSION_4 = "items_per_second"
"""Earlier name of ``examples_per_second``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingFigures:
    """The figures of a training run. Times in seconds, losses in nats, rates per second.

    Attributes:
      step_seconds: time per step in the throughput windows.
      latency_seconds: time of the windows with one step.
      examples_per_second: examples of all throughput windows / their time; None if too few steps
        were left to measure.
      tokens_per_second: real tokens of all throughput windows / their time; None for a model
        without tokens.
      compile_seconds: first step minus a median step, plus the rehearsal of a block.
      rehearsal_seconds: time of the rehearsal, which compiles a block of steps.
      first_step_seconds, warmup_seconds, measured_seconds: time of each phase.
      rank_combination: rule that combines the times of several ranks.
      first_step: number of the first step that the run trained.
      loss_first, loss_last: loss of the first and of the last step.
      losses_last: loss of the last step and its parts.
      steps_trained: number of the step after the last one.
      checkpoints: checkpoints that the run saved.
      eval: figures on held-out data; None if the data set has none.
      resumed_from: checkpoint that the run resumed; None if it started at step 0.
      turns: how the run took turns with others; None if it measured alone.
    """

    step_seconds: Summary | None = None
    latency_seconds: Summary | None = None
    examples_per_second: float | None = None
    tokens_per_second: float | None = None
    compile_seconds: float | None = None
    rehearsal_seconds: float | None = None
    first_step_seconds: float | None = None
    warmup_seconds: float | None = None
    measured_seconds: float | None = None
    rank_combination: str | None = None
    first_step: int | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    losses_last: dict[str, float | None] | None = None
    steps_trained: int | None = None
    checkpoints: SavedCheckpoints | None = None
    eval: EvaluationFigures | None = None
    resumed_from: ResumedFrom | None = None
    turns: TurnsFigures | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOutcome(TrainingFigures, RunOutcome):
    """The outcome of a training session."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult(TrainingFigures, RunResult):
    """The record of a training run."""

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """Returns the result from a record of ``to_record``, of this or an earlier version.

        Raises:
          ValueError: as that of ``RunResult``.
        """
        values = without_version(record)
        if _BEFORE_VERSION_4 in values and "examples_per_second" not in values:
            values["examples_per_second"] = values.pop(_BEFORE_VERSION_4)
        return super().from_record(values)

    @property
    def speed(self) -> float:
        """Examples per second of a successful run; ``check`` ensures the value."""
        assert self.examples_per_second is not None
        return self.examples_per_second

    @property
    def median_step_seconds(self) -> float:
        """Median time per step of a successful run."""
        assert self.step_seconds is not None
        assert self.step_seconds.median is not None
        return self.step_seconds.median

    @property
    def median_latency_seconds(self) -> float | None:
        """Median time of the windows with one step; None without them."""
        return self.latency_seconds.median if self.latency_seconds else None

    def check(self) -> None:
        """Raises ValueError for a successful run without a speed: a study needs one."""
        if self.status != "ok":
            return
        step, latency = self.step_seconds, self.latency_seconds
        speeds = [self.examples_per_second, step.median if step else None]
        if latency is not None and latency.median is not None:
            speeds.append(latency.median)
        if not all(speed is not None and speed > 0 for speed in speeds):
            raise ValueError("a successful run without a speed")
