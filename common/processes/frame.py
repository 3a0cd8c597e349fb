"""The outer frame of every program: turns errors and interrupts into exit codes."""

import signal
import sys
from collections.abc import Callable

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import fail

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""


def exit_code_of(run: Callable[[], int]) -> int:
    """Runs a program; returns its exit code.

    Args:
      run: the program; returns its own exit code. A ConfigError becomes one line on standard error
        and exit code 2; a KeyboardInterrupt becomes one line and exit code 130.
    """
    try:
        return run()
    except ConfigError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("isoscale: interrupted", file=sys.stderr)
        return INTERRUPTED


def interrupt_on(*numbers: signal.Signals) -> None:
    """Makes signals raise KeyboardInterrupt, as Ctrl-C does.

    A signal that this process already ignores (after nohup, for example) stays ignored.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
