"""Finds runs that must not be pooled or compared: their conditions differ.

The conditions of a run are its machine, the versions of its packages, and the environment variables
that it got. A fact that a run did not record is unknown; it differs from nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoscale.common.measure.result import RunResult
from isoscale.common.registry.extra import SHARED_DIGESTS
from isoscale.common.study.records import ResultLine

_NOT_SET = "not set"
_OWN = "isoscale"
_SHARED = (_OWN, *SHARED_DIGESTS)
"""How the names of the versions begin that all frameworks of a comparison share."""


def _plain(name: str, value: Any) -> str:
    if name == "memory_bytes" and isinstance(value, int | float):
        return f"{value / 2**30:.1f} GiB"  # the kernel's share changes by some pages
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def plain_facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Returns fact -> value as text, of a machine."""
    return {name: _plain(name, value) for name, value in machine.items()}


def machine_facts(result: RunResult) -> dict[str, str]:
    """Returns fact -> value, of the machine of a run; {} if it was not recorded."""
    return plain_facts(result.machine or {})


def _versions(result: RunResult) -> dict[str, str]:
    """Returns package -> version of a run; also that of isoscale, with its commit."""
    own = {_OWN: result.isoscale} if result.isoscale else {}
    return {**own, **(result.versions or {})}


def _differences(facts: Sequence[tuple[str, Mapping[str, str]]], absent: str | None) -> list[str]:
    """Returns one text per fact that differs.

    Args:
      facts: (where they come from, facts).
      absent: value of a fact that is missing; None: unknown.
    """
    found = []
    for name in dict.fromkeys(name for _, known in facts for name in known):
        owners: dict[str, list[str]] = {}
        for where, known in facts:
            value = known.get(name, absent)
            if value is not None:
                owners.setdefault(value, []).append(where)
        if len(owners) > 1:
            values = "; ".join(f"{v} ({', '.join(where)})" for v, where in owners.items())
            found.append(f"{name}: {values}")
    return found


def differences(lines: Sequence[ResultLine]) -> list[str]:
    """Returns how the conditions of a cell's runs differ, one text per fact."""
    named = [(f"run {line.run}", line.result) for line in lines]
    environments = [(name, r.environment) for name, r in named if r.environment is not None]
    return [
        *_differences([(name, machine_facts(result)) for name, result in named], None),
        *_differences([(name, _versions(result)) for name, result in named], None),
        *_differences(environments, _NOT_SET),
    ]


def machine_differences(lines: Sequence[ResultLine]) -> list[str]:
    """Returns the facts in which the machines of some runs differ, with their values."""
    values: dict[str, dict[str, None]] = {}
    for line in lines:
        for name, value in machine_facts(line.result).items():
            values.setdefault(name, {})[value] = None
    return [f"{name}: {'; '.join(found)}" for name, found in values.items() if len(found) > 1]


def names(texts: Iterable[str]) -> str:
    """Returns the names of the facts in texts of ``differences``."""
    return ", ".join(text.partition(":")[0] for text in texts)


def apart(
    ours: Sequence[ResultLine], theirs: Sequence[ResultLine], *, same_framework: bool
) -> list[str]:
    """Returns how the conditions of two cells differ, one text per fact.

    Environment variables may differ: each cell has its own. So may the versions of two frameworks,
    which can have their own interpreters; but not that of isoscale, nor the files of the user's own
    model and data.

    Args:
      ours, theirs: the runs of the two cells.
      same_framework: whether the versions must agree.
    """
    sides = [("one cell", ours), ("the other", theirs)]
    listed = [(name, line.result) for name, lines in sides for line in lines]
    found = _differences([(name, machine_facts(result)) for name, result in listed], None)
    versions = [(name, _versions(result)) for name, result in listed]
    if not same_framework:
        versions = [
            (name, {k: v for k, v in known.items() if k.startswith(_SHARED)})
            for name, known in versions
        ]
    return [*found, *_differences(versions, None)]
