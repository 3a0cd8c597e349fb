"""The recipes that isoscale brings along: ``isoscale compare --recipe=NAME``."""

import json
import re
from pathlib import Path

import pytest

from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.commands import compare
from isoscale.common.config.errors import ConfigError
from isoscale.common.registry import lookup
from isoscale.common.study.store import STUDY
from tests.common.report.fake_study import grid_lines, write_study

NAMES = ("default", "digits", "quick", "readme", "scaling")


def planned(*argv: str, folder: Path) -> compare.CompareRequest:
    request = compare.read_request([*argv, f"--out_dir={folder}"])
    assert request is not None
    return request


def test_the_recipes_are_those_in_the_folder() -> None:
    assert tuple(lookup.recipes()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_plans_a_study_and_begins_with_its_command(name: str, tmp_path: Path) -> None:
    (session,) = planned(f"--recipe={name}", "--allow_oversubscription", folder=tmp_path).sessions
    assert len(session.cells) >= 6
    text = lookup.recipes()[name].read_text()
    assert f"\n#   isoscale compare --recipe={name}\n" in text
    (runs,) = re.findall(r"(\d+) runs", text)
    assert len(session.cells) * session.rounds == int(runs)
    if name != "digits":  # they end with verdicts
        assert session.rounds >= LEAST_RUNS


def test_later_flags_change_a_recipe_and_the_record_names_no_file(tmp_path: Path) -> None:
    request = planned("--recipe=quick", "--devices=1", "--runs=2", folder=tmp_path)
    (session,) = request.sessions
    assert {cell.devices for cell in session.cells} == {1}
    assert session.rounds == 2
    assert session.flags == [
        "--models=mlp_medium",
        "--strategies=bare,pjit,mirrored,ddp",
        "--devices=1",
        "--nobase_cases",
        "--runs=2",
        "--rounds=6",
    ]


def test_resume_takes_the_cells_of_a_recipe(tmp_path: Path) -> None:
    store = write_study(tmp_path / "mine", grid_lines(runs=1))
    record = json.loads((store.folder / STUDY).read_text())
    record["sessions"][0]["flags"] = ["--models=mlp_medium", "--devices=1"]
    (store.folder / STUDY).write_text(json.dumps(record))
    resume = ("--study=mine", "--resume", "--allow_oversubscription")
    (session,) = planned(*resume, "--recipe=quick", folder=tmp_path).sessions
    assert {cell.devices for cell in session.cells} == {1, 2}
    with pytest.raises(ConfigError, match="--dataset=digits: study 'mine' was started with"):
        planned(*resume, "--recipe=digits", folder=tmp_path)


@pytest.mark.parametrize("flag", ["--recipe=quick", "--flagfile=/etc/passwd"])
def test_a_study_cannot_name_a_file_to_read(flag: str, tmp_path: Path) -> None:
    """Somebody else may have written the study."""
    store = write_study(tmp_path / "mine", grid_lines(runs=1))
    record = json.loads((store.folder / STUDY).read_text())
    record["sessions"][0]["flags"] = [flag]
    (store.folder / STUDY).write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="does not read files that a study names"):
        planned("--study=mine", "--resume", folder=tmp_path)
