"""A wall clock that is set while programs run: -1 h, +1 day and back, several times."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("clock.c")
_DAY, _HOUR = 24 * 3600, 3600


class WallClock:
    """Sets the wall clock of programs that start with the variables of one of its methods."""

    def __init__(self, library: Path):
        self._library = library

    def steps(self, *, milliseconds: int = 300) -> dict[str, str]:
        """Returns variables: the clock is right, an hour slow, a day fast, right, ... in turn."""
        return self._variables(f"0 {-_HOUR} {_DAY}", milliseconds)

    def off_by(self, seconds: int) -> dict[str, str]:
        """Returns variables: the clock is wrong by some seconds from the start of a program."""
        return self._variables(str(seconds), 0)

    def _variables(self, shifts: str, period: int) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "CLOCK_SHIFTS": shifts,
            "CLOCK_PERIOD": str(period),
        }


@pytest.fixture(scope="session")
def wall_clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    """Returns the clock; skips without a C compiler, or outside Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler (cc or gcc) and Linux")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, _SOURCE]
    subprocess.run([*command, "-ldl"], check=True)
    return WallClock(library)
