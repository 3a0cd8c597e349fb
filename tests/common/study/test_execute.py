"""Tests the runs of a study: an earlier result is used, or a fake program writes a new result."""

import dataclasses
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.records import to_record
from isoscale.common.config.run_config import LARGEST_SEED
from isoscale.common.disk.json_files import write_json
from isoscale.common.measure.result import RESULT, Status, Summary
from isoscale.common.measure.training_result import TrainingResult
from isoscale.common.measure.turns import TurnsFigures
from isoscale.common.processes.limits import Limits
from isoscale.common.registry import environments
from isoscale.common.registry.interpreters import Program
from isoscale.common.study import plan
from isoscale.common.study.execute import Study, StudySession
from isoscale.common.study.records import ResultLine
from isoscale.common.study.store import Store
from tests.common.checkpoint import small

CELL = dataclasses.replace(small.config(), model="mlp_digits")
PROGRAM = """
import json, pathlib, sys
(folder,) = (text.partition("=")[2] for text in sys.argv if text.startswith("--run_dir="))
pathlib.Path(folder, "result.json").write_text({!r})
"""


def result(status: Status, loss: float) -> dict[str, Any]:
    found = TrainingResult(
        cell=CELL.cell(),
        status=status,
        loss_first=loss,
        examples_per_second=1.0,
        step_seconds=Summary(median=1.0, n=1),
    )
    return found.to_record()


@pytest.mark.parametrize("status, loss", [("ok", 1.0), ("diverged", 2.0), ("failed", 2.0)])
def test_only_a_run_with_status_ok_is_adopted(status: Status, loss: float, tmp_path: Path) -> None:
    program = PROGRAM.format(json.dumps(result("ok", 2.0)))
    study = Study(
        [StudySession(flags=[], cells=[CELL], rounds=1)],
        Store(tmp_path),
        {"torch": Program(command=[sys.executable, "-c", program], missing=None)},
        seed=0,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
    )
    run_dir = study._execution.run_dir(0, 0)
    run_dir.mkdir(parents=True)
    write_json(run_dir / RESULT, result(status, 1.0))
    line = study._execution.execute(0, 0)
    assert (line.result.status, line.result.loss_first) == ("ok", loss)
    kept = {path.name for path in run_dir.parent.iterdir()}
    assert kept == {"run_0"} | (set() if status == "ok" else {"run_0.attempt_1"})


def study_by_time(folder: Path, monkeypatch, *, seed: int) -> tuple[Study, Store]:
    """Returns a study of a cell that succeeds and a cell that fails; two rounds fit the budget."""
    answers = itertools.chain([True], itertools.repeat(False))
    monkeypatch.setattr(plan, "another_round_fits", lambda **kwargs: next(answers))
    program = PROGRAM.format(json.dumps(result("ok", 1.0)))
    failing = dataclasses.replace(CELL, framework="jax")
    store = Store(folder)
    study = Study(
        [StudySession(flags=[], cells=[CELL, failing], rounds=1)],
        store,
        {
            "torch": Program(command=[sys.executable, "-c", program], missing=None),
            "jax": Program(command=[sys.executable, "-c", "raise SystemExit(1)"], missing=None),
        },
        seed=seed,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
    )
    return study, store


def test_a_further_round_does_not_repeat_failed_runs(tmp_path: Path, monkeypatch) -> None:
    study, store = study_by_time(tmp_path, monkeypatch, seed=0)
    rounds: list[int] = []
    study.run(budget_seconds=60, on_round=rounds.append)
    assert rounds == [2]
    assert sorted((line.cell.framework, line.run, line.ok) for line in store.lines()) == [
        ("jax", 0, False),
        ("jax", 1, False),
        ("torch", 0, True),
        ("torch", 1, True),
    ]
    assert store.next_sequence() == 4, "a run was executed twice"
    assert len(list(study.pending())) == 2, "a later session must repeat the failed runs"


def test_no_further_round_has_a_seed_that_is_too_large(tmp_path: Path, monkeypatch) -> None:
    study, store = study_by_time(tmp_path, monkeypatch, seed=LARGEST_SEED)
    study.run(budget_seconds=60, on_round=lambda rounds: pytest.fail(f"round {rounds} began"))
    assert {line.result.seed for line in store.lines()} == {LARGEST_SEED}


def test_a_plan_of_a_million_runs_per_cell_is_read_only_as_far_as_it_runs(tmp_path: Path) -> None:
    cells = [dataclasses.replace(CELL, global_batch_size=size) for size in range(1, 101)]
    study = Study(
        [StudySession(flags=[], cells=cells, rounds=1_000_000)],
        Store(tmp_path),
        {},
        seed=3,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
    )
    began = time.process_time()
    first = list(itertools.islice(study.pending(), 250))
    assert study.missing() == [1_000_000] * 100
    assert [runs for _, runs in study.cells()] == [1_000_000] * 100
    assert time.process_time() - began < 1.0
    rounds = [plan.round_order(100, seed=3, round_index=index) for index in range(3)]
    assert first == [(run, index) for run, order in enumerate(rounds) for index in order][:250]


def test_a_further_round_begins_after_the_runs_before_it(tmp_path: Path) -> None:
    cells = [CELL, dataclasses.replace(CELL, global_batch_size=16)]
    study = Study(
        [
            StudySession(flags=[], cells=cells, rounds=2),
            StudySession(flags=[], cells=cells[:1], rounds=3),
        ],
        Store(tmp_path),
        {},
        seed=0,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
    )
    assert sorted(study.pending()) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert study.missing() == [3, 2]
    assert sorted(study.pending(begun=[2, 1])) == [(1, 1), (2, 0)]
    assert study.missing(begun=[2, 1]) == [1, 1]


def test_a_grid_of_too_many_cells_is_refused_before_it_is_built() -> None:
    with pytest.raises(ConfigError, match="grid has 50000 cells or more; at most 5000 are allowed"):
        plan.expand(
            [("torch", "bare")],
            models=["mlp_digits"],
            devices=[1],
            batches=range(1, 501),
            dtypes=["float32"],
            sizes={"num_classes": range(10), "input_size": range(10)},
            scalings=["strong"],
            build=lambda **point: pytest.fail("a cell was built"),
            max_devices=lambda framework, strategy: None,
        )


def in_turns(folder: Path, *, members: int) -> tuple[Study, Store]:
    """Returns a study of two cells in turns: the first succeeded, the second is missing.

    The group of the first cell had ``members`` runs.
    """
    other = dataclasses.replace(CELL, framework="jax")
    figures = TurnsFigures(
        rounds=[], group="0 then", members=members, place=0, waiting_cpu_share=None,
        warmup_stable=True, losses={},
    )  # fmt: skip
    store = Store(folder)
    found = TrainingResult.from_record({**result("ok", 1.0), "turns": to_record(figures)})
    store.add(ResultLine(run=0, sequence=0, wall_seconds=60.0, result=found))
    program = Program(command=[sys.executable], missing=None)
    study = Study(
        [StudySession(flags=[], cells=[CELL, other], rounds=1)],
        store,
        {"torch": program, "jax": program},
        seed=0,
        limits=Limits(watchdog_seconds=60, compile_seconds=60),
        environment=environments.of_run,
        rounds=5,
    )
    return study, store


def test_a_group_that_is_not_complete_is_repeated_whole(tmp_path: Path) -> None:
    study, _ = in_turns(tmp_path, members=1)
    ((run, cells),) = study._pending_groups()
    assert (run, sorted(cells)) == (0, [0, 1])


def test_a_group_with_a_failed_member_is_repeated_whole(tmp_path: Path) -> None:
    study, store = in_turns(tmp_path, members=2)
    broken = TrainingResult.from_record(result("failed", 1.0))
    cell = dataclasses.replace(CELL, framework="jax").cell()
    store.add(ResultLine(run=0, sequence=1, result=dataclasses.replace(broken, cell=cell)))
    ((_, cells),) = study._pending_groups()
    assert sorted(cells) == [0, 1]


def test_a_run_in_turns_with_cells_outside_of_the_call_is_not_repeated(
    tmp_path: Path,
) -> None:
    """Its rounds belong to those of the other cells; alone, they would lose their pairs."""
    study, _ = in_turns(tmp_path, members=5)
    assert list(study._pending_groups()) == [(0, [1])]


def test_a_missing_framework_repeats_no_run(tmp_path: Path) -> None:
    study, _ = in_turns(tmp_path, members=1)
    study._execution._programs = {
        **study._execution._programs,
        "jax": Program(command=[sys.executable], missing="jax is not installed"),
    }
    assert list(study._pending_groups()) == [(0, [1])]


def test_a_run_in_turns_lasted_its_share_of_the_group(tmp_path: Path) -> None:
    _, store = in_turns(tmp_path, members=5)
    assert store.durations([CELL.cell()]) == [12.0]
