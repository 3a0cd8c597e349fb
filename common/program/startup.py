"""Where the time goes from the start of a process until the model is built."""

import os
import time
from pathlib import Path

import psutil


def process_age() -> float:
    """Returns the seconds since this process started, by a clock that nobody sets."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        # Not Linux: psutil knows only the wall clock.
        return max(0.0, time.time() - psutil.Process().create_time())
    # The file counts ticks of 10 ms since boot; psutil would add a boot time in whole seconds.
    ticks = int(stat.read_text().rsplit(")", 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Startup:
    """Splits the time from the process's start until the model is built by cause, in seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic() - process_age()
        self.seconds: dict[str, float] = {}

    def mark(self, cause: str) -> None:
        """Ends the time of a cause; the next cause begins."""
        now = time.monotonic()
        self.seconds[f"{cause}_seconds"] = now - self._last
        self._last = now
