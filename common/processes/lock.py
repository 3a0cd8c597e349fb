"""A lock on a folder: one process writes to it at a time."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.writing import reason

LOCK = ".lock"
_LENGTH = 80
"""Length in bytes of the line that names the holder: a new line covers the old one completely."""


class VanishedError(FolderError):
    """A folder was removed, renamed or replaced while a process used it."""


class Lock:
    """A lock that this process holds on a folder."""

    def __init__(self, path: Path, descriptor: int, *, called: str):
        """Args are the open lock file and the name of its folder in messages."""
        self._path, self._descriptor, self._called = path, descriptor, called

    def check(self) -> None:
        """Checks that the folder is still the one that was locked.

        Call it before creating folders in it: otherwise a removed folder would come back with a
        part of its files.

        Raises:
          VanishedError: the folder or its lock file was removed, renamed or replaced.
        """
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
                return
        what = self._path if self._path.parent.is_dir() else self._path.parent
        raise VanishedError(
            f"{self._called} has vanished: {what} was removed or replaced while isoscale used it"
        )


@contextmanager
def locked(folder: Path, *, called: str) -> Iterator[Lock]:
    """Locks a folder against other processes; the lock ends with the process.

    The lock file names its holder. It is never truncated and never followed: another user may have
    put a link to one of this user's files there.

    Args:
      folder: an existing folder.
      called: name of the folder in messages.

    Yields:
      The lock, which tells whether the folder still exists.

    Raises:
      FolderError: another process holds the lock, the lock is not a plain file, or the folder
        cannot be written.
    """
    path = folder / LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        lock = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise FolderError(f"{path} is a link; remove it") from None
        raise FolderError(f"cannot write to {folder}: {reason(error)}") from None
    with os.fdopen(lock, "r+b", buffering=0):
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise FolderError(f"{path} is not a plain file of its own; remove it")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(f"{called} is in use by {_holder(lock)}") from None
        except OSError as error:
            raise FolderError(f"cannot lock {path}: {reason(error)}") from None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # the disk is full: others learn no name, but wait
            os.pwrite(lock, f"process {os.getpid()} since {now}\n".ljust(_LENGTH).encode(), 0)
        yield Lock(path, lock, called=called)


@contextmanager
def locked_itself(folder: Path, *, called: str) -> Iterator[None]:
    """Locks a folder without a file in it; the lock ends with the process.

    Args:
      folder: an existing folder.
      called: name of the folder in messages.

    Raises:
      FolderError: another process holds the lock.
    """
    with contextlib.ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(f"{called} is in use by another process") from None
        except OSError:  # a file system without locks: nobody can hold one
            stack.close()
        yield


def _holder(lock: int) -> str:
    """Returns the words by which the holder named itself."""
    text = os.pread(lock, _LENGTH, 0).decode("ascii", errors="replace").strip()
    return text if text.startswith("process ") and text.isprintable() else "another process"
