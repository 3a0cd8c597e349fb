"""What differs in the conditions of two studies, or of two cells of one study."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoscale.common.analysis import pooling
from isoscale.common.analysis.between_studies import Pairs, Side, fields_apart
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.config.cell import Cell
from isoscale.common.config.counts import counted
from isoscale.common.config.records import to_record
from isoscale.common.processes import ranks
from isoscale.common.report.study.data import RunFacts, StudyData
from isoscale.common.study.records import ResultLine

MACHINE, PROGRAM, VERSIONS, ENVIRONMENT, MEASUREMENT = GROUPS = (
    "machine",
    "isoscale",
    "versions",
    "environment",
    "measurement",
)
_NOT_SET = "not set"
_EMPTY = "(empty)"
_NOT_SHOWN = "tweaks_left_out"

Facts = dict[str, dict[str, str]]
"""Group of conditions -> fact -> value; a group that no run recorded is absent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """How the conditions of the cells that two studies share differ.

    Attributes:
      differing: one text per fact: ``jax: 0.10.2 -> 0.10.3``.
      equal: the groups of conditions in which nothing differs and something is known.
      unknown: ``A`` and ``B`` -> the groups that the study did not record.
    """

    differing: list[str]
    equal: list[str]
    unknown: dict[Side, list[str]]


def changes(a: StudyData, b: StudyData, pairs: Pairs) -> Changes:
    """Returns what differs in the conditions of pairs of cells.

    A fact that a side did not record is unknown; it differs from nothing. If a fact differs in some
    of the cells only, its text says in how many.

    Args:
      a, b: the studies.
      pairs: (cell of A, cell of B); cells without a successful run count for nothing.
    """
    sides = [(_facts(a, x), _facts(b, y)) for x, y in pairs if x.ok and y.ok]
    differing, equal = [], []
    unknown: dict[Side, list[str]] = {"A": [], "B": []}
    for group in GROUPS:
        known = [(x[group], y[group]) for x, y in sides if group in x and group in y]
        found = _differing(known, absent=_NOT_SET if group == ENVIRONMENT else None)
        differing += found
        if known and not found:
            equal.append(group)
        for index, side in enumerate(unknown):
            if sides and not any(group in pair[index] for pair in sides):
                unknown[side].append(group)
    return Changes(differing=differing, equal=equal, unknown=unknown)


def cell_changes(a: Cell, b: Cell) -> list[str]:
    """Returns one text per field in which two cells differ: ``tweaks: none -> huge-pages``."""
    found = []
    for name, (first, second) in fields_apart(a, b).items():
        x, y = to_record(first), to_record(second)
        if isinstance(x, dict) and isinstance(y, dict):
            keys = [key for key in {**x, **y} if x.get(key) != y.get(key)]
            found += [f"{name}.{key}: {_text(x.get(key))} -> {_text(y.get(key))}" for key in keys]
        else:
            found.append(f"{name}: {_text(x)} -> {_text(y)}")
    return found


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _differing(
    known: Sequence[tuple[Mapping[str, str], Mapping[str, str]]], *, absent: str | None
) -> list[str]:
    """Returns one text per fact that differs in some of the pairs.

    Args:
      known: the facts of both sides, of each pair.
      absent: value of a fact that a side lacks; None: unknown.
    """
    texts = []
    for name in dict.fromkeys(name for pair in known for side in pair for name in side):
        values = [(x.get(name, absent), y.get(name, absent)) for x, y in known]
        both = [(x, y) for x, y in values if x is not None and y is not None]
        apart = list(dict.fromkeys((x, y) for x, y in both if x != y))
        if apart:
            before, after = (" | ".join(dict.fromkeys(side)) for side in zip(*apart, strict=True))
            cells = sum(x != y for x, y in both)
            some = f" ({counted(cells, 'cell')} of {len(both)})" if cells < len(both) else ""
            texts.append(f"{name}: {before} -> {after}{some}")
    return texts


def _facts(study: StudyData, cell: CellSummary) -> Facts:
    """Returns the conditions of a cell; a fact that differs between its runs has all values."""
    found: Facts = {}
    of_runs = [_facts_of_run(study, line) for line in cell.ok]
    for group in GROUPS:
        recorded = [facts[group] for facts in of_runs if group in facts]
        names = dict.fromkeys(name for facts in recorded for name in facts)
        absent = _NOT_SET if group == ENVIRONMENT else None
        merged = {name: _all_values(f.get(name, absent) for f in recorded) for name in names}
        if merged or (recorded and group == ENVIRONMENT):
            found[group] = merged
    return found


def _all_values(values: Iterable[str | None]) -> str:
    return " | ".join(dict.fromkeys(value for value in values if value is not None))


def _facts_of_run(study: StudyData, line: ResultLine) -> Facts:
    result = line.result
    found = {
        MACHINE: pooling.machine_facts(result) or _machine_of_sessions(study),
        MEASUREMENT: _measurement(study.config(line), line),
    }
    if result.isoscale:
        found[PROGRAM] = {PROGRAM: result.isoscale}
    if result.versions:
        found[VERSIONS] = dict(result.versions)
    if result.environment is not None:
        known = result.environment.items()
        found[ENVIRONMENT] = {
            name: value or _EMPTY for name, value in known if name not in ranks.VARIABLES
        }
    return found


def _machine_of_sessions(study: StudyData) -> dict[str, str]:
    """Returns the machine of a study whose runs did not record theirs, from its sessions."""
    names = ("cpu_model", "instruction_sets", "architecture", "physical_cores", "memory_bytes")
    found: dict[str, dict[str, None]] = {}
    for machine in study.machines:
        facts = {name: machine[name] for name in (*names, "operating_system") if name in machine}
        facts["usable_cores"] = len(machine["available_cores"])
        facts["gpus"] = [gpu.get("name") for gpu in machine["gpus"] if isinstance(gpu, dict)]
        for name, value in pooling.plain_facts(facts).items():
            found.setdefault(name, {})[value] = None
    return {name: " | ".join(values) for name, values in found.items()}


def _measurement(config: RunFacts | None, line: ResultLine) -> dict[str, str]:
    """Returns how a run was measured: in turns or alone, steps, windows, ..."""
    interleaved = "windows" if line.result.turns is not None else "runs"
    known = vars(config).items() if config is not None else ()
    return {
        "interleave": interleaved,
        **{name: _text(v) for name, v in known if name != _NOT_SHOWN and v is not None},
    }
