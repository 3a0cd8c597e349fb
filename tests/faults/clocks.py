"""A wall clock that is set while programs run: by -1 h, +1 day, -1 h, and so on."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.preload import build

_SOURCE = Path(__file__).with_name("clock.c")
HOUR, DAY = 3600, 24 * 3600
_PERIOD = 200
"""Milliseconds between two steps: several in the shortest run."""


class WallClock:
    """Sets the wall clock of programs that start with the variables of one of its methods."""

    def __init__(self, library: Path):
        self._library = library

    def steps(self, *seconds: int) -> dict[str, str]:
        """Returns variables: the clock steps by these seconds in turn, from now on, without end."""
        return self._variables(seconds or (-HOUR, DAY), _PERIOD)

    def off_by(self, seconds: int) -> dict[str, str]:
        """Returns variables: the clock is wrong by some seconds from the start of a program."""
        return self._variables((seconds,), 0)

    def _variables(self, steps: Sequence[int], period: int) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "CLOCK_STEPS": " ".join(map(str, steps)),
            "CLOCK_PERIOD": str(period),
            "CLOCK_START": str(int(1000 * time.monotonic())),
        }


@pytest.fixture(scope="session")
def wall_clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    """Returns the clock; skips without a C compiler, or outside Linux."""
    return WallClock(build(_SOURCE, tmp_path_factory.mktemp("clock")))
