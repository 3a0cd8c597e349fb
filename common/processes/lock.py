"""A lock on a folder: one process writes to it at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoscale.common.config.errors import ConfigError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, *, called: str) -> Iterator[None]:
    """Locks a folder against other processes; the lock ends with the process.

    Args:
      folder: an existing folder.
      called: name of the folder in messages.

    Raises:
      ConfigError: another process holds the lock, or the folder cannot be written.
    """
    try:
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{called} is in use by another process") from None
        yield
