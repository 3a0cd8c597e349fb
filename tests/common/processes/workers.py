"""Small workers for the tests of processes, and what those tests ask about them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from isoscale.common.processes import launch
from isoscale.common.processes.limits import Limits

WORKER = "from isoscale.common.processes import launch; launch.die_with_launcher(); "


def start(code: str, log: Path | None = None) -> subprocess.Popen:
    """Starts a worker that runs some code."""
    return launch.start([sys.executable, "-c", WORKER + code], environment=os.environ, log=log)


def limits(watchdog_seconds: float, compile_seconds: float | None = None) -> Limits:
    """Returns limits; without ``compile_seconds``, compiling has the same limit."""
    return Limits(
        watchdog_seconds=watchdog_seconds, compile_seconds=compile_seconds or watchdog_seconds
    )


def gone(pid: int) -> bool:
    """Returns whether a process has ended."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def kill(*pids: int) -> None:
    """Kills processes that a failed test would leave behind."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Returns whether a condition came true within some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
