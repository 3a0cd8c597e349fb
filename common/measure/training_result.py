"""The result of a training run."""

import dataclasses

from isoscale.common.measure.result import (
    EvaluationFigures,
    ResumedFrom,
    RunOutcome,
    RunResult,
    SavedCheckpoints,
    Summary,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingFigures:
    """What a training run measures. Times in seconds, losses in nats, rates per second.

    Attributes:
      step_seconds: over the throughput windows: time per step.
      latency_seconds: over the windows of one step.
      items_per_second: examples of all throughput windows / their time; None if too few steps were
        left to measure.
      tokens_per_second: the same in real tokens; None for a model without tokens.
      compile_seconds: first step less a median step, and the rehearsal of a block.
      rehearsal_seconds: of a block of steps, which compiles it.
      first_step_seconds, warmup_seconds, measured_seconds: by phase.
      rank_combination: how the times of several ranks were combined.
      first_step: number of the first step that was trained.
      loss_first, loss_last: of the first and last step.
      losses_last: the parts of the last loss.
      steps_trained: number of the step after the last one.
      checkpoints: that were saved.
      eval: on held-out data; None if the data set has none.
      resumed_from: the checkpoint that the run continued.
    """

    step_seconds: Summary | None = None
    latency_seconds: Summary | None = None
    items_per_second: float | None = None
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOutcome(TrainingFigures, RunOutcome):
    """What a training session returns."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult(TrainingFigures, RunResult):
    """The record of a training run."""

    @property
    def speed(self) -> float:
        """Examples per second of a successful run, which has some (``check_speed``)."""
        assert self.items_per_second is not None
        return self.items_per_second

    @property
    def median_step_seconds(self) -> float:
        """Median time per step of a successful run."""
        assert self.step_seconds is not None
        assert self.step_seconds.median is not None
        return self.step_seconds.median

    @property
    def median_latency_seconds(self) -> float | None:
        """Median time of windows of one step; None if there were none."""
        return self.latency_seconds.median if self.latency_seconds else None

    def check_speed(self) -> None:
        """Raises ValueError for a successful run without a speed: no study can use it."""
        if self.status != "ok":
            return
        step, latency = self.step_seconds, self.latency_seconds
        speeds = [self.items_per_second, step.median if step else None]
        if latency is not None and latency.median is not None:
            speeds.append(latency.median)
        if not all(speed is not None and speed > 0 for speed in speeds):
            raise ValueError("a successful run without a speed")
