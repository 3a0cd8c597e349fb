"""The results of jobs, and the documents ``parity.json`` and ``relay.json`` with these results.

Each type has one form on disk. The key ``schema_version`` gives the version of a record. A record
without this key has version 1; version 2 only adds the key; version 3 adds ``isoscale``.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

from isoscale.common.config.records import (
    OMIT_DEFAULT,
    fields_to_record,
    from_record,
    with_version,
    without_version,
)
from isoscale.common.parity.compare import Comparison
from isoscale.common.parity.tolerances import Tolerance
from isoscale.common.processes.job_line import Key, Line

PARITY, RELAY = "parity.json", "relay.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityLine(Line):
    """The results of one run of ``isoscale parity``: one comparison with each other side."""

    comparisons: tuple[Comparison, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayLine(Line):
    """The results of one leg: loss and its parts at every step; None: the value is not finite."""

    metrics: tuple[Mapping[str, float | None], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initializers:
    """The comparison of a model's start values with the definition of its initialisers."""

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
    """One run in the document.

    Attributes:
      comparisons: one comparison with each other side.
      case, framework, strategy, devices, dtype: the configuration of the run.
      error: reason of the failure, in one line; None: the run succeeded.
      seconds: duration; None: its process failed.
      log: path of the process's log.
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
        """Returns the key of the job of this run."""
        return (self.case, self.framework, self.strategy, self.devices, self.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Document:
    """A document whose JSON form has a version.

    Attributes:
      isoscale: version and commit of the isoscale that wrote it; None: unknown (an older record).
    """

    isoscale: str | None = dataclasses.field(default=None, metadata=OMIT_DEFAULT)

    def to_json(self) -> dict[str, Any]:
        return with_version(fields_to_record(self))

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Returns the document in a record of this version or of an earlier version.

        Raises:
          ValueError: the record does not describe this document; the message names the place.
        """
        return from_record(cls, without_version(record))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityDocument(_Document):
    """All results of ``isoscale parity``.

    Attributes:
      time: end of the session.
      seconds: duration.
      machine: facts about the machine.
      tuning, tweaks, platform: settings of every run.
      bounds: dtype -> its bounds; mixtures of experts have their own entry if their bounds differ.
      missing: framework -> why the framework could not run.
      initializers: one entry for each model.
      kept_runs: number of runs kept from an earlier session.
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
      model: name of the case.
      legs: FRAMEWORK:STRATEGY:DEVICES of each leg, in order.
      ends: number of steps of the training completed at the end of each leg.
      losses: loss of every step; None: the loss is not finite.
      comparisons: one comparison with each unbroken training.
      error: why a leg failed, in one line; None: every leg succeeded.
    """

    model: str
    legs: tuple[str, ...]
    ends: tuple[int, ...]
    losses: tuple[float | None, ...]
    comparisons: tuple[Comparison, ...]
    error: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelayDocument(_Document):
    """All results of ``isoscale relay``.

    Attributes:
      time: end of the session.
      seconds: duration.
      machine: facts about the machine.
      dtype, steps, tuning, tweaks, platform: settings of every training.
      runs: number of jobs.
      kept_runs: number of jobs kept from an earlier session.
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
    """Returns 1 if a difference is out of bounds or a run failed, else 0."""
    return int(failed or not all(comparison.ok for comparison in comparisons))
