"""What a study has on disk: its record (``study.json``) and one line for each run."""

import dataclasses
from typing import Any, Literal

from isoscale.common.config.cell import Cell
from isoscale.common.config.records import from_record, to_record, with_version, without_version
from isoscale.common.measure.training_result import TrainingResult

ORDER_RULE = "numpy.random.default_rng((order_seed, round)).permutation(cells)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultLine:
    """One run of a study, a line of ``results.jsonl``.

    Attributes:
      run: number of the run within its cell.
      sequence: place in the order of execution; retries count.
      result: what the run left; for a run that was not started, why.
      wall_seconds: from the start of its processes to their end; None if they were not started.
      exit_warning: how the processes left, where they left a whole result and failed afterwards.
    """

    run: int
    sequence: int
    result: TrainingResult
    wall_seconds: float | None = None
    exit_warning: str | None = None

    @property
    def cell(self) -> Cell:
        return self.result.cell

    @property
    def ok(self) -> bool:
        return self.result.status == "ok"

    def to_record(self) -> dict[str, Any]:
        """Returns the line as plain JSON values: the fields of the result and of the line."""
        own = {name: value for name, value in vars(self).items() if name != "result"}
        return {**self.result.to_record(), **own}

    @classmethod
    def from_record(cls, record: Any, *, number: int) -> "ResultLine":
        """Returns the line that ``to_record`` describes, of this schema version or an earlier one.

        Args:
          record: plain JSON values.
          number: of the line; stands for an order that was not recorded.

        Raises:
          ValueError: the record is not a result line; the message names the key.
        """
        values = without_version(record)
        own = {f.name for f in dataclasses.fields(cls)} - {"result"}
        mine = {name: values.pop(name) for name in own & set(values)}
        if not isinstance(mine.get("sequence"), int):
            mine["sequence"] = number
        result = TrainingResult.from_record(values)
        result.check_speed()
        line = from_record(_Own, mine)
        return cls(**vars(line), result=result)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Own:
    """The fields of a line that its result does not have."""

    run: int
    sequence: int
    wall_seconds: float | None = None
    exit_warning: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """One call of ``isoscale compare`` on a study.

    Attributes:
      flags: of the call, less those that name the study.
      rounds: runs of each cell that the call planned or began.
      started: UTC, ISO 8601.
      order_of_first_round: ids of the cells, in the order of their first runs.
      machine: facts of ``common/machine/describe.py``.
    """

    flags: list[str]
    rounds: int
    started: str | None = None
    order_of_first_round: list[str] | None = None
    machine: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """The record of a study.

    Attributes:
      scaling: ``strong``: the global batch stays; ``weak``: it grows with the devices.
      order_seed: seed of the order of runs.
      order_rule: how the order follows from the seed.
      sessions: one for each call that planned runs.
    """

    scaling: Literal["strong", "weak"]
    order_seed: int | None = None
    order_rule: str | None = None
    sessions: list[SessionRecord]

    def __post_init__(self) -> None:
        if not self.sessions:
            raise ValueError("no session")
        for session in self.sessions:
            machine = session.machine
            if session.rounds < 1:
                raise ValueError("a session without rounds")
            if not isinstance(machine.get("cpu_model"), str) or not all(
                isinstance(machine.get(name), list) for name in ("available_cores", "gpus")
            ):
                raise ValueError("a session without a machine")

    def to_record(self) -> dict[str, Any]:
        """Returns the record as plain JSON values."""
        return with_version(to_record(self))

    @classmethod
    def from_record(cls, record: Any) -> "StudyRecord":
        """Returns the study that ``to_record`` describes, of this schema version or an earlier one.

        Raises:
          ValueError: the record is not a study; the message names the key.
        """
        return from_record(cls, without_version(record))
