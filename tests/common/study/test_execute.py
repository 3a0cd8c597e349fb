"""Tests the runs of a study: an earlier result is used, or a fake program writes a new result."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.config.run_config import LARGEST_SEED
from isoscale.common.disk.json_files import write_json
from isoscale.common.measure.result import RESULT, Status, Summary
from isoscale.common.measure.training_result import TrainingResult
from isoscale.common.processes.limits import Limits
from isoscale.common.registry.interpreters import Program
from isoscale.common.study import plan
from isoscale.common.study.execute import Study, StudySession
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
        items_per_second=1.0,
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
        environment=lambda config: {},
    )
    run_dir = study._run_dir(0, 0)
    run_dir.mkdir(parents=True)
    write_json(run_dir / RESULT, result(status, 1.0))
    line = study.execute(0, 0)
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
        environment=lambda config: {},
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
    assert len(study.pending()) == 2, "a later session must repeat the failed runs"


def test_no_further_round_has_a_seed_that_is_too_large(tmp_path: Path, monkeypatch) -> None:
    study, store = study_by_time(tmp_path, monkeypatch, seed=LARGEST_SEED)
    study.run(budget_seconds=60, on_round=lambda rounds: pytest.fail(f"round {rounds} began"))
    assert {line.result.seed for line in store.lines()} == {LARGEST_SEED}
