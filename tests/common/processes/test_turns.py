"""The two pipes of a run that takes turns."""

import os
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


def test_a_long_message_arrives_where_a_pipe_takes_512_bytes_at_once(
    ends: tuple[StudyEnd, RunEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS: the end of a group of 480 rounds."""
    monkeypatch.setattr(turns, "_PIECE", 512)
    written: list[int] = []
    write = os.write

    def note(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(turns.os, "write", note)
    study, run = ends
    shares = [0.123] * 480
    study.ask(turns.END, shares=shares)
    assert run.wait()["shares"] == shares
    assert len(written) > 1
    assert max(written) <= 512


def test_a_message_larger_than_the_pipe_arrives_while_the_run_reads(
    ends: tuple[StudyEnd, RunEnd],
) -> None:
    study, run = ends
    shares = [0.123] * 20000  # more than the 64 KiB of a pipe
    heard: list[dict] = []
    reading = threading.Thread(target=lambda: heard.append(run.wait()))
    reading.start()
    study.ask(turns.END, shares=shares)
    reading.join(10)
    assert heard[0]["shares"] == shares


def test_a_run_that_does_not_read_does_not_block_the_study(
    ends: tuple[StudyEnd, RunEnd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_FULL_SECONDS", 0.05)
    with pytest.raises(BlockingIOError):
        ends[0].ask(turns.END, shares=[0.123] * 20000)


def test_the_pipes_are_private_and_removed(tmp_path: Path) -> None:
    study = StudyEnd(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    study.close()
    assert not list(tmp_path.iterdir())
