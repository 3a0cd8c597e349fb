"""Curves by the number of devices: speedup, efficiency and its factors, throughput."""

import dataclasses

from tensorboard.compat.proto.event_pb2 import Event

from isoscale.common.analysis.estimates import Estimate, Ratio
from isoscale.common.analysis.factors import CAUSES, Factors
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting
from isoscale.common.config.cell import Cell
from isoscale.common.report.board import event_records as records
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.values import finite, scaled, study_seconds, whole_step
from isoscale.common.report.study.data import StudyData

QUANTITIES = {
    "speedup": "speedup (bare = 1)",
    "efficiency_percent": "efficiency % (speedup / devices)",
    "examples_per_second": "examples/s",
    **{
        f"factor_{cause.replace(' ', '_')}": f"factor of efficiency: {cause} (1: nothing is lost)"
        for cause in CAUSES
    },
}
_CAUSES = dict(zip(list(QUANTITIES)[-len(CAUSES) :], CAUSES, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A figure of a cell with its interval; ``is_base``: 1 by definition and without interval."""

    devices: int
    value: float
    low: float | None
    high: float | None
    is_base: bool


def point_of(quantity: str, cell: CellSummary, factors: Factors | None) -> Point | None:
    """Returns one figure of a cell with its interval; None if not measured.

    Args:
      quantity: one of ``QUANTITIES``.
      cell: the cell.
      factors: those of its efficiency; None: not measured.
    """
    found: Estimate | Ratio | None
    if quantity == "examples_per_second":
        found = cell.examples_per_second
    elif quantity in _CAUSES:
        found = factors.find(_CAUSES[quantity]) if factors else None
    else:
        found = cell.speedup if quantity == "speedup" else cell.efficiency
    devices = whole_step(cell.cell.devices)
    if found is None or devices is None:
        return None
    value = finite(found.median if isinstance(found, Estimate) else found.value)
    if value is None:
        return None
    factor = 100 if quantity == "efficiency_percent" else 1
    low, high = (scaled(finite(end), factor) for end in (found.low, found.high))
    return Point(
        devices=devices,
        value=factor * value,
        low=None if high is None else low,
        high=None if low is None else high,
        is_base=quantity != "examples_per_second" and cell.cell.strategy == "bare",
    )


def factors_by_cell(study: StudyData, setting: Setting) -> dict[Cell, Factors]:
    """Returns cell -> the factors of its efficiency, for a setting's cells on several devices."""
    return {found.cell.cell: found for found in study.factors[setting.title]}


def tags_of(title: str, quantity: str) -> tuple[str, str, str, str]:
    """Returns the tags of a setting's figure: for all cells, then value, low and high of intervals.

    TensorBoard draws an interval only if value, low and high have the same steps. Therefore cells
    without an interval appear under the first tag only.
    """
    stem = f"{clean(title)}/{quantity}"
    return stem, f"{stem}_with_interval", f"{stem}_low", f"{stem}_high"


def scaling_events(study: StudyData) -> dict[str, list[Event]]:
    """Returns series -> events; a second cell with the same number of devices gets a new series."""
    wall_time = study_seconds(study)
    found: dict[str, list[Event]] = {}
    for setting in study.settings:
        factors = factors_by_cell(study, setting)
        for series, cells in setting.series.items():
            seen: dict[int, int] = {}
            for cell in cells:
                devices = cell.cell.devices
                seen[devices] = seen.get(devices, 0) + 1
                name = series if seen[devices] == 1 else f"{series} ({seen[devices]})"
                values = []
                for quantity in QUANTITIES:
                    point = point_of(quantity, cell, factors.get(cell.cell))
                    if point is None:
                        continue
                    every, value, low, high = tags_of(setting.title, quantity)
                    values.append(records.scalar(every, point.value))
                    if point.low is not None and point.high is not None:
                        values += [
                            records.scalar(value, point.value),
                            records.scalar(low, point.low),
                            records.scalar(high, point.high),
                        ]
                if values:
                    event = records.event(values, wall_time=wall_time, step=devices)
                    found.setdefault(name, []).append(event)
    return found
