"""Finds the studies that a user names: names inside ``--out_dir``, or folders."""

import itertools
import os
from datetime import UTC, datetime
from pathlib import Path

from isoscale.common.config.errors import ConfigError, FolderError, unknown
from isoscale.common.disk.folders import check_inside, make_folder
from isoscale.common.study.store import RESULTS, STUDY, Store


def _holds_study(folder: Path) -> bool:
    try:
        return (folder / STUDY).is_file()
    except OSError:  # for example a name that is too long
        return False


def studies(out_dir: Path) -> list[Path]:
    """Returns the folders of all studies inside ``out_dir``."""
    try:
        return [path for path in out_dir.glob("*") if _holds_study(path)]
    except OSError:  # an unreadable folder, or a name that is too long
        return []


def find_study(text: str | None, out_dir: str) -> Store:
    """Returns the study that a user names.

    Args:
      text: name inside ``out_dir``, or path of the study's folder; None: the newest study.
      out_dir: folder that holds the studies.

    Raises:
      ConfigError: the study does not exist, or isoscale did not write its ``study.json``.
    """
    place = Path(out_dir)
    folder = _newest(place) if text is None else _named(text, place)
    store = Store(folder)
    store.record()
    return store


def study_folder(text: str, out_dir: Path) -> Path | None:
    """Returns the folder of a study; None if the study does not exist.

    Args:
      text: the study's name, the path of its folder, or of a file in it (its report, for example).
      out_dir: folder that holds the studies.
    """
    candidates = [Path(text)] if text else []
    if os.path.isfile(text):
        candidates.append(Path(text).parent)
    try:
        candidates.insert(0, check_inside(out_dir, text, flag="STUDY"))
    except FolderError:
        raise
    except ConfigError:
        pass  # not a plain name: only a path is possible
    found = next((folder for folder in candidates if _holds_study(folder)), None)
    # ``.`` and ``..`` are no names of a study.
    return found.resolve() if found and found.name in ("", "..") else found


def _named(text: str, out_dir: Path) -> Path:
    folder = study_folder(text, out_dir)
    if folder is None:
        raise unknown("study", text[:80], [path.name for path in studies(out_dir)])
    return folder


def new_study(out_dir: Path, *, create: bool = False) -> Store:
    """Returns a study that does not exist yet, named by the time.

    Two studies may start in the same second; after the clock was set back, the same second even
    comes twice. Then the name gets a number.

    Args:
      out_dir: folder that holds the studies.
      create: creates the study's folder; no other process then gets this name. False: writes
        nothing.

    Raises:
      ConfigError, FolderError: the folder cannot be created.
    """
    stem = datetime.now(UTC).strftime("compare-%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = out_dir / (stem if number == 1 else f"{stem}-{number}")
        if os.path.lexists(folder):
            continue
        try:
            if create:
                make_folder(folder, flag="--out_dir", new=True)
        except FileExistsError:  # another process was faster
            continue
        return Store(folder)
    raise AssertionError


def _newest(out_dir: Path) -> Path:
    """Returns the study whose results changed last.

    Only time stamps can tell; after the clock was set back, another study may look newer.
    """

    def changed(folder: Path) -> float:
        results = folder / RESULTS
        return (results if results.exists() else folder / STUDY).stat().st_mtime

    found = studies(out_dir)
    if not found:
        raise ConfigError(f"no study in {out_dir}; create one with 'isoscale compare'")
    return max(found, key=changed)
