"""The results of jobs, and the documents ``parity.json`` and ``relay.json``, which hold them.

Each type has one form on disk. A record says which ``schema_version`` it has; one without it has
version 1, which differs from version 2 in nothing else.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

from isoscale.common.config.records import (
    fields_to_record,
    from_record,
    with_version,
    without_version,
)
from isoscale.common.parity.compare import Comparison
from isoscale.common.parity.tolerances import Tolerance
from isoscale.common.processes.job_pool import Key, Line

PARITY, RELAY = "parity.json", "relay.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityLine(Line):
    """The results of one run of ``isoscale parity``: what it differs by from each other side."""

    comparisons: tuple[Comparison, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayLine(Line):
    """The results of one leg: loss and its parts of every step; None: it is not finite."""

    metrics: tuple[Mapping[str, float | None], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initializers:
    """The start values of a model against the definition of its initialisers."""

    model: str
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, **self.comparison.to_json()}

    @classmethod
    def from_json(cls, record: Any) -> Self:
        rest = {key: value for key, value in record.items() if key != "model"}
        return cls(model=record["model"], comparison=Comparison.from_json(rest))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityRun:
    """One run, as the document has it.

    Attributes:
      comparisons: with each other side.
      case, framework, strategy, devices, dtype: what ran.
      error: why it failed, in one line; None: it did not.
      seconds: how long it took; None: its process failed.
      log: the process's log.
    """

    comparisons: tuple[Comparison, ...]
    case: str
    framework: str
    strategy: str
    devices: int
    dtype: str
    error: str | None
    seconds: float | None
    log: str | None

    @property
    def key(self) -> Key:
        """The key of its job."""
        return (self.case, self.framework, self.strategy, self.devices, self.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Document:
    """A record with a version."""

    def to_json(self) -> dict[str, Any]:
        return with_version(fields_to_record(self))

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Returns the document of a record of this version or an earlier one.

        Raises:
          ValueError: the record is no such document; the message says where.
        """
        return from_record(cls, without_version(record))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityDocument(_Document):
    """Everything that ``isoscale parity`` found.

    Attributes:
      time: when it ended.
      seconds: how long it took.
      machine: facts about the machine.
      tuning, tweaks, platform: of every run.
      bounds: dtype -> its bounds; mixtures of experts are named where they have their own.
      missing: framework -> why it could not run.
      initializers: of each model.
      kept_runs: how many runs an earlier session made.
      runs: all runs.
    """

    time: str
    seconds: float
    machine: dict[str, Any]
    tuning: str
    tweaks: list[str]
    platform: str
    bounds: dict[str, Tolerance]
    missing: dict[str, str]
    initializers: tuple[Initializers, ...]
    kept_runs: int
    runs: tuple[ParityRun, ...]

    def exit_code(self) -> int:
        """Returns the exit code of the command: see ``exit_code``."""
        initial = [entry.comparison for entry in self.initializers]
        found = [comparison for run in self.runs for comparison in run.comparisons]
        return exit_code([*initial, *found], failed=any(run.error for run in self.runs))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayRun:
    """One training, in several legs or unbroken.

    Attributes:
      model: what was trained.
      legs: FRAMEWORK:STRATEGY:DEVICES, in order.
      ends: the step before which each leg ended.
      losses: of every step; None: not finite.
      comparisons: with unbroken trainings.
      error: why a leg failed, in one line; None: none did.
    """

    model: str
    legs: tuple[str, ...]
    ends: tuple[int, ...]
    losses: tuple[float | None, ...]
    comparisons: tuple[Comparison, ...]
    error: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayDocument(_Document):
    """Everything that ``isoscale relay`` found.

    Attributes:
      time: when it ended.
      seconds: how long it took.
      machine: facts about the machine.
      dtype, steps, tuning, tweaks, platform: of every training.
      runs: how many jobs ran.
      kept_runs: how many of them an earlier session made.
      unbroken: the trainings in one framework.
      relays: the trainings in several legs.
    """

    time: str
    seconds: float
    machine: dict[str, Any]
    dtype: str
    steps: int
    tuning: str
    tweaks: list[str]
    platform: str
    runs: int
    kept_runs: int
    unbroken: tuple[RelayRun, ...]
    relays: tuple[RelayRun, ...]

    def trainings(self) -> list[RelayRun]:
        """Returns all trainings, the relays first."""
        return [*self.relays, *self.unbroken]

    def exit_code(self) -> int:
        """Returns the exit code of the command: see ``exit_code``."""
        runs = self.trainings()
        found = [comparison for run in runs for comparison in run.comparisons]
        return exit_code(found, failed=any(run.error for run in runs))


def exit_code(comparisons: Iterable[Comparison], *, failed: bool) -> int:
    """Returns 1 if a difference is out of bounds, 3 if a run failed, else 0."""
    if not all(comparison.ok for comparison in comparisons):
        return 1
    return 3 if failed else 0
