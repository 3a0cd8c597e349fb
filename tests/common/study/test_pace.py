"""How a study within a time budget divides its time between groups and rounds."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.allocation import pace
from isoscale.common.analysis.variances import Components
from isoscale.common.processes.limits import Limits
from isoscale.common.registry import environments
from isoscale.common.registry.interpreters import Program
from isoscale.common.study.execute import Study, StudySession
from isoscale.common.study.pace import LEAST_ROUNDS, Pace, Times
from isoscale.common.study.records import ResultLine, StudyRecord
from isoscale.common.study.store import Store
from tests.common.report.fake_study import MACHINE, make_cell, read_lines, turns_lines
from tests.common.study.test_execute import CELL

START, EACH = 20.0, 2.0
PART = Components(within=0.08**2, between=0.01**2, groups=3)


class Clock:
    """Time that only the groups of a test spend."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def study(
    folder: Path, clock: Clock, ran: list[int], *, slow: float = 1.0, **changes: Any
) -> Study:
    """Returns a study whose groups need no processes; ``ran`` gets the rounds of each.

    Args:
      folder: of the study.
      clock: goes on by the time of the groups.
      ran: gets the number of rounds of each group.
      slow: factor on the time of groups from the fourth on.
      changes: further arguments of the study.
    """
    found = Study(
        [StudySession(flags=[], cells=[CELL], rounds=1)],
        Store(folder),
        {"torch": Program(command=[], missing=None)},
        seed=0,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
        rounds=10,
        **changes,
    )

    def execute(
        indices: Sequence[int], run: int, *, rounds: int, on_round: Callable[[int, int], None]
    ) -> Iterator[ResultLine]:
        ran.append(rounds)
        factor = slow if run >= 3 else 1.0
        clock.now += START / 2
        for done in range(rounds):
            clock.now += EACH * factor
            on_round(done + 1, rounds)
        clock.now += START / 2
        (line,) = read_lines(turns_lines([(make_cell("torch", "bare", 1), 0.01)], groups=1))
        result = dataclasses.replace(line.result, cell=CELL.cell())
        yield dataclasses.replace(line, run=run, sequence=run, result=result)

    found._execution.execute_group = execute  # type: ignore[method-assign,assignment]
    return found


def run(found: Study, budget: float) -> list[tuple[int, float, float, float]]:
    """Runs a study; returns the arguments of each call of ``divide``."""
    asked: list[tuple[int, float, float, float]] = []

    def divide(groups: int, left: float, start: float, each: float) -> Pace | None:
        asked.append((groups, left, start, each))
        return pace(
            [PART], done=[10] * groups, budget=left, start_seconds=start, round_seconds=each
        )

    found.run(budget_seconds=budget, on_round=lambda rounds: None, divide=divide)
    return asked


def test_after_three_groups_the_rest_of_the_time_is_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ran = Clock(monkeypatch), list[int]()
    (asked,) = run(study(tmp_path, clock, ran), 430.0)
    assert asked == (3, 430 - 3 * 40, pytest.approx(START), pytest.approx(EACH))
    expected = pace([PART], done=[10] * 3, budget=310, start_seconds=START, round_seconds=EACH)
    assert expected is not None
    assert expected.rounds not in (0, 10)
    assert ran == [10, 10, 10, *[expected.rounds] * expected.groups]
    assert clock.now <= 430


def test_a_group_that_would_overrun_the_budget_has_fewer_rounds_or_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ran = Clock(monkeypatch), list[int]()
    run(study(tmp_path, clock, ran, slow=1.05), 430.0)
    *earlier, last = ran[3:]
    assert earlier
    assert set(earlier) != {last}
    assert LEAST_ROUNDS <= last < earlier[0]
    assert clock.now <= 430
    clock, ran = Clock(monkeypatch), list[int]()
    run(study(tmp_path, clock, ran, slow=1.3), 430.0)
    assert len(set(ran[3:])) == 1  # what is left is too short for a group
    assert clock.now <= 430


def test_a_budget_that_ends_before_three_groups_divides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ran = Clock(monkeypatch), list[int]()
    assert run(study(tmp_path, clock, ran), 100.0) == []
    assert ran == [10, 10]


def test_a_resumed_study_keeps_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ran = Clock(monkeypatch), list[int]()
    made = pace([PART], done=[10], budget=310, start_seconds=START, round_seconds=EACH)
    assert made is not None
    record = StudyRecord.from_record(
        {
            "scaling": "strong",
            "sessions": [{"flags": [], "rounds": 1, "machine": MACHINE}],
            "pace": dataclasses.asdict(made),
        }
    )
    again = StudyRecord.from_record(record.to_record())
    assert again.pace == made
    assert run(study(tmp_path, clock, ran, pace=again.pace), 300.0) == []
    assert ran[0] == 10  # group 0 is one of the first
    assert ran[1] == made.rounds != 10


def test_times_of_several_settings_add_up() -> None:
    times = Times()
    times.add(0, seconds=30, ends=[11, 12, 13])
    assert times.of_groups([0, 1]) is None
    times.add(1, seconds=20, ends=[6, 8])
    assert times.of_groups([0, 1, 1]) == (27 + 16, 1 + 2)


def test_a_study_without_a_pair_divides_nothing() -> None:
    assert pace([], done=[10] * 3, budget=100, start_seconds=1, round_seconds=1) is None


def test_the_plan_says_both_kinds_of_noise() -> None:
    made = pace([PART], done=[10] * 3, budget=310, start_seconds=START, round_seconds=EACH)
    assert made is not None
    for said in (
        "after 3 groups of 10 rounds",
        "8.0 % from round to round",
        "1.0 % between groups",
    ):
        assert said in made.text
    none = pace([PART], done=[10] * 3, budget=1, start_seconds=START, round_seconds=EACH)
    assert none is not None
    assert none.text.endswith("no further group fits into the time budget")
