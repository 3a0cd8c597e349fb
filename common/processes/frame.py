"""The outer frame of every program: turns errors and interrupts into exit codes."""

import os
import select
import signal
import sys
from collections.abc import Callable

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import fail

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""
_PIPE_CLOSED = 141
"""Exit code after the reader of standard output has gone (`isoscale ... | head`), as in shells."""


def exit_code_of(run: Callable[[], int]) -> int:
    """Runs a program; returns its exit code.

    Args:
      run: the program; returns its own exit code. A ConfigError becomes one line on standard error
        and the error's exit code; a KeyboardInterrupt becomes one line and exit code 130. If the
        reader of standard output has gone, the exit code is 141.
    """
    try:
        code = run()
        sys.stdout.flush()
        return code
    except ConfigError as error:
        return fail(error)
    except BrokenPipeError:
        if not _reader_of_output_is_gone():
            raise
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        print("isoscale: interrupted", file=sys.stderr)
        return INTERRUPTED


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
    """Makes signals raise KeyboardInterrupt, as Ctrl-C does.

    A signal that this process already ignores (after nohup, for example) stays ignored.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
