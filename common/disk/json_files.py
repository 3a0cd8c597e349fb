"""Reads and writes strict JSON; writes files atomically."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from isoscale.common.config.errors import FolderError
from isoscale.common.config.read import read_text
from isoscale.common.disk.writing import sync, temporary_file, writing


def _plain(value: Any) -> Any:
    """Returns a NumPy scalar or a path as a JSON value.

    Raises:
      TypeError: ``value`` has another type.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written to a record: {value!r}")


def to_json(record: Any, *, indent: int | None = None) -> str:
    """Returns strict JSON, which any program can parse: NaN and infinities become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        if isinstance(value, float | np.floating):
            return float(value) if np.isfinite(value) else None
        return value

    return json.dumps(finite(record), indent=indent, default=_plain, allow_nan=False)


_UNUSUAL = re.compile(r"\d{30}|[eE]\+?\d{3}|\\u[dD]")
"""Text that may hold a number beyond float64, or half of a surrogate pair."""
_MOST_DIGITS = 30


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not strict JSON")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits; at most {_MOST_DIGITS} are allowed")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def from_json(text: str | bytes) -> Any:
    """Returns the value of strict JSON text, as ``to_json`` writes it.

    Raises:
      ValueError: ``text`` is not UTF-8 or JSON, is nested too deeply, or contains NaN, a number
        beyond float64, an integer of more than 30 digits, or text that has no UTF-8 form.
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        if not _UNUSUAL.search(text):
            return json.loads(text, parse_constant=_no_constant)
        value = json.loads(
            text, parse_constant=_no_constant, parse_int=_integer, parse_float=_float
        )
        json.dumps(value, ensure_ascii=False).encode()  # fails for half of a surrogate pair
    except RecursionError:
        raise ValueError("the text is nested too deeply") from None
    return value


def read_json(path: Path, *, most: int) -> Any:
    """Returns the value of a JSON file, as ``from_json`` does.

    Raises:
      MissingFileError, FolderError: as ``read_text``, or the text is not strict JSON.
    """
    text = read_text(path, most=most)
    try:
        return from_json(text)
    except ValueError as error:
        raise FolderError(f"{path} is not valid JSON: {str(error)[:100]}") from None


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Writes a file atomically: readers see the complete old or the complete new content.

    This also holds after a crash. The mode of the file follows the umask.

    Args:
      path: path of the file.
      content: text (written as UTF-8) or bytes.
      durable: wait until the content and its name are on disk; False suffices for files that
        isoscale can recreate from other files.

    Raises:
      FolderError: the disk is full, the folder has vanished, ...; the old content stays.
    """
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        held, temporary = temporary_file(path)
        try:
            with os.fdopen(os.dup(held), "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(held)
        if durable:
            sync(path.parent)


def write_json(path: Path, record: Any) -> None:
    """Writes a record as strict JSON, as ``write_atomically`` does."""
    write_atomically(path, to_json(record, indent=2) + "\n")
