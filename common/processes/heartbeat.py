"""A run's sign of life: a small file that the supervisor's watchdog looks at."""

import contextlib
import os
import time
from pathlib import Path

FILE_NAME = "heartbeat"


class Heartbeat:
    """Writes what a process is doing, between windows, never inside one."""

    def __init__(self, path: Path | None):
        self._path = path

    def beat(self, doing: str, *, expected_seconds: float = 0.0) -> None:
        """Says what is done now; silence is no cause for alarm while it is expected to last."""
        if self._path is not None:
            self._path.write_text(doing, encoding="utf-8")
            until = time.time() + expected_seconds
            os.utime(self._path, (until, until))


def path_for(run_dir: Path, rank: int) -> Path:
    return run_dir / f"{FILE_NAME}.{rank}"


def last_beat(run_dir: Path) -> tuple[float, str]:
    """Returns (time.time() of the latest sign of life of any rank, what it was doing).

    (0, "starting") while there is none.
    """
    newest, doing = 0.0, "starting"
    for path in run_dir.glob(f"{FILE_NAME}.*"):
        with contextlib.suppress(FileNotFoundError):
            modified, text = path.stat().st_mtime, path.read_text(encoding="utf-8")
            if modified > newest:
                newest, doing = modified, text
    return newest, doing


def remove(run_dir: Path, rank: int | None = None) -> None:
    """Removes the signs of a run that is over, or of one rank of it."""
    for path in run_dir.glob(f"{FILE_NAME}.{'*' if rank is None else rank}"):
        path.unlink(missing_ok=True)
