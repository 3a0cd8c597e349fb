"""The two pipes of a run that takes turns."""

import threading
from pathlib import Path

import pytest

from isoscale.common.processes import turns
from isoscale.common.processes.turns import RunEnd, StudyEnd


@pytest.fixture
def ends(tmp_path: Path):
    study = StudyEnd(tmp_path)
    run = RunEnd(tmp_path)
    yield study, run
    study.close()


def test_both_sides_hear_each_other_in_order(ends: tuple[StudyEnd, RunEnd]) -> None:
    study, run = ends
    study.ask(turns.WINDOW, round=0)
    study.ask(turns.WINDOW, round=1)
    assert [run.wait()["round"] for _ in range(2)] == [0, 1]
    run.say("window", seconds=0.5)
    run.say("ready")
    assert study.heard(seconds=1) == {"did": "window", "seconds": 0.5}
    assert study.heard(seconds=1) == {"did": "ready"}
    assert study.heard(seconds=0.01) is None


def test_a_run_blocks_until_it_is_asked(ends: tuple[StudyEnd, RunEnd]) -> None:
    study, run = ends
    heard: list[dict] = []
    waiting = threading.Thread(target=lambda: heard.append(run.wait()))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    study.ask(turns.END)
    waiting.join(10)
    assert heard == [{"do": "end"}]


def test_a_run_whose_study_has_gone_does_not_wait(tmp_path: Path) -> None:
    study = StudyEnd(tmp_path)
    run = RunEnd(tmp_path)
    study.close()
    with pytest.raises(EOFError, match="has gone"):
        run.wait()


def test_a_message_that_could_be_torn_is_refused(ends: tuple[StudyEnd, RunEnd]) -> None:
    """Only short messages are written in one piece."""
    with pytest.raises(ValueError, match="does not fit"):
        ends[0].ask(turns.END, shares=[0.123] * 1000)


def test_the_pipes_are_private_and_removed(tmp_path: Path) -> None:
    study = StudyEnd(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    study.close()
    assert not list(tmp_path.iterdir())
