"""Writing to a disk: errors in one line, and temporary files that a later start removes.

A temporary file or folder is locked by the process that writes it. The kernel ends this lock with
the process. ``remove_leftovers`` removes only what nobody locks, so it may run at any time.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from isoscale.common.config.errors import FolderError

WRITING = ".writing."
"""The name of a file or folder that is being written begins like this."""
OLD = ".old."
"""The name of a checkpoint that is being removed begins like this."""
RANKS = ".ranks-"
"""The name of the folder of the ranks' meeting file begins like this."""

# The ends are those of ``_random_end`` and of ``old_name``, and those that ``tempfile`` gave in
# earlier versions: no other name is removed.
_OURS = re.compile(
    rf"({re.escape(WRITING)}(.+\.)?|{re.escape(RANKS)})[a-z0-9_]{{8}}"
    rf"|{re.escape(OLD)}step_\d+\.[0-9a-f]{{8}}"
)
_OF_THE_DISK = {errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE}
_OF_RIGHTS = {errno.EACCES, errno.EPERM}


def reason(error: OSError) -> str:
    """Returns the cause of an error in words: ``no space left on device``."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]


def is_of_the_disk(error: OSError) -> bool:
    """Returns whether the disk caused an error: it is full, read-only, damaged or gone."""
    return error.errno in _OF_THE_DISK


def about_disk(error: BaseException) -> str | None:
    """Returns one line for an error that says that a file cannot be read or written.

    Returns None for any other error: it may be a bug, and needs its traceback.
    """
    if isinstance(error, FolderError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK | _OF_RIGHTS:
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "output"
        return f"cannot write {place}: {reason(error)}"
    return None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns any OSError inside the context into one line about ``path``.

    Raises:
      FolderError: the operating system refused: the disk is full, a folder has vanished, ...
    """
    try:
        yield
    except OSError as error:
        raise FolderError(f"cannot write {path}: {reason(error)}") from None


def sync(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk.

    Raises:
      OSError: the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def temporary_file(path: Path) -> tuple[int, Path]:
    """Creates a locked file next to ``path``; it can replace ``path``.

    Its mode follows the umask of the process, as that of any new file: ``mkstemp`` would give 0600,
    and a group could not read a shared study.

    Returns:
      Its descriptor, which holds the lock until it is closed, and its path.

    Raises:
      OSError: the operating system refuses.
    """
    while True:
        name = path.parent / f"{WRITING}{path.name[:40]}.{_random_end()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(name, flags, 0o666)
            if _held(descriptor, name):
                return descriptor, name
            os.close(descriptor)


def temporary_folder(folder: Path, *, prefix: str) -> tuple[int, Path]:
    """Creates a locked folder; returns as ``temporary_file``.

    Args:
      folder: an existing folder.
      prefix: ``WRITING``, or ``RANKS``: then no other user may enter the folder (mode 0700).

    Raises:
      OSError: the operating system refuses.
    """
    while True:
        name = folder / f"{prefix}{_random_end()}"
        try:
            name.mkdir(0o700 if prefix == RANKS else 0o777)
        except FileExistsError:
            continue
        with contextlib.suppress(FileNotFoundError):  # remove_leftovers was faster
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if _held(descriptor, name):
                return descriptor, name
            os.close(descriptor)


def _random_end() -> str:
    return os.urandom(4).hex()


def _held(descriptor: int, path: Path) -> bool:
    """Locks a new file; returns False if ``remove_leftovers`` of another process was faster."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: remove_leftovers cannot lock the file either
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def old_name(path: Path) -> Path:
    """Returns the name for a checkpoint that is being removed."""
    return path.with_name(f"{OLD}{path.name}.{os.urandom(4).hex()}")


def is_leftover(name: str) -> bool:
    """Returns whether isoscale gives such a name to its temporary files and folders."""
    return _OURS.fullmatch(name) is not None


def remove_leftovers(folder: Path, *, deep: bool = False) -> None:
    """Removes the temporary files and folders of killed processes; follows no links.

    Keeps those of living processes, and those that cannot be removed.

    Args:
      folder: folder to look into.
      deep: also look into all folders below; only for folders that isoscale alone fills.
    """
    for place, folders, files in os.walk(folder):
        for name in filter(is_leftover, [*folders, *files]):
            _remove_unless_held(Path(place, name))
        folders[:] = [name for name in folders if not is_leftover(name)] if deep else []


def _remove_unless_held(path: Path) -> None:
    with contextlib.suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
