"""The outer frame of every program: turns errors and interrupts into exit codes."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable

from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.flags import fail
from isoscale.common.disk.writing import about_disk

_BY_SIGNAL = 128
"""Exit codes after a signal, as in shells: 128 + number (Ctrl-C 130, SIGTERM 143, SIGHUP 129)."""
INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program in order."""
_PIPE_CLOSED = 141
"""Exit code after the reader of standard output has gone (`isoscale ... | head`), as in shells."""


class Interrupted(KeyboardInterrupt):
    """A signal interrupted the program; a KeyboardInterrupt of another class is Ctrl-C.

    Attributes:
      number: the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def interrupted_by(error: KeyboardInterrupt) -> signal.Signals:
    """Returns the signal that interrupted the program."""
    return signal.Signals(error.number if isinstance(error, Interrupted) else signal.SIGINT)


def interrupted_code(error: KeyboardInterrupt) -> int:
    """Returns the exit code after an interruption: 130, 143 or 129."""
    return _BY_SIGNAL + interrupted_by(error)


def signal_of_code(code: int) -> signal.Signals | None:
    """Returns the signal that interrupted a program, by the program's exit code; None: none did."""
    found = [number for number in INTERRUPTING if code in (_BY_SIGNAL + number, -number)]
    return found[0] if found else None


def exit_code_of(run: Callable[[], int]) -> int:
    """Runs a program; returns its exit code.

    Args:
      run: the program; returns its own exit code. A ConfigError becomes one line on standard error
        and the error's exit code, and so does an OSError of a full or read-only disk; an
        interruption becomes one line and exit code 130, 143 or 129. If the reader of standard
        output has gone, the exit code is 141.
    """
    try:
        code = run()
        sys.stdout.flush()
        return code
    except ConfigError as error:
        return _fail(error)
    except BrokenPipeError:
        if not _reader_of_output_is_gone():
            raise
        return _PIPE_CLOSED
    except OSError as error:
        said = about_disk(error)
        if said is None:
            raise
        return _fail(FolderError(said))
    except KeyboardInterrupt as error:
        print(f"isoscale: interrupted by {interrupted_by(error).name}", file=sys.stderr)
        return interrupted_code(error)


def _fail(error: ConfigError) -> int:
    """Prints an error in one line; returns its exit code, also if no output can be written."""
    code = error.exit_code
    with contextlib.suppress(OSError):
        code = fail(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # otherwise the interpreter tries once more at its end, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _reader_of_output_is_gone() -> bool:
    """Returns whether nobody reads standard output any more; later output is then discarded."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not output.poll(0):  # POLLERR: the reader has closed the pipe
        return False
    # Otherwise the interpreter flushes once more at its end, and prints a traceback.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def interrupt_on(*numbers: signal.Signals) -> None:
    """Makes signals raise Interrupted.

    A signal that this process already ignores (after nohup, for example) stays ignored.
    """

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(number)

    handle(numbers, interrupt)


def handle(numbers: Iterable[signal.Signals], handler: Callable[[int, object], None]) -> None:
    """Calls ``handler(number, frame)`` on signals, except those that this process ignores."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
