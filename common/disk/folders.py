"""Folders that users name: checked before anything is written."""

import os
from pathlib import Path

from isoscale.common.config.errors import ConfigError


def check_folder(text: str, *, flag: str) -> Path:
    """Returns the path of a folder that is there or can be made; nothing is written.

    Raises:
      ConfigError: it is something else, or its place cannot be written to.
    """
    path = Path(text)
    try:
        place = next(p for p in (path, *path.absolute().parents) if p.exists())
        usable = text and place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigError(f"{flag}={text[:80]!r} cannot be used: {error.strerror}") from None
    if not usable:
        raise ConfigError(f"{flag}={text!r} must be a folder that can be written to")
    return path


def make_folder(path: Path, *, flag: str) -> None:
    """Makes a folder and its parents.

    Raises:
      ConfigError: the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{flag}: {path} cannot be made: {error.strerror}") from None


def check_inside(folder: Path, name: str, *, flag: str) -> Path:
    """Returns ``folder / name`` if ``name`` is a plain file name.

    Raises:
      ConfigError: it is empty, too long, or would leave ``folder``.
    """
    allowed = name and name[0].isalnum() and all(c.isalnum() or c in "._-" for c in name)
    if not allowed or not name.isascii() or len(name) > 100:
        raise ConfigError(
            f"{flag}={name!r} must be a plain name inside {folder}: letters, digits, '.', '_' "
            "and '-', starting with a letter or digit, 100 at most"
        )
    return folder / name
