"""A run's sign of life: a small file that the supervisor's watchdog looks at."""

import os
import time
from pathlib import Path

FILE_NAME = "heartbeat"


class Heartbeat:
    """Writes what a process is doing, between windows, never inside one."""

    def __init__(self, path: Path | None):
        self._path = path

    def beat(self, doing: str) -> None:
        if self._path is not None:
            self._path.write_text(doing, encoding="utf-8")


def path_for(run_dir: Path, rank: int) -> Path:
    return run_dir / f"{FILE_NAME}.{rank}"


def last_beat(run_dir: Path, *, default: float) -> tuple[float, str]:
    """Returns (seconds since the latest sign of life of any rank, what it was doing).

    Args:
      run_dir: of the run.
      default: time.time() to count from while there is no sign yet.
    """
    newest, doing = default, "starting"
    for path in run_dir.glob(f"{FILE_NAME}.*"):
        try:
            modified, text = path.stat().st_mtime, path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        if modified > newest:
            newest, doing = modified, text
    return time.time() - newest, doing


def remove(run_dir: Path) -> None:
    """Removes the signs of a run that is over."""
    for path in run_dir.glob(f"{FILE_NAME}.*"):
        os.unlink(path)
