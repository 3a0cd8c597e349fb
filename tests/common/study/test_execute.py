"""Runs of a study: adopted, or started by a program that stands for a framework's."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.disk.json_files import write_json
from isoscale.common.measure.result import RESULT
from isoscale.common.registry.interpreters import Program
from isoscale.common.study.execute import Session, Study
from isoscale.common.study.store import Store
from tests.common.checkpoint import small

PROGRAM = """
import json, pathlib, sys
(folder,) = (text.partition("=")[2] for text in sys.argv if text.startswith("--run_dir="))
result = {"status": "ok", "error": None, "loss_first": 2.0}
pathlib.Path(folder, "result.json").write_text(json.dumps(result))
"""


@pytest.mark.parametrize("status, loss", [("ok", 1.0), ("diverged", 2.0), ("failed", 2.0)])
def test_only_a_run_that_is_ok_is_adopted(status: str, loss: float, tmp_path: Path) -> None:
    cell = dataclasses.replace(small.config(), model="mlp_digits")
    study = Study(
        [Session(flags=[], cells=[cell], rounds=1)],
        Store(tmp_path),
        {"torch": Program(command=[sys.executable, "-c", PROGRAM], missing=None)},
        seed=0,
        watchdog_seconds=60,
        environment=lambda config: {},
    )
    run_dir = study._run_dir(0, 0)
    run_dir.mkdir(parents=True)
    before: dict[str, Any] = {"status": status, "error": None, "loss_first": 1.0}
    write_json(run_dir / RESULT, before)
    line = study.execute(0, 0)
    assert (line["status"], line["loss_first"]) == ("ok", loss)
    kept = {path.name for path in run_dir.parent.iterdir()}
    assert kept == {"run_0"} | (set() if status == "ok" else {"run_0.attempt_1"})
