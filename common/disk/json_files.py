"""Strict JSON, and files that are written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def _plain(value: Any) -> Any:
    """JSON for NumPy scalars and tuples; anything else is a mistake worth hearing about."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a record: {value!r}")


def to_json(record: Any, *, indent: int | None = None) -> str:
    """Returns strict JSON: NaN and infinities become null, so that any reader can parse it."""

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
    raise ValueError(f"{name} is no figure")


def from_json(text: str | bytes) -> Any:
    """Reads strict JSON, as ``to_json`` writes it.

    Raises:
      ValueError: it is something else; NaN and infinities have no place in JSON.
      RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=_no_constant)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Writes a file so that a reader, or a crash, meets the old content or the new, never a part.

    Args:
      path: of the file.
      content: text (as UTF-8) or bytes.
      durable: wait until the disk has it; views that can be made again need not.
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
    write_atomically(path, to_json(record, indent=2) + "\n")
