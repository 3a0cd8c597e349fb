"""A lock on a folder: one process writes to it at a time."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from isoscale.common.config.errors import FolderError

LOCK = ".lock"
_LENGTH = 80
"""Length in bytes of the line that names the holder: a new line covers the old one completely."""


@contextmanager
def locked(folder: Path, *, called: str) -> Iterator[None]:
    """Locks a folder against other processes; the lock ends with the process.

    The lock file names its holder. It is never truncated and never followed: another user may have
    put a link to one of this user's files there.

    Args:
      folder: an existing folder.
      called: name of the folder in messages.

    Raises:
      FolderError: another process holds the lock, the lock is not a plain file, or the folder
        cannot be written.
    """
    path = folder / LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(path, flags, 0o644)
    except OSError as error:
        if path.is_symlink():
            raise FolderError(f"{path} is a link; remove it") from None
        raise FolderError(f"cannot write to {folder}: {error.strerror}") from None
    with os.fdopen(lock, "r+b", buffering=0):
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise FolderError(f"{path} is not a plain file of its own; remove it")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(f"{called} is in use by {_holder(lock)}") from None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(lock, f"process {os.getpid()} since {now}\n".ljust(_LENGTH).encode(), 0)
        yield


def _holder(lock: int) -> str:
    """Returns the words by which the holder named itself."""
    text = os.pread(lock, _LENGTH, 0).decode("ascii", errors="replace").strip()
    return text if text.startswith("process ") and text.isprintable() else "another process"
