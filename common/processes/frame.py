"""The outer frame of every program: turns errors and interrupts into exit codes."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.flags import fail
from isoscale.common.disk.writing import about_disk
from isoscale.common.processes.streams import code_after_output, protect_streams

_BY_SIGNAL = 128
"""Exit codes after a signal, as in shells: 128 + number (Ctrl-C 130, SIGTERM 143, SIGHUP 129)."""
INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program in order."""


class Interrupted(KeyboardInterrupt):
    """A signal interrupted the program; a KeyboardInterrupt of another class is Ctrl-C.

    Attributes:
      number: the signal.
      latest: the latest one of this program; None without one.
    """

    latest: "Interrupted | None" = None

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number
        Interrupted.latest = self


def interrupted_by(error: KeyboardInterrupt) -> signal.Signals:
    """Returns the signal that interrupted the program."""
    return signal.Signals(error.number if isinstance(error, Interrupted) else signal.SIGINT)


def interrupted_line(error: KeyboardInterrupt) -> str:
    """Returns what a program says about its interruption: the signal, and the error's notes.

    A note says what is kept and how to go on.
    """
    notes = getattr(error, "__notes__", [])
    return "; ".join([f"interrupted by {interrupted_by(error).name}", *notes])


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
        interruption becomes one line and exit code 130, 143 or 129. Output that cannot be written
        stops nothing; the exit code is then 141 (the reader of standard output has gone) or 3.
    """
    protect_streams()
    _Frame.left, Interrupted.latest = False, None
    try:
        code = _guarded(run)
        _Frame.left = True
        return code
    except KeyboardInterrupt as error:  # a further signal during the message about the first one
        _Frame.left = True
        return interrupted_code(error)


class _Frame:
    """The state of the program.

    Attributes:
      left: whether the program has its exit code: nothing catches an Interrupted any more.
      dropped: what reports the exceptions that Python drops.
    """

    left = False
    dropped: Callable[[Any], Any] = sys.unraisablehook


def _guarded(run: Callable[[], int]) -> int:
    try:
        return code_after_output(run())
    except KeyboardInterrupt as error:
        return _say_interrupted(error)
    except Exception as error:
        if Interrupted.latest:  # a library that was interrupted may raise another error
            return _say_interrupted(Interrupted.latest)
        if isinstance(error, ConfigError):
            return fail(error)
        said = about_disk(error)
        if said is None:
            raise
        return fail(FolderError(said))


def _say_interrupted(error: KeyboardInterrupt) -> int:
    print(f"isoscale: {interrupted_line(error)}", file=sys.stderr)
    return interrupted_code(error)


def leave_at_once(code: int) -> NoReturn:
    """Exits the process without shutting down the interpreter.

    Call it when all results are on disk, and the ranks no longer communicate. Native threads of a
    framework may still hold Python objects. During a shutdown, gloo then aborts in about one of ten
    exits, and the other ranks can hang after one rank has failed.
    """
    try:
        code = code_after_output(code)
    except FolderError as error:
        code = fail(error)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def interrupt_on(*numbers: signal.Signals) -> None:
    """Makes signals raise Interrupted; call it in the function that ``exit_code_of`` runs.

    A signal that this process already ignores (after nohup, for example) stays ignored. After
    ``exit_code_of``, while the interpreter shuts down, a signal ends the process without a word.
    """

    def interrupt(number: int, frame: object) -> None:
        if _Frame.left:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise Interrupted(number)

    handle(numbers, interrupt)
    if sys.unraisablehook is not _send_again:
        _Frame.dropped, sys.unraisablehook = sys.unraisablehook, _send_again


_AGAIN_SECONDS = 0.01


def _send_again(dropped: Any) -> None:
    """Sends a signal again that came inside a callback: Python drops the exceptions of those.

    Such callbacks run when an object is deleted, for example in every import.
    """
    if not isinstance(dropped.exc_value, Interrupted):
        _Frame.dropped(dropped)
        return
    number = dropped.exc_value.number

    def send() -> None:
        time.sleep(_AGAIN_SECONDS)  # the callback has then returned
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def handle(numbers: Iterable[signal.Signals], handler: Callable[[int, object], None]) -> None:
    """Calls ``handler(number, frame)`` on signals, except those that this process ignores."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def program_as_typed() -> str:
    """Returns isoscale's program as the user typed it: a printed command can then be copied."""
    return sys.argv[0] if Path(sys.argv[0]).name == "isoscale" else "isoscale"
