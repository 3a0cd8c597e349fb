"""Steps of the wall clock by -1 h and +1 day change no duration, no decision and no order."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment_of
from tests.faults.clocks import DAY, HOUR, WallClock, wall_clock
from tests.faults.disks import handed, start
from tests.faults.oracle import check_no_process
from tests.faults.quick_program import interpreter

__all__ = ["wall_clock"]  # a fixture
pytestmark = pytest.mark.slow

MAIN = "isoscale.common.commands.main"
GRID = ("--models=mlp_digits", "--steps=20", "--study=s", "--watchdog_seconds=20")
TORCH = ("--frameworks=torch", "--strategies=bare", "--devices=1", "--noreport")
BUDGET = 3
"""Time budget of a study, in seconds."""
UNLIKE = 20
"""A duration may differ from that of the control by this factor: another program may use the cores.
A step of the clock by an hour makes it a thousand times as long."""


def isoscale(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, float]:
    """Runs a command; returns its exit code, what it said, and its seconds by this test's clock."""
    began = time.monotonic()
    with start(folder, MAIN, *arguments, **variables) as program:
        try:
            out, err = program.communicate(timeout=120)
        finally:
            program.kill()  # a watchdog that follows the clock may never end
    check_no_process(folder)
    return program.returncode, out + err, time.monotonic() - began


def lines_of(study: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (study / "results.jsonl").read_text().splitlines()]


def durations(record: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yields (name, value) of all durations in a record."""
    if isinstance(record, dict):
        for key, value in record.items():
            yield from durations(value, f"{name}.{key}")
    elif isinstance(record, list):
        for value in record:
            yield from durations(value, name)
    elif "seconds" in name and isinstance(record, int | float) and not name.endswith(".n"):
        yield name, record


def check_durations(study: Path, *, elapsed: float) -> None:
    """Checks that no duration in a study is negative, or longer than the study."""
    for line in lines_of(study):
        run_dir = study / line["run_dir"]
        windows = (run_dir / "windows.jsonl").read_text().splitlines()
        result = json.loads((run_dir / "result.json").read_text())
        for record in (line, result, *map(json.loads, windows)):
            for name, seconds in durations(record):
                assert 0 <= seconds <= elapsed, (name, seconds)
        inside = sum(json.loads(text)["seconds"] for text in windows)
        assert inside <= sum(line["startup_seconds"].values()) + inside <= line["wall_seconds"]
        share = line["outside_load_share"]
        assert share is None or 0 <= share <= line["cell"]["devices"]


def check_order(study: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Checks the order of runs and sessions, and that the file has the order of the runs."""
    assert [line["sequence"] for line in lines] == list(range(len(lines)))
    assert [line["run"] for line in lines] == sorted(line["run"] for line in lines)
    first = json.loads((study / "study.json").read_text())["sessions"][0]
    ids = [Path(line["run_dir"]).parts[1] for line in lines if line["run"] == 0]
    assert ids == first["order_of_first_round"]


def check_said(said: str, *, runs: int, elapsed: float) -> None:
    """Checks the last line of the progress: runs, and their minutes."""
    (minutes, seconds), *more = re.findall(rf"^{runs} runs in (\d+):(\d\d), 0 not ok$", said, re.M)
    assert not more
    assert 60 * int(minutes) + int(seconds) <= elapsed + 1
    assert "Traceback" not in said


@pytest.mark.parametrize("clock", ["time.time()", "datetime.datetime.now().timestamp()"])
def test_the_shim_sets_the_wall_clock_and_no_other(clock: str, wall_clock: WallClock) -> None:
    code = f"import time, datetime; print({clock}, time.monotonic(), time.perf_counter())"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment_of(**wall_clock.off_by(-HOUR)),
        capture_output=True,
        text=True,
        check=True,
    )
    shown, *others = map(float, answer.stdout.split())
    assert abs(shown + HOUR - time.time()) < 10
    assert all(abs(other - time.monotonic()) < 10 for other in others)


@pytest.mark.parametrize(
    "frameworks, strategies, more",
    [
        ("torch", "bare,ddp", ("--noreport",)),
        # Each with its report, and compared with a study under a clock that nobody sets.
        pytest.param("torch", "bare,ddp", (), marks=pytest.mark.long),
        pytest.param("jax", "bare,pmap", (), marks=pytest.mark.long),
        pytest.param("tensorflow", "bare,mirrored", (), marks=pytest.mark.long),
        pytest.param("torch,jax", "bare,ddp,pjit", (), marks=pytest.mark.long),
    ],
)
def test_steps_of_the_wall_clock_change_no_duration_and_no_order(
    frameworks: str,
    strategies: str,
    more: tuple[str, ...],
    wall_clock: WallClock,
    tmp_path: Path,
) -> None:
    words = ("compare", *GRID, f"--frameworks={frameworks}", f"--strategies={strategies}", *more)
    words += ("--devices=2", "--runs=1", "--allow_oversubscription", "--nobase_cases")
    steps = wall_clock.steps()

    def lines(name: str, **variables: str) -> list[dict[str, Any]]:
        (tmp_path / name).mkdir()
        code, said, elapsed = isoscale(tmp_path / name, *words, handed(steps), **variables)
        assert code == 0, said
        study = tmp_path / name / "runs/out/s"
        found = lines_of(study)
        assert {line["status"] for line in found} == {"ok"}
        check_durations(study, elapsed=elapsed)
        check_order(study, found)
        check_said(said, runs=len(found), elapsed=elapsed)
        return found

    stepped = lines("stepped", **steps)
    for before, after in zip([] if more else lines("control"), stepped, strict=not more):
        assert before["cell"] == after["cell"]
        for key in ("wall_seconds", "first_step_seconds", "measured_seconds"):
            assert before[key] / UNLIKE < after[key] < before[key] * UNLIKE, key
        for cause, seconds in before["startup_seconds"].items():
            if seconds > 0.05:
                assert seconds / UNLIKE < after["startup_seconds"][cause] < seconds * UNLIKE


def test_a_time_budget_and_sessions_do_not_follow_the_wall_clock(
    wall_clock: WallClock, tmp_path: Path
) -> None:
    quick = interpreter(tmp_path)
    words = ("compare", *GRID, *TORCH, quick)
    code, said, elapsed = isoscale(
        tmp_path, *words, f"--time_budget={BUDGET}s", **wall_clock.steps()
    )
    assert code == 0, said
    study = tmp_path / "runs/out/s"
    lines = lines_of(study)
    check_durations(study, elapsed=elapsed)
    check_order(study, lines)
    check_said(said, runs=len(lines), elapsed=elapsed)
    *seconds, last = (line["wall_seconds"] for line in lines)
    used, mean = sum(seconds) + last, (sum(seconds) + last) / len(lines)
    # A step forward must not end the budget; the study itself needs less than a second.
    assert used + mean + 1 > BUDGET
    # A step back must not prolong the budget: the last round was expected to fit.
    assert not seconds or sum(seconds) + sum(seconds) / len(seconds) <= BUDGET

    # Another session, before the first one by the wall clock.
    more = ("--resume", f"--runs={len(lines) + 1}")
    code, said, _ = isoscale(tmp_path, *words, *more, **wall_clock.off_by(-2 * HOUR))
    assert code == 0, said
    assert lines_of(study)[:-1] == lines
    check_order(study, lines_of(study))
    sessions = json.loads((study / "study.json").read_text())["sessions"]
    assert [session["rounds"] for session in sessions] == [len(lines), len(lines) + 1]
    assert sessions[1]["started"] < sessions[0]["started"]


@pytest.mark.parametrize(
    "steps", [(-HOUR,), pytest.param((DAY, -HOUR), marks=pytest.mark.long)], ids=["back", "ahead"]
)
def test_a_run_that_hangs_is_killed_in_time_while_the_wall_clock_steps(
    steps: tuple[int, ...], wall_clock: WallClock, tmp_path: Path
) -> None:
    code, said, elapsed = isoscale(
        tmp_path, "compare", *GRID, *TORCH, "--runs=1", interpreter(tmp_path),
        "--compile_timeout=3s", "--watchdog_seconds=3", QUICK_STEP_SECONDS="600",
        **wall_clock.steps(*steps),
    )  # fmt: skip
    assert code == 1, said
    (line,) = lines_of(tmp_path / "runs/out/s")
    assert line["error"].startswith("killed by the watchdog: no progress for 3 s in 'compile, step")
    assert 3 <= line["wall_seconds"] <= elapsed
    assert elapsed < 60


@pytest.mark.long
def test_parity_and_relay_do_not_follow_the_wall_clock(
    wall_clock: WallClock, tmp_path: Path
) -> None:
    parity = ("parity", "--models=mlp_digits", "--frameworks=torch", "--devices=2", "--steps=2")
    steps = wall_clock.steps()
    code, said, elapsed = isoscale(tmp_path, *parity, handed(steps), "--out_dir=p", **steps)
    assert code == 0, said
    document = json.loads((tmp_path / "p/parity.json").read_text())
    assert all(0 <= seconds <= elapsed for _, seconds in durations(document))
    relay = (
        "relay",
        "--model=mlp_plain",
        "--legs=torch:ddp:2,jax:pjit:2",
        "--steps=12",
        "--out_dir=r",
    )
    steps = wall_clock.steps()
    code, said, elapsed = isoscale(tmp_path, *relay, handed(steps), **steps)
    assert code == 0, said
    document = json.loads((tmp_path / "r/relay.json").read_text())
    assert all(0 <= seconds <= elapsed for _, seconds in durations(document))
