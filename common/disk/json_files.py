"""Reads and writes strict JSON; writes files atomically."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


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


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not strict JSON")


def from_json(text: str | bytes) -> Any:
    """Returns the value of strict JSON text, as ``to_json`` writes it.

    Raises:
      ValueError: ``text`` is not JSON, or contains NaN or an infinity.
      RecursionError: ``text`` is nested too deeply.
    """
    return json.loads(text, parse_constant=_no_constant)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Writes a file atomically: readers see the complete old or the complete new content.

    This also holds after a crash.

    Args:
      path: path of the file.
      content: text (written as UTF-8) or bytes.
      durable: wait until the content is on disk; False suffices for files that isoscale can
        recreate from other files.
    """
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, record: Any) -> None:
    """Writes a record as strict JSON, atomically."""
    write_atomically(path, to_json(record, indent=2) + "\n")
