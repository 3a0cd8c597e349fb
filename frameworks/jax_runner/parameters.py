"""Canonical names <-> Flax paths. Canonical layouts are Flax's own: nothing is transposed."""

import re


def canonical_name(path: tuple[str | int, ...]) -> str:
    """``("block", 0, "attention", "query", "kernel")`` -> ``block_0/attention/query/kernel``."""
    parts: list[str] = []
    for key in path:
        if isinstance(key, int):
            parts[-1] = f"{parts[-1]}_{key}"
        else:
            parts.append(key)
    return "/".join(parts)


def flax_path(name: str) -> tuple[str | int, ...]:
    """The inverse of ``canonical_name``."""
    path: list[str | int] = []
    for part in name.split("/"):
        match = re.fullmatch(r"(.+)_(\d+)", part)
        path += [match[1], int(match[2])] if match else [part]
    return tuple(path)
