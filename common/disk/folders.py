"""Checks folders from the command line before isoscale writes into them."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.disk.writing import is_of_the_disk, reason


def check_folder(text: str, *, flag: str) -> Path:
    """Returns the path of a writable folder that exists or can be created. Writes nothing.

    Args:
      text: the path.
      flag: name of the flag, for the error message.

    Raises:
      ConfigError: the path is not a folder, or isoscale may not write there.
    """
    path = Path(text)
    try:
        place = next(p for p in (path, *path.absolute().parents) if p.exists())
        usable = text and place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigError(f"{flag}={text[:80]!r} cannot be used: {error.strerror}") from None
    if not usable:
        raise ConfigError(f"{flag}={text!r} must be a writable folder")
    return path


def make_folder(path: Path, *, flag: str, new: bool = False) -> None:
    """Creates a folder and its parents.

    Args:
      path: the folder.
      flag: name of the flag, for the error message.
      new: the folder must not exist.

    Raises:
      FileExistsError: the folder exists, but must be new.
      ConfigError: no folder can have this path, or this user may not create it.
      FolderError: the disk is full, read-only or damaged.
    """
    try:
        path.mkdir(parents=True, exist_ok=not new)
    except OSError as error:
        if new and isinstance(error, FileExistsError):
            raise
        kind = FolderError if is_of_the_disk(error) else ConfigError
        raise kind(f"{flag}: {path} cannot be created: {reason(error)}") from None


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Makes a folder for temporary files, in ``TMPDIR``, ``/tmp``, ...; removes it at the end.

    Raises:
      FolderError: none of these folders can be written.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise FolderError(
            f"no folder for temporary files can be written ({reason(error)}): set TMPDIR to a "
            "folder that can"
        ) from None
    with made as name:
        yield Path(name)


def leads_outside(root: Path, path: Path) -> bool:
    """Returns whether ``path``, below ``root`` by its name, leads out of ``root`` by a link."""
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return True


def check_inside(folder: Path, name: str, *, flag: str) -> Path:
    """Returns ``folder / name`` if ``name`` is a plain file name.

    Raises:
      ConfigError: ``name`` is empty, too long, or contains other characters than a plain name.
      FolderError: a link of this name leads out of ``folder``.
    """
    allowed = name and name[0].isalnum() and all(c.isalnum() or c in "._-" for c in name)
    if not allowed or not name.isascii() or len(name) > 100:
        raise ConfigError(
            f"{flag}={name!r} must be a plain name inside {folder}: at most 100 letters, digits, "
            "'.', '_' and '-'; the first is a letter or digit"
        )
    path = folder / name
    if leads_outside(folder, path):
        raise FolderError(f"{flag}={name}: {path} is a link that leads out of {folder}")
    return path
