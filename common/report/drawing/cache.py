"""Keeps the cache of matplotlib out of the user's home."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from isoscale.common.disk.writing import WRITING, temporary_folder, writing

_VARIABLE = "MPLCONFIGDIR"


@contextlib.contextmanager
def cache_inside(folder: Path) -> Iterator[None]:
    """Lets matplotlib write its list of fonts into a folder, if it is imported in the context.

    This also holds for the processes that are started in the context: Keras imports matplotlib.

    By default it writes into the home, which may be read-only or missing, then into ``/tmp``, and
    fails without both. The list names files of this machine, so it is removed at the end. A list
    that the user's home has is copied: reading thousands of fonts takes seconds.

    Args:
      folder: folder of the study, into which the report goes, too.

    Raises:
      FolderError: the folder cannot be written.
    """
    with writing(folder):
        held, cache = temporary_folder(folder, prefix=WRITING)
    before = os.environ.get(_VARIABLE)
    try:
        _copy_list(cache)
        os.environ[_VARIABLE] = str(cache.absolute())
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
        shutil.rmtree(cache, ignore_errors=True)
        os.close(held)


def _copy_list(cache: Path) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: this user has no home
        given = os.environ.get(_VARIABLE)
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        for path in Path(given or Path(base, "matplotlib")).glob("fontlist-*.json"):
            shutil.copyfile(path, cache / path.name)
