"""Flax paths -> canonical names. Layouts are equal: arrays are not transposed."""

from collections.abc import Iterable
from typing import Any


def canonical_name(path: Iterable[Any]) -> str:
    """Returns the canonical name of a Flax path.

    ``("block", 0, "attention", "query", "kernel")`` -> ``block_0/attention/query/kernel``.
    """
    parts: list[str] = []
    for key in path:
        if isinstance(key, int):
            parts[-1] = f"{parts[-1]}_{key}"
        else:
            parts.append(key)
    return "/".join(parts)
