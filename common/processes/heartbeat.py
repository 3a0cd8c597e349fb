"""Heartbeats: small files of a run that the supervisor's watchdog reads."""

import contextlib
import os
import time
from pathlib import Path

FILE_NAME = "heartbeat"


class Heartbeat:
    """Writes the current activity of a process; call it between windows, never inside one."""

    def __init__(self, path: Path | None):
        self._path = path

    def beat(self, doing: str, *, expected_seconds: float = 0.0) -> None:
        """Writes the activity that starts now; the watchdog waits until its expected end."""
        if self._path is not None:
            self._path.write_text(doing, encoding="utf-8")
            until = time.time() + expected_seconds
            os.utime(self._path, (until, until))


def path_for(run_dir: Path, rank: int) -> Path:
    """Returns the path of a rank's heartbeat."""
    return run_dir / f"{FILE_NAME}.{rank}"


def last_beat(run_dir: Path) -> tuple[float, str]:
    """Returns (time of the latest heartbeat of any rank, as of ``time.time()``; its activity).

    Returns (0, "starting") before the first heartbeat.
    """
    newest, doing = 0.0, "starting"
    for path in run_dir.glob(f"{FILE_NAME}.*"):
        with contextlib.suppress(FileNotFoundError):
            modified, text = path.stat().st_mtime, path.read_text(encoding="utf-8")
            if modified > newest:
                newest, doing = modified, text
    return newest, doing


def remove(run_dir: Path, rank: int | None = None) -> None:
    """Removes the heartbeats of a finished run, or of one of its ranks."""
    for path in run_dir.glob(f"{FILE_NAME}.{'*' if rank is None else rank}"):
        path.unlink(missing_ok=True)
