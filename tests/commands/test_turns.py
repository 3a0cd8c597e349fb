"""``isoscale compare`` with real runs that take turns."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.machine.cores import available_cores
from isoscale.common.measure.turns import NEAR_ZERO
from tests.commands.test_compare import MAIN
from tests.conftest import ROOT, environment_of

pytestmark = pytest.mark.slow

FLAGS = (
    "--models=mlp_digits",
    "--strategies=bare,ddp",
    "--frameworks=torch,jax",
    "--devices=1",
    "--interleave=windows",
    "--min_seconds=0.05",
    "--rounds=4",
    "--study=s",
    "--noreport",
)


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Returns a function that starts ``isoscale ARGUMENTS``; kills the program at the end."""
    started: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-P", "-m", MAIN, *arguments]
        with (tmp_path / "output").open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment_of(ROOT),
                stdout=output,
                stderr=output,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "runs/out/s/results.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_runs_take_turns_and_their_ratio_is_that_of_rounds(run_program, tmp_path: Path) -> None:
    answer = run_program(MAIN, "compare", *FLAGS, "--runs=3")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = lines(tmp_path)
    assert len(found) == 3 * 3
    for line in found:
        turns = line["turns"]
        assert turns["members"] == 3
        assert [entry["round"] for entry in turns["rounds"]] == list(range(len(turns["rounds"])))
        assert 4 <= len(turns["rounds"]) <= 5  # a fifth more, if rounds were disturbed
        assert turns["waiting_cpu_share"] < NEAR_ZERO
        assert turns["losses"]["1"] > 0
        run_dir = tmp_path / "runs/out/s" / line["run_dir"]
        windows = [json.loads(x) for x in (run_dir / "windows.jsonl").read_text().splitlines()]
        phases = [window["phase"] for window in windows]
        assert phases[0] == "compile"
        assert phases.count("throughput") == phases.count("refill") == len(turns["rounds"])
        assert not list(run_dir.glob("turns.*"))
        command = (run_dir / "log.txt").read_text().splitlines()[0]
        assert "--turns" not in command  # by hand, the command runs alone
    for run in range(3):
        group = [line["turns"] for line in found if line["run"] == run]
        assert sorted(turns["place"] for turns in group) == [0, 1, 2]
    assert "n = 3 groups" in " ".join(answer.stdout.split())
    record = json.loads((tmp_path / "runs/out/s/study.json").read_text())
    assert record["interleave"] == "windows"


def wait_for(condition, *, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def members(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs/out/s/cells").glob("*/run_*/turns.ask"))


def pid_of(run_dir: Path) -> int:
    return json.loads((run_dir / "heartbeat.0").read_text().strip())["pid"]


def in_its_turn(run_dir: Path) -> bool:
    try:
        return "throughput" in (run_dir / "heartbeat.0").read_text()
    except FileNotFoundError:
        return False


def test_a_killed_member_costs_its_own_run_and_resume_repeats_the_group(
    start_program, run_program, tmp_path: Path
) -> None:
    process = start_program("compare", *FLAGS, "--runs=1", "--rounds=12", "--min_seconds=0.3")
    wait_for(lambda: any(in_its_turn(path.parent) for path in members(tmp_path)))
    (victim,) = [path.parent for path in members(tmp_path) if "-jax-" in str(path)]
    os.kill(pid_of(victim), signal.SIGKILL)
    assert process.wait(180) == 1
    statuses = {line["cell"]["framework"]: [] for line in lines(tmp_path)}
    for line in lines(tmp_path):
        statuses[line["cell"]["framework"]].append(line["status"])
    assert statuses == {"jax": ["failed"], "torch": ["ok", "ok"]}
    assert all(
        len(line["turns"]["rounds"]) >= 12 for line in lines(tmp_path) if line["status"] == "ok"
    )
    again = run_program(MAIN, "compare", "--study=s", "--resume")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [line["status"] for line in lines(tmp_path)] == ["ok"] * 3
    kept = sorted(path.name for path in (tmp_path / "runs/out/s/cells").glob("*/run_*"))
    assert kept == ["run_0"] * 3 + ["run_0.attempt_1"] * 3  # the whole group; nothing is lost


def test_ctrl_c_stops_all_members(start_program, tmp_path: Path) -> None:
    process: subprocess.Popen = start_program("compare", *FLAGS, "--runs=1", "--rounds=200")
    wait_for(lambda: any(in_its_turn(path.parent) for path in members(tmp_path)))
    pids = [pid_of(path.parent) for path in members(tmp_path)]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not members(tmp_path)


@pytest.mark.two_cores
@pytest.mark.skipif(len(available_cores()) < 2, reason="needs two cores")
def test_strategies_on_two_devices_take_turns(run_program, tmp_path: Path) -> None:
    flags = [flag for flag in FLAGS if not flag.startswith(("--strategies", "--frameworks"))]
    answer = run_program(
        MAIN,
        "compare",
        *flags,
        "--strategies=pjit,mirrored,ddp",
        "--devices=2",
        "--runs=1",
        "--nobase_cases",
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert {line["turns"]["members"] for line in lines(tmp_path)} == {3}


@pytest.mark.two_cores
@pytest.mark.skipif(len(available_cores()) < 2, reason="needs two cores")
def test_independent_devices_take_turns_with_the_cell_that_needs_them(
    run_program, tmp_path: Path
) -> None:
    flags = [flag for flag in FLAGS if not flag.startswith(("--strategies", "--frameworks"))]
    answer = run_program(MAIN, "compare", *flags, "--strategies=ddp", "--devices=2", "--runs=1")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = {(c["strategy"], c["devices"], c.get("independent", 0)): line
             for line in lines(tmp_path) for c in [line["cell"]]}  # fmt: skip
    assert set(found) == {
        ("bare", 1, 0), ("ddp", 1, 0), ("ddp", 2, 0), ("ddp", 2, 1), ("ddp", 2, 2),
    }  # fmt: skip
    assert len({line["turns"]["group"] for line in found.values()}) == 1
    both = found["ddp", 2, 2]
    assert both["rank_combination"].startswith("harmonic mean")
    machine = json.loads((tmp_path / "runs/out/s" / both["run_dir"] / "machine.json").read_text())
    cores = [rank["pinned_cores"] for rank in machine["ranks"]]
    assert len(cores) == 2
    assert not set(cores[0]) & set(cores[1])  # each copy has cores of its own
    windows = (tmp_path / "runs/out/s" / both["run_dir"] / "windows.jsonl").read_text()
    for window in map(json.loads, windows.splitlines()):
        assert min(window["rank_seconds"]) <= window["seconds"] <= max(window["rank_seconds"])
