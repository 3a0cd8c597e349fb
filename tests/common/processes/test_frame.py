"""Tests that errors and interrupts become exit codes and one line of text."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from isoscale.common.config.errors import ConfigError
from isoscale.common.processes.frame import exit_code_of, interrupt_on, signal_of_code


@pytest.fixture
def _restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def raises(error: BaseException) -> int:
    raise error


def hang_up() -> int:
    os.kill(os.getpid(), signal.SIGHUP)
    return 0


def test_a_programs_own_exit_code_is_kept(capsys) -> None:
    assert exit_code_of(lambda: 3) == 3
    assert capsys.readouterr() == ("", "")


def test_bad_input_prints_one_line_and_exits_with_2(capsys) -> None:
    assert exit_code_of(lambda: raises(ConfigError("--x=1 is\nwrong"))) == 2
    assert capsys.readouterr() == ("", "isoscale: --x=1 is wrong\n")


def test_ctrl_c_prints_one_line_and_exits_with_130(capsys) -> None:
    assert exit_code_of(lambda: raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "isoscale: interrupted by SIGINT\n")


def test_other_errors_are_raised_unchanged() -> None:
    with pytest.raises(ValueError, match="a bug"):
        exit_code_of(lambda: raises(ValueError("a bug")))


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_into_a_closed_pipe_prints_no_traceback(unbuffered: str) -> None:
    code = (
        "import sys; from isoscale.common.processes.frame import exit_code_of; "
        "sys.stdin.readline(); sys.exit(exit_code_of(lambda: print('text') or 0))"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as program:
        assert program.stdin
        assert program.stdout
        assert program.stderr
        program.stdout.close()
        program.stdin.close()
        assert program.stderr.read() == b""
    assert program.returncode == 141


def test_a_broken_pipe_other_than_standard_output_is_an_error() -> None:
    with pytest.raises(BrokenPipeError):
        exit_code_of(lambda: raises(BrokenPipeError()))


@pytest.mark.usefixtures("_restored")
def test_a_handled_signal_exits_with_128_and_its_number(capsys) -> None:
    interrupt_on(signal.SIGHUP)
    assert exit_code_of(hang_up) == 129
    assert capsys.readouterr().err == "isoscale: interrupted by SIGHUP\n"


@pytest.mark.parametrize(
    "code, number", [(130, 2), (143, 15), (-15, 15), (129, 1), (1, 0), (137, 0), (-9, 0), (0, 0)]
)
def test_an_exit_code_tells_which_signal_interrupted_a_program(code: int, number: int) -> None:
    assert (signal_of_code(code) or 0) == number


@pytest.mark.usefixtures("_restored")
def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt_on(signal.SIGHUP)
    assert exit_code_of(hang_up) == 0
