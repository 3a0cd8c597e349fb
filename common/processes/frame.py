"""The frame of every program: errors and interrupts become exit codes here, and nowhere else."""

import signal
import sys
from collections.abc import Callable

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import fail

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def exit_code_of(run: Callable[[], int]) -> int:
    """Runs a program; returns its exit code.

    Args:
      run: returns the exit code of its own. Its ConfigError becomes one line on standard error and
        exit code 2; its KeyboardInterrupt becomes one line and exit code 130.
    """
    try:
        return run()
    except ConfigError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("isoscale: interrupted", file=sys.stderr)
        return INTERRUPTED


def interrupt_on(*numbers: signal.Signals) -> None:
    """Makes signals do what Ctrl-C does.

    A signal that this process was told to ignore (by nohup, for example) stays ignored.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
