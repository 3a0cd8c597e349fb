"""The studies of a folder: the name of a new one, and the newest one."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.study import find
from isoscale.common.study.find import find_study, new_study
from tests.common.report.fake_study import grid_lines, write_study


class Clock(datetime):
    """A wall clock that shows what a test sets."""

    shown = datetime(2026, 3, 1, 12, tzinfo=UTC)

    @classmethod
    def now(cls, tz=None) -> datetime:
        return cls.shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(find, "datetime", Clock)
    return Clock


def test_two_studies_that_start_in_the_same_second_have_two_names(
    clock: type[Clock], tmp_path: Path
) -> None:
    names = [new_study(tmp_path / "out", create=True).folder.name for _ in range(3)]
    stem = "compare-20260301-120000"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
    assert new_study(tmp_path / "out").folder.name == f"{stem}-4"
    assert len(list((tmp_path / "out").iterdir())) == 3, "a plan created a folder"


def test_a_name_that_another_process_takes_at_the_same_moment_is_not_used(
    clock: type[Clock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_study(tmp_path, create=True)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # looked before the other's mkdir
    assert new_study(tmp_path, create=True).folder.name == "compare-20260301-120000-2"


def test_the_newest_study_is_the_one_that_changed_last(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old")):
        write_study(tmp_path / name, grid_lines(devices=(1,)), steps=0)
        moment = (datetime(2026, 3, 1, tzinfo=UTC) - timedelta(hours=age)).timestamp()
        for path in (tmp_path / name).iterdir():
            os.utime(path, (moment, moment))
    assert find_study(None, str(tmp_path)).folder.name == "new"


def test_a_study_is_found_by_a_file_in_it_and_from_inside(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "out" / "s"
    write_study(folder, grid_lines(runs=1, devices=(1,)), steps=0)
    assert find_study(str(folder / "results.jsonl"), "nowhere").folder == folder
    monkeypatch.chdir(folder)
    assert find_study(".", "nowhere").folder == folder
    assert find_study("results.jsonl", "nowhere").folder == folder
    (folder / "cells").mkdir(exist_ok=True)
    monkeypatch.chdir(folder / "cells")
    assert find_study("..", "nowhere").folder == folder
    with pytest.raises(ConfigError, match=r"unknown study 'nothing\.html'"):
        find_study("nothing.html", "nowhere")
