"""Results of runs -> cells with speedup and efficiency against ``bare``."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

from common.analysis.statistics import Estimate, Ratio, median_estimate, ratio_estimate

Scaling = Literal["strong", "weak"]

_NOT_IN_BASE = (
    "strategy",
    "devices",
    "processes",
    "mesh",
    "global_batch_size",
    "oversubscribed",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSummary:
    """What is known of a cell from its runs.

    Attributes:
      cell: as recorded.
      ok: its successful result lines.
      statuses: status -> how many lines.
      errors: the different errors, in order of appearance.
      step_seconds: over runs, of each run's median time per step; None without a successful run.
      items_per_second: likewise.
      speedup: throughput relative to ``bare``; None where bare was not measured.
      efficiency: speedup / devices.
    """

    cell: dict[str, Any]
    ok: list[dict[str, Any]]
    statuses: dict[str, int]
    errors: list[str]
    step_seconds: Estimate | None
    items_per_second: Estimate | None
    speedup: Ratio | None
    efficiency: Ratio | None


def cell_key(cell: dict[str, Any]) -> str:
    return json.dumps(cell, sort_keys=True)


def _base_key(cell: dict[str, Any], *, global_batch_size: int) -> str:
    rest = {name: value for name, value in cell.items() if name not in _NOT_IN_BASE}
    # Compile modes belong to the framework and stay part of the base.
    return cell_key({**rest, "global_batch_size": global_batch_size})


def summarize_cells(results: Sequence[dict[str, Any]], *, scaling: Scaling) -> list[CellSummary]:
    """Groups result lines by cell, in order of first appearance.

    Args:
      results: lines of ``results.jsonl``.
      scaling: ``strong`` compares with ``bare`` at the same global batch, ``weak`` with ``bare``
        at the batch of one device.
    """
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in results:
        lines.setdefault(cell_key(line["cell"]), []).append(line)
    bases: dict[str, list[float]] = {}
    for group in lines.values():
        cell = group[0]["cell"]
        if cell["strategy"] == "bare":
            key = _base_key(cell, global_batch_size=cell["global_batch_size"])
            bases[key] = [line["items_per_second"] for line in group if line["status"] == "ok"]
    return [_summarize(group, bases, scaling) for group in lines.values()]


def _summarize(
    group: list[dict[str, Any]], bases: dict[str, list[float]], scaling: Scaling
) -> CellSummary:
    cell = group[0]["cell"]
    ok = [line for line in group if line["status"] == "ok"]
    statuses: dict[str, int] = {}
    for line in group:
        statuses[line["status"]] = statuses.get(line["status"], 0) + 1
    errors = list(dict.fromkeys(line["error"] for line in group if line.get("error")))
    throughput = [line["items_per_second"] for line in ok]
    devices = cell["devices"]
    batch = cell["global_batch_size"] // (devices if scaling == "weak" else 1)
    base = bases.get(_base_key(cell, global_batch_size=batch))
    speedup = ratio_estimate(throughput, base) if throughput and base else None
    if cell["strategy"] == "bare" and speedup is not None:
        speedup = Ratio(value=1.0, low=None, high=None)
    efficiency = None
    if speedup is not None:
        ends = (speedup.low, speedup.high)
        low, high = (None if end is None else end / devices for end in ends)
        efficiency = Ratio(value=speedup.value / devices, low=low, high=high)
    return CellSummary(
        cell=cell,
        ok=ok,
        statuses=statuses,
        errors=errors,
        step_seconds=median_estimate([line["step_seconds"]["median"] for line in ok])
        if ok
        else None,
        items_per_second=median_estimate(throughput) if ok else None,
        speedup=speedup,
        efficiency=efficiency,
    )
