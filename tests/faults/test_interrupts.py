"""Ctrl-C at any moment of a program, from its first line on: no traceback, and an end in order.

Python itself starts first: it then has a handler for Ctrl-C of its own, and prints a traceback that
no program can prevent. isoscale's first line replaces this handler 40 to 70 ms after the call
(measured on a busy machine). The tests read the state of the handlers at the moment of the signal;
before that line they only check that no slow import of isoscale came first.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment_of
from tests.faults.kills import begins, freeze, handles
from tests.faults.oracle import check_no_process

pytestmark = pytest.mark.slow

ISOSCALE = str(Path(sys.executable).with_name("isoscale"))
"""The console script, as a user starts it."""
RUN = ("--model=mlp_digits", "--steps=1000000", "--window_steps=1000", "--run_dir=r")
STUDY = ("compare", "--models=mlp_digits", "--devices=1", "--runs=1", "--study=s", "--dry_run")


def runner(framework: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"isoscale.frameworks.{framework}_runner", *RUN]


PROGRAMS = {
    "isoscale": [ISOSCALE],  # prints its help: short, so that many moments are those of its exit
    "tweaks": [ISOSCALE, "tweaks"],
    "compare": [ISOSCALE, *STUDY],
    "report": [ISOSCALE, "report", "nothing"],
    "jax": runner("jax"),
    "tensorflow": runner("tensorflow"),
    "torch": runner("torch"),
}


def start(command: list[str], folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment_of(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_our_code(program: subprocess.Popen) -> float:
    """Waits until isoscale's first line has run; returns the seconds since the call."""
    began = time.monotonic()
    seen = False
    while program.poll() is None and time.monotonic() - began < 10:
        now = handles(program.pid, signal.SIGINT)
        if seen and not now:
            break
        seen = seen or now
    return time.monotonic() - began


def check_interrupted(
    program: subprocess.Popen, number: int, *, seconds: float, folder: Path
) -> str | None:
    """Sends a signal to a living program and checks its end; returns what it was doing.

    Args:
      program: the program.
      number: the signal.
      seconds: how long it may take to end.
      folder: its working folder.
    """
    if not freeze(program.pid):
        program.communicate(timeout=10)
        return None
    early = begins(program.pid)
    ours = handles(program.pid, signal.SIGTERM)
    where = "python" if early else "ours" if ours else "bare"
    began = time.monotonic()
    os.kill(program.pid, number)
    os.kill(program.pid, signal.SIGCONT)
    out, err = program.communicate(timeout=30)
    taken = time.monotonic() - began
    said = f"{where}: code {program.returncode} after {taken:.2f} s\n{out}\n{err}"
    if early and number == signal.SIGINT:
        check_only_first_lines(err)
        return "python"
    assert taken < seconds, said
    assert "Traceback" not in err, said
    assert "Exception ignored" not in err, said
    if ours:
        # Once isoscale has its exit code, a signal ends it without a word.
        assert program.returncode in (128 + number, -number), said
        if program.returncode > 0:
            name = signal.Signals(number).name
            assert len([line for line in err.splitlines() if f"interrupted by {name}" in line]) == 1
    else:
        assert program.returncode == -number, said
    check_no_process(folder)
    return where


FIRST = ("frameworks/__init__.py", "common/commands/start.py", "common/processes/early.py")
"""Files that run before Ctrl-C is quiet; they import nothing else of isoscale."""


def check_only_first_lines(err: str) -> None:
    """Checks that a traceback shows Python's own start, and only the first lines of isoscale."""
    shown = [Path(name).resolve() for name in re.findall(r'File "(/[^"]+)"', err)]
    ours = {str(path.relative_to(ROOT)) for path in shown if path.is_relative_to(ROOT)}
    assert {path for path in ours if not path.startswith(".venv/")} <= set(FIRST), err


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_in_the_first_moments_prints_no_traceback(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    moments = [chance.uniform(0, 0.3) for _ in range(8)]
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        program = start(PROGRAMS[name], folder)
        time.sleep(moment)
        check_interrupted(program, signal.SIGINT, seconds=2, folder=folder)


@pytest.mark.parametrize("name", ["isoscale", "jax", "tensorflow", "torch"])
def test_ctrl_c_is_quiet_before_isoscale_imports_anything(name: str, tmp_path: Path) -> None:
    """Interrupts before the moment that ``until_our_code`` finds, and shortly after it."""
    for count in range(4):
        folder = tmp_path / str(count)
        folder.mkdir()
        program = start(PROGRAMS[name], folder)
        time.sleep(0.02 * count) if count < 3 else until_our_code(program)
        check_interrupted(program, signal.SIGINT, seconds=2, folder=folder)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.long
def test_a_signal_at_any_moment_prints_no_traceback(name: str, number: int, tmp_path: Path) -> None:
    """Also while a program imports its packages, and while it exits."""
    chance = random.Random(f"{name} {number}")
    longest = 4.0 if name in ("jax", "tensorflow", "torch") else 0.8
    for count in range(20):
        folder = tmp_path / str(count)
        folder.mkdir()
        program = start(PROGRAMS[name], folder)
        time.sleep(chance.uniform(0.02, longest))
        # A library that is being loaded answers a signal only when it is loaded.
        check_interrupted(program, number, seconds=5, folder=folder)


DELETED = """
import gc, os, signal, sys, time
from isoscale.common.processes.frame import exit_code_of, interrupt_on

class Object:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

def run():
    interrupt_on(signal.SIGTERM)
    Object()
    time.sleep(20)
    return 0

sys.exit(exit_code_of(run))
"""


def test_a_signal_inside_a_callback_is_not_lost(tmp_path: Path) -> None:
    """Python drops an exception that is raised while an object is deleted."""
    program = start([sys.executable, "-P", "-c", DELETED], tmp_path)
    _, err = program.communicate(timeout=10)
    assert (program.returncode, err) == (143, "isoscale: interrupted by SIGTERM\n")


LEAVING = """
import atexit, os, signal, sys
from isoscale.common.processes.frame import exit_code_of, interrupt_on

atexit.register(lambda: os.kill(os.getpid(), signal.{name}))

def run():
    interrupt_on(signal.{name})
    return 0

sys.exit(exit_code_of(run))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_python_exits_prints_nothing(name: str, tmp_path: Path) -> None:
    program = start([sys.executable, "-P", "-c", LEAVING.format(name=name)], tmp_path)
    out, err = program.communicate(timeout=10)
    assert (program.returncode, out, err) == (-getattr(signal, name), "", "")
