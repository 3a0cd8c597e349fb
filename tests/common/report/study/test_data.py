import json
from pathlib import Path

from isoscale.common.report.study.data import load_study
from tests.common.report.fake_study import grid_lines, read_line, write_study


def test_a_run_dir_outside_the_study_is_not_read(tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    store = write_study(tmp_path / "s", lines)
    secret = tmp_path / "steps.jsonl"
    secret.write_text(json.dumps({"step": 0, "loss": 1.0}) + "\n")
    found = load_study(store)
    for run_dir in ("..", str(tmp_path), "cells/../.."):
        assert found.steps(read_line({**lines[0], "run_dir": run_dir})) == []
    assert len(found.steps(found.lines[0])) == 20
