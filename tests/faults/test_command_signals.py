"""Commands under SIGTERM and SIGHUP: the signal's exit code, one line that says how to go on."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.common.processes.workers import wait_until
from tests.faults import oracle
from tests.faults.disks import start
from tests.faults.kills import MAIN, processes_in
from tests.faults.oracle import Ended
from tests.faults.quick_program import interpreter

pytestmark = pytest.mark.slow

GRID = ("--models=mlp_digits", "--frameworks=torch", "--runs=2", "--steps=20", "--noreport")
JOBS = ("--dtype=float64", "--steps=4")
COMMANDS = {
    # Command -> its arguments, a file of a running job, and how to go on.
    "compare": (
        ("compare", *GRID, "--strategies=bare", "--devices=1", "--study=s"),
        "runs/out/s/cells/*/*/heartbeat.0",
        "finished runs are kept; continue with: isoscale compare --study=s --resume",
    ),
    "explain": (
        ("explain", "s", *GRID),
        "runs/out/s/cells/*/*/heartbeat.0",
        "finished runs are kept; continue with: isoscale compare --study=s --resume",
    ),
    "parity": (
        ("parity", "--models=mlp_plain", "--frameworks=torch", "--devices=1", "--nopieces", *JOBS),
        "runs/out/parity/.work/*/heartbeat.0",
        "runs/out/parity/.work; repeat the command with --resume to continue",
    ),
    "relay": (
        ("relay", "--model=mlp_plain", "--legs=torch:bare:1,torch:ddp:1", *JOBS),
        "runs/out/relay/.work/*/heartbeat.0",
        "runs/out/relay/.work; repeat the command with --resume to continue",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_a_signal_ends_a_command_in_one_line_that_says_how_to_go_on(
    command: str, number: signal.Signals, tmp_path: Path
) -> None:
    arguments, running, go_on = COMMANDS[command]
    stub = (interpreter(tmp_path),) if command in ("compare", "explain") else ()
    with start(tmp_path, MAIN, *arguments, *stub, QUICK_STEP_SECONDS="0.05") as program:
        assert wait_until(lambda: list(tmp_path.glob(running)), 60), program.communicate()
        found = _signalled(program, number)
    check_interrupted(found, number, words=[go_on], folder=tmp_path)
    again = ("compare", "--study=s", "--noreport") if stub else arguments
    with start(tmp_path, MAIN, *again, *stub, "--resume") as program:
        out, err = program.communicate(timeout=240)
    assert program.returncode == 0, out + err


def test_a_signal_during_the_report_keeps_the_results(tmp_path: Path) -> None:
    """Of ``isoscale report``, and of the report at the end of ``compare``."""
    study = tmp_path / "runs/out/s"
    arguments, _, _ = COMMANDS["compare"]
    with start(tmp_path, MAIN, *arguments, interpreter(tmp_path)) as program:
        assert program.wait(60) == 0, program.communicate()
    kept, whole = oracle.results(study), oracle.whole_runs(study)
    for words, said in (
        (("report", "s"), []),
        (
            ("compare", "--study=s", "--resume", "--report", interpreter(tmp_path)),
            ["the report is missing"],
        ),
    ):
        with start(tmp_path, MAIN, *words) as program:
            assert wait_until(lambda: (study / "plots").exists(), 60), program.communicate()
            found = _signalled(program, signal.SIGTERM)
        check_interrupted(found, signal.SIGTERM, words=said, folder=tmp_path)
        oracle.check_kept(kept, study)
        oracle.check_not_repeated(whole)
        shutil.rmtree(study / "plots")
    with start(tmp_path, MAIN, "report", "s") as program:
        assert program.wait(60) == 0, program.communicate()
    oracle.check_no_leftovers(study)


def _signalled(program: subprocess.Popen, number: int) -> Ended:
    program.send_signal(number)
    out, err = program.communicate(timeout=30)
    return Ended(code=program.returncode, out=out, err=err)


def check_interrupted(
    found: Ended, number: signal.Signals, *, words: list[str], folder: Path
) -> None:
    line = f"interrupted by {number.name}"
    oracle.check_said(found, code=128 + number, words=[line, *words])
    assert wait_until(lambda: not processes_in(folder), 10)
    oracle.check_no_process(folder)
