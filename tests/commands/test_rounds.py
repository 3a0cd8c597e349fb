"""The rounds of a study that goes on: those with which it began."""

import json
from pathlib import Path

import pytest

from isoscale.common.commands import compare
from isoscale.common.config.errors import ConfigError
from tests.common.report.fake_study import make_cell, turns_lines, write_study

BEGUN = ["--models=mlp_medium", "--frameworks=torch", "--strategies=bare", "--devices=1"]


def begun(folder: Path, *flags: str) -> None:
    """Writes a study that was begun with some flags."""
    write_study(folder / "s", turns_lines([(make_cell("torch", "bare", 1), 0.01)]), steps=0)
    path = folder / "s/study.json"
    record = json.loads(path.read_text())
    record["sessions"][0]["flags"] = [*BEGUN, *flags]
    path.write_text(json.dumps({**record, "interleave": "windows"}))


def resume(folder: Path, *flags: str) -> compare.CompareRequest:
    request = compare.read_request(["--study=s", "--resume", f"--out_dir={folder}", *flags])
    assert request is not None
    return request


def test_a_resumed_study_refuses_other_rounds(tmp_path: Path) -> None:
    begun(tmp_path, "--runs=4", "--rounds=7")
    assert resume(tmp_path, "--runs=6").flags.rounds == 7
    assert resume(tmp_path, "--rounds=7").flags.rounds == 7
    with pytest.raises(ConfigError, match="--rounds=8: study 's' was started with 7; a study"):
        resume(tmp_path, "--rounds=8")
    with pytest.raises(ConfigError, match="--rounds=8: "):
        resume(tmp_path, "--runs=6", "--rounds=8")
