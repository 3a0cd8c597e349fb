"""Keeps two processes from writing to the same folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoscale.common.config.errors import ConfigError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, *, called: str) -> Iterator[None]:
    """Keeps other processes out of a folder; a process that dies lets go of it.

    Args:
      folder: exists.
      called: what users know it as.

    Raises:
      ConfigError: another process works in it, or it cannot be written.
    """
    try:
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{called} is in use by another process") from None
        yield
