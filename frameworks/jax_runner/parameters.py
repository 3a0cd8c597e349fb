"""Flax paths -> canonical names. Canonical layouts are Flax's own: nothing is transposed."""

from collections.abc import Iterable
from typing import Any


def canonical_name(path: Iterable[Any]) -> str:
    """``("block", 0, "attention", "query", "kernel")`` -> ``block_0/attention/query/kernel``."""
    parts: list[str] = []
    for key in path:
        if isinstance(key, int):
            parts[-1] = f"{parts[-1]}_{key}"
        else:
            parts.append(key)
    return "/".join(parts)
