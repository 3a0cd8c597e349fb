"""The result of a run: a typed record, written and read by the same type."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, Self

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import FolderError
from isoscale.common.config.read import MEBIBYTE
from isoscale.common.config.records import (
    OMIT_DEFAULT,
    from_record,
    to_record,
    with_version,
    without_version,
)
from isoscale.common.disk.json_files import read_json

RESULT = "result.json"
LARGEST_RESULT = 16 * MEBIBYTE
"""File with the result in a run directory; written last: its presence means a complete run."""

Status = Literal["ok", "diverged", "failed", "interrupted", "skipped"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The distribution of some values; None for an empty list of values.

    Attributes:
      median, mean, p10, p90: statistics of the values, in their unit.
      n: number of values.
    """

    median: float | None = None
    mean: float | None = None
    p10: float | None = None
    p90: float | None = None
    n: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationFigures:
    """Figures on held-out data after training.

    Attributes:
      loss: mean cross-entropy, in nats.
      accuracy: share of correct labels, 0 to 1.
      n: number of labels.
    """

    loss: float | None
    accuracy: float | None
    n: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of a run.

    Attributes:
      kind: describes which memory the figures count.
      per_device_bytes: peak of each accelerator; None on CPUs.
      per_process_bytes: peak of each process; None on accelerators.
    """

    kind: str
    per_device_bytes: list[int] | None = dataclasses.field(default=None, metadata=OMIT_DEFAULT)
    per_process_bytes: list[int] | None = dataclasses.field(default=None, metadata=OMIT_DEFAULT)

    @property
    def peak_bytes(self) -> int:
        """The peak of the largest device, or the sum over processes."""
        if self.per_device_bytes is not None:
            return max(self.per_device_bytes)
        return sum(self.per_process_bytes or [])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedCheckpoints:
    """The checkpoints of a run.

    Attributes:
      saved_steps: steps done at each saved checkpoint.
      failures: one line for each checkpoint that could not be written.
      seconds: duration of each attempt; saves lie outside all windows.
    """

    saved_steps: list[int]
    failures: list[str]
    seconds: list[float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumedFrom:
    """The checkpoint that a run resumed.

    Attributes:
      path: name of the checkpoint's folder.
      step: number of training steps done in the checkpoint.
      written_by: framework, strategy, devices and versions of the run that wrote it.
    """

    path: str
    step: int
    written_by: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Facts about a run that are known before it starts.

    Attributes:
      started: start of the process, UTC, ISO 8601.
      cell: cell that the run executes.
      seed: seed of parameters, batches and dropout.
      parameters: number of parameters of the model.
      flops_per_step: analytic count of floating-point operations in a training step.
      run_dir: name of the run's folder; in a study's index, relative to the study's folder.
      isoscale: version and commit of the isoscale that ran; None: unknown (an older record).
    """

    started: str | None = None
    cell: Cell
    seed: int | None = None
    parameters: int | None = None
    flops_per_step: int | float | None = None
    run_dir: str | None = None
    isoscale: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The end of a run, and the figures that every scenario records. Times in seconds.

    Attributes:
      status: ``ok``; ``diverged``: a loss is not finite; ``failed``; ``interrupted``: a signal
        ended the run; ``skipped``: the run was not started.
      error: one line; None if ok.
      outside_load_share: time that other programs used on the run's cores, all cores added, divided
        by the run's time.
      disturbed: whether that share is above ``DISTURBED_SHARE``; None if unknown.
      memory: peak memory.
      peak_memory_bytes: peak memory in tables.
      clock_reading_seconds: median time between two consecutive clock readings.
      startup_seconds: cause -> time, from the start of the process until the model is built.
      data: facts about the data set.
      versions: package -> version.
      machine: fact -> value, of the machine of the run (``describe.identity``).
      environment: the environment variables that can change results or speed.
    """

    status: Status
    error: str | None = None
    outside_load_share: float | None = None
    disturbed: bool | None = None
    memory: Memory | None = None
    peak_memory_bytes: int | float | None = None
    clock_reading_seconds: float | None = None
    startup_seconds: dict[str, float] | None = None
    data: dict[str, str | int] | None = None
    versions: dict[str, str] | None = None
    machine: dict[str, Any] | None = None
    environment: dict[str, str] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResult(RunOutcome, RunIdentity):
    """The record of one run; each scenario adds its own figures."""

    def to_record(self) -> dict[str, Any]:
        """Returns the result as plain JSON values."""
        return with_version(to_record(self))

    def check(self) -> None:
        """Raises ValueError for a successful result without its figures; scenarios override it."""

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """Returns the result from a record of ``to_record``, of this or an earlier version.

        Raises:
          ValueError: the record has a later version, or is not a result; the message names the
            key.
        """
        return from_record(cls, without_version(record))


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """Returns a run's result as plain JSON values; None if the file is missing or damaged."""
    try:
        record = read_json(run_dir / RESULT, most=LARGEST_RESULT)
    except FolderError:
        return None
    return record if isinstance(record, dict) else None
