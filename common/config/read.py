"""Reads files that somebody else may have written: regular files only, up to a size.

A file of a study can be damaged, or planted by another user of the machine: a pipe that never
ends, a device, a link in a circle, or a file that is larger than the memory.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isoscale.common.config.errors import FolderError

MEBIBYTE = 2**20


class MissingFileError(FolderError):
    """A file does not exist."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Opens a regular file; yields the file and its size in bytes.

    Raises:
      MissingFileError: the file does not exist.
      FolderError: ``path`` is not a regular file, or cannot be read.
    """
    try:
        # Non-blocking: opening a pipe would otherwise wait for a writer forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"cannot read {path}: {error.strerror}") from None
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FolderError(f"{path} is not a regular file")
    with open(descriptor, "rb") as file:
        yield file, status.st_size


def read_bytes(path: Path, *, most: int) -> bytes:
    """Returns the content of a regular file.

    Args:
      path: path of the file.
      most: largest allowed size in bytes.

    Raises:
      MissingFileError: the file does not exist.
      FolderError: the file is not regular, is too large, or cannot be read.
    """
    with opened(path) as (file, size):
        # A file can grow while it is read.
        try:
            content = file.read(most + 1) if size <= most else None
        except OSError as error:
            raise FolderError(f"cannot read {path}: {error.strerror}") from None
        if content is None or len(content) > most:
            raise FolderError(f"{path} is larger than {most / MEBIBYTE:g} MiB")
    return content


def read_text(path: Path, *, most: int) -> str:
    """Returns the text of a file as ``read_bytes`` does; the text must be UTF-8.

    Raises:
      MissingFileError, FolderError: as ``read_bytes``, or the file is not UTF-8.
    """
    try:
        return read_bytes(path, most=most).decode()
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} is not UTF-8 text (byte {error.start})") from None
