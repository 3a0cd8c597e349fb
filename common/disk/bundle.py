"""Packs the text files of a folder into one archive that a user can send."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from isoscale.common.disk.writing import writing

_SUFFIXES = (".csv", ".json", ".jsonl", ".md", ".txt")
_LARGEST = 16 * 2**20
"""Bytes of a file; a larger one stays out."""


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        linked = any(place.is_symlink() for place in (path, *path.parents) if place != folder)
        if hidden or linked or path.suffix not in _SUFFIXES or not path.is_file():
            continue
        if path.stat().st_size <= _LARGEST:
            yield path


def write_bundle(target: Path, folder: Path, *, clean: Callable[[str], str]) -> list[str]:
    """Writes the text files of a folder to a .tar.gz file; returns their names in it.

    Names of users, and hidden and linked files, stay out.

    Args:
      target: the archive; replaced if it exists.
      folder: the folder.
      clean: returns a text without what is private.

    Raises:
      FolderError: the archive cannot be written.
    """
    names = []
    with writing(target.parent):
        part = target.with_name(f".{target.name}.part")
        with tarfile.open(part, "w:gz") as archive:
            for path in _files(folder):
                data = clean(path.read_text(encoding="utf-8", errors="replace")).encode()
                entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder)}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
                names.append(entry.name)
        os.replace(part, target)
    return names
