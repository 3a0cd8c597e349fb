"""Groups of living runs, with small programs in place of runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isoscale.common.machine.cores import available_cores
from isoscale.common.measure.conditions import DISTURBED_SHARE
from isoscale.common.processes import launch
from isoscale.common.processes.limits import Limits
from isoscale.common.study import group
from isoscale.common.study.group import Load, Member, take_turns

# Notes its windows in a file that all members share, and burns processor time if it is told to.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from isoscale.common.processes.heartbeat import Heartbeat, path_for
from isoscale.common.processes.turns import RunEnd
name, folder, wrong = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
run_dir = folder / name
beat = Heartbeat(path_for(run_dir, 0))
turns = RunEnd(run_dir)

def note(what):
    with (folder / "notes").open("a") as file:
        file.write(f"{name} {what}\\n")

def wait(what):
    beat.beat(f"waiting for {what}", expected_seconds=1e9)
    return turns.wait()

turns.say("ready")
note(f"place {wait('its turn to compile')['place']}")
time.sleep(0.05)
note("warm")
turns.say("warm")
while (turn := wait("its turn"))["do"] == "window":
    beat.beat("window")
    note(turn["round"])
    if wrong == "fails" and turn["round"] == 1:
        raise SystemExit(3)
    if wrong == "hangs" and turn["round"] == 1:
        time.sleep(1000)
    turns.say("window", cpu_seconds=0.0)
note("end " + json.dumps(turn["outside_load_shares"]))
"""
LIMITS = Limits(watchdog_seconds=1.0, compile_seconds=60)


def members(folder: Path, **wrong: str) -> dict[str, Member]:
    """Starts one member for each name; the value says what goes wrong in it."""
    found = {}
    for name, what in wrong.items():
        run_dir = folder / name
        run_dir.mkdir()
        command = [sys.executable, "-c", PROGRAM, name, str(folder), what]

        def start(command: list[str] = command) -> subprocess.Popen:
            return launch.start(command, environment=dict(os.environ))

        found[name] = Member(start, run_dir=run_dir, limits=LIMITS, result=None)
    return found


def notes(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "notes").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines]  # type: ignore[misc]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The load of the machine must not decide how many rounds a test has."""
    monkeypatch.setattr(Load, "share", lambda self, *, cpu_seconds: 0.0)


def run(folder: Path, found: dict[str, Member], *, rounds: int = 4, seed: int = 0) -> None:
    try:
        take_turns(
            list(found.values()), name="0", rounds=rounds, random=np.random.default_rng(seed)
        )
    finally:
        for member in found.values():
            member.end()


def rounds_of(said: list[tuple[str, str]], number: int) -> list[str]:
    return [name for name, what in said if what == str(number)]


def test_members_compile_one_after_the_other_and_then_take_turns(tmp_path: Path) -> None:
    found = members(tmp_path, a="", b="", c="")
    run(tmp_path, found)
    said = notes(tmp_path)
    first = [("a", "place 0"), ("a", "warm"), ("b", "place 1"), ("b", "warm")]
    assert said[:6] == [*first, ("c", "place 2"), ("c", "warm")]
    windows = said[6:-3]
    assert [what for _, what in windows] == [str(r) for r in range(4) for _ in range(3)]
    for number in range(4):
        assert sorted(rounds_of(said, number)) == ["a", "b", "c"]
    assert len({tuple(rounds_of(said, number)) for number in range(4)}) > 1  # drawn anew
    assert all(member.outcome and member.outcome.ok for member in found.values())
    assert not list(tmp_path.rglob("turns.*"))


@pytest.mark.parametrize("wrong, error", [("fails", "exited with code 3"), ("hangs", "watchdog")])
def test_a_member_that_fails_leaves_the_rounds_of_the_others(
    tmp_path: Path, wrong: str, error: str
) -> None:
    found = members(tmp_path, a="", b=wrong, c="")
    run(tmp_path, found)
    assert [name for name, _ in notes(tmp_path)].count("b") < 6
    for number in range(4):
        assert {"a", "c"} <= set(rounds_of(notes(tmp_path), number))
    outcomes = {name: member.outcome for name, member in found.items()}
    assert outcomes["a"] is not None
    assert outcomes["a"].ok
    assert outcomes["c"] is not None
    assert outcomes["c"].ok
    assert outcomes["b"] is not None
    assert error in str(outcomes["b"].error)


def test_waiting_is_not_hanging_but_not_waking_up_is(tmp_path: Path) -> None:
    """Members wait longer than the watchdog's second; one is stopped by a signal and killed."""
    found = members(tmp_path, a="", b="")

    def stop(done: int, planned: int) -> None:
        if done == 1:
            time.sleep(2 * LIMITS.watchdog_seconds)
            found["b"]._process.send_signal(signal.SIGSTOP)

    random = np.random.default_rng(0)
    try:
        take_turns(list(found.values()), name="0", rounds=3, random=random, on_round=stop)
    finally:
        for member in found.values():
            member.end()
    assert found["a"].outcome is not None
    assert found["a"].outcome.ok
    assert found["b"].outcome is not None
    assert "did not take its turn" in str(found["b"].outcome.error)


@pytest.mark.parametrize("disturbed, expected", [({0}, 11), ({0, 3, 4, 7, 9}, 12), (set(), 10)])
def test_disturbed_rounds_are_repeated_up_to_a_fifth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disturbed: set[int], expected: int
) -> None:
    asked: list[int] = []

    def share(self: Load, *, cpu_seconds: float) -> float:
        asked.append(0)
        return 0.5 if len(asked) - 1 in disturbed else 0.0

    monkeypatch.setattr(Load, "share", share)
    found = members(tmp_path, a="")
    run(tmp_path, found, rounds=10)
    said = notes(tmp_path)
    assert [what for _, what in said[2:-1]] == [str(number) for number in range(expected)]
    assert said[-1][1].count("0.5") == len(disturbed)


def test_the_load_of_others_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    burn = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        load = Load(available_cores())
        time.sleep(0.5)
        share = load.share(cpu_seconds=0.0)
        mine = Load(available_cores())
        time.sleep(0.5)
        as_member = mine.share(cpu_seconds=0.5)
    finally:
        burn.kill()
        burn.wait()
    assert share is not None
    assert share > DISTURBED_SHARE
    assert as_member is not None
    assert as_member < share
    assert (
        Load(available_cores()).share(cpu_seconds=0.0) is None
    )  # too short for the system's ticks


def test_rounds_with_a_throttled_core_are_repeated_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run hears what the system said about its cores; nothing about its time decides."""
    counts = iter([0, 0, 0, 1, *[1] * 100])  # before and after each window
    monkeypatch.setattr(group, "throttle_count", lambda cores: next(counts))
    said: list[dict] = []
    ask = Member.ask

    def listen(self: Member, what: str, **facts: object) -> None:
        said.append({"do": what, **facts})
        ask(self, what, **facts)

    monkeypatch.setattr(Member, "ask", listen)
    run(tmp_path, members(tmp_path, a=""), rounds=5)
    assert said[-1]["throttles"] == [0, 1, 0, 0, 0, 0]
    assert said[-1]["slowed"] == [False, True, False, False, False, False]
    assert said[-1]["frequency_ratios"] == [None] * 6
