"""How long a process may make no progress."""

import dataclasses
from typing import Self

from isoscale.common.config.flags import Flags
from isoscale.common.config.parsers import LONGEST_DURATION

_LATER_SECONDS = 30.0
FLAGS = ("watchdog_seconds", "compile_timeout")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Longest times without a heartbeat, in seconds; the watchdog then kills the process.

    Attributes:
      watchdog_seconds: while the process does anything but compile.
      compile_seconds: while the process compiles.
    """

    watchdog_seconds: float
    compile_seconds: float

    @classmethod
    def read(cls, fv: Flags) -> Self:
        """Returns the limits of the flags that ``define_limit_flags`` defined."""
        return cls(watchdog_seconds=fv.watchdog_seconds, compile_seconds=fv.compile_timeout)

    def later(self) -> Self:
        """Returns limits for the supervisor of a program that gives its ranks these limits."""
        return dataclasses.replace(
            self,
            watchdog_seconds=self.watchdog_seconds + _LATER_SECONDS,
            compile_seconds=self.compile_seconds + _LATER_SECONDS,
        )

    def to_flags(self) -> list[str]:
        """Returns the flags that give these limits to another program."""
        return [
            f"--watchdog_seconds={self.watchdog_seconds:.0f}",
            f"--compile_timeout={self.compile_seconds:.0f}s",
        ]


def define_limit_flags(fv: Flags) -> None:
    """Defines the flags ``FLAGS``; ``Limits.read`` reads them."""
    fv.integer(
        "watchdog_seconds",
        300,
        "kill a run that makes no progress for this many seconds",
        maximum=LONGEST_DURATION,
    )
    fv.duration(
        "compile_timeout", "30m", "instead, kill a run that compiles one function for this long"
    )
