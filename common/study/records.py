"""The records of a study on disk: ``study.json``, and one result line for each run."""

import dataclasses
from typing import Any, Literal

from isoscale.common.config.cell import Cell
from isoscale.common.config.records import (
    OMIT_DEFAULT,
    from_record,
    to_record,
    with_version,
    without_version,
)
from isoscale.common.config.run_config import TRAINING
from isoscale.common.measure.training_result import TrainingResult
from isoscale.common.registry import lookup
from isoscale.common.study.pace import Pace

Scalings = Literal["strong", "weak", "strong,weak"]
"""The scaling of a study; ``BOTH``: it has cells of both."""
BOTH: Scalings = "strong,weak"
ORDER_RULE = "numpy.random.default_rng((order_seed, round)).permutation(cells)"
FIRST_STAGE = 6
"""Usual number of groups of the first stage of ``--target_ci``.

With 4 groups, Student's t is so wide that a study needs a third more groups in the end: at a
process effect of 3 % and a target of 3 % the medians were 40, 31 and 26 groups for first stages of
4, 6 and 8 in the simulation."""
SAME_WITHIN = 0.05
"""Default margin of equivalence."""
MOST_RUNS = 10**6
"""Most runs of a cell: a million runs of ten seconds take four months."""


def read_result(record: Any, *, scenario: str) -> TrainingResult:
    """Returns a result of the type that its scenario declares.

    Args:
      record: plain JSON values.
      scenario: name. The current views read only results of ``training``; another scenario needs
        its own views.

    Raises:
      ValueError: the record is not a result of the scenario that a study can use.
    """
    result = lookup.scenario(scenario).result.from_record(record)
    result.check()
    return result  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _LineFields:
    """The fields of a result line besides those of its result.

    Attributes:
      run: number of the run within its cell, from 0.
      sequence: place in the order of execution; retries count.
      wall_seconds: from the start of the run's processes to their end; None if not measured.
      exit_warning: how the processes failed after writing a complete result; None: they did not
        fail.
    """

    run: int
    sequence: int
    wall_seconds: float | None = None
    exit_warning: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultLine(_LineFields):
    """One run of a study: a line of ``results.jsonl``.

    Attributes:
      result: the run's result; for a skipped run, its ``error`` says why.
    """

    result: TrainingResult

    @property
    def cell(self) -> Cell:
        """The cell of the run."""
        return self.result.cell

    @property
    def ok(self) -> bool:
        """Whether the run succeeded."""
        return self.result.status == "ok"

    def to_record(self) -> dict[str, Any]:
        """Returns plain JSON values: the fields of the result and of the line in one dict."""
        own = {name: value for name, value in vars(self).items() if name != "result"}
        return {**self.result.to_record(), **own}

    @classmethod
    def from_record(cls, record: Any, *, number: int) -> "ResultLine":
        """Returns the line from plain JSON values of this or an earlier schema version.

        Args:
          record: plain JSON values, as ``to_record`` returns them.
          number: number of the line in its file; used if ``sequence`` was not recorded.

        Raises:
          ValueError: the record is not a result line. The message names the key.
        """
        values = without_version(record)
        own = {field.name for field in dataclasses.fields(_LineFields)}
        mine = {name: values.pop(name) for name in own & set(values)}
        if not isinstance(mine.get("sequence"), int):
            mine["sequence"] = number
        cell = values.get("cell")
        scenario = cell.get("scenario", TRAINING) if isinstance(cell, dict) else TRAINING
        result = read_result(values, scenario=scenario)
        line = from_record(_LineFields, mine)
        return cls(**vars(line), result=result)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedCell:
    """A stock cell whose runs also count in the tuned lane: both are the same configuration.

    The choice of tweaks depends on the machine. Therefore the study records it: a report may be
    written on another machine.

    Attributes:
      cell_id: id of the stock cell, which has the runs.
      lane: the other lane.
      left_out: (name, reason) of the tweaks of the other lane that the machine does not allow.
    """

    cell_id: str
    lane: Literal["tuned"]
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list, metadata=OMIT_DEFAULT)

    @property
    def reason(self) -> str:
        """Why the two lanes are the same configuration, for example ``tuned adds no tweak``."""
        listed = [f"{name} is left out ({reason})" for name, reason in self.left_out]
        return ", ".join(listed) or "tuned adds no tweak"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """One call of ``isoscale compare`` on a study.

    Attributes:
      flags: flags of the call, without those that name the study.
      rounds: runs per cell that the call planned or began.
      started: start time, UTC, ISO 8601.
      order_of_first_round: cell ids, in the order of their first runs.
      shared: stock cells of the call that also stand for their tuned cell.
      machine: the facts that ``common/machine/describe.py`` returns.
    """

    flags: list[str]
    rounds: int
    started: str | None = None
    order_of_first_round: list[str] | None = None
    shared: list[SharedCell] = dataclasses.field(default_factory=list, metadata=OMIT_DEFAULT)
    machine: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """The record of a study.

    Attributes:
      scaling: ``strong``: the global batch is fixed; ``weak``: the global batch grows with the
        device count; ``strong,weak``: the study has cells of both.
      order_seed: seed of the order of runs.
      order_rule: the expression that computes the order from the seed.
      interleave: ``windows`` or ``runs`` (``common/study/interleave.py``).
      same_within: throughputs up to this share apart are called the same.
      target_ci: half-width that planned intervals shall have, as a share of the ratio; None: none.
      first_stage: groups before the study looks how many it needs for ``target_ci``.
      pace: how the study divides its time between groups and rounds; None: it does not.
      sessions: one record per call that planned runs, in order of the calls.
    """

    scaling: Scalings
    order_seed: int | None = None
    order_rule: str | None = None
    interleave: Literal["windows", "runs"] = "runs"
    same_within: float = SAME_WITHIN
    target_ci: float | None = None
    first_stage: int | None = None
    pace: Pace | None = dataclasses.field(default=None, metadata=OMIT_DEFAULT)
    sessions: list[SessionRecord]

    def __post_init__(self) -> None:
        if not 0 < self.same_within < 1:
            raise ValueError("same_within must be between 0 and 1")
        if not self.sessions:
            raise ValueError("sessions is empty")
        for session in self.sessions:
            machine = session.machine
            if not 1 <= session.rounds <= MOST_RUNS:
                raise ValueError(f"rounds of a session must be 1 to {MOST_RUNS}")
            if not isinstance(machine.get("cpu_model"), str) or not all(
                isinstance(machine.get(name), list) for name in ("available_cores", "gpus")
            ):
                raise ValueError("machine of a session lacks cpu_model, available_cores or gpus")

    def shared(self) -> list[SharedCell]:
        """Returns the shared cells of all sessions; of a cell in several sessions, the latest."""
        found = {(s.cell_id, s.lane): s for session in self.sessions for s in session.shared}
        return list(found.values())

    def to_record(self) -> dict[str, Any]:
        """Returns the record as plain JSON values."""
        return with_version(to_record(self))

    @classmethod
    def from_record(cls, record: Any) -> "StudyRecord":
        """Returns the record from plain JSON values of this or an earlier schema version.

        Raises:
          ValueError: the values are not the record of a study. The message names the key.
        """
        return from_record(cls, without_version(record))
