"""The laws of scaling of each series of a setting: which cells count, and what a fit gets."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from isoscale.common.analysis import turns
from isoscale.common.analysis.estimates import LEAST_RUNS, Ratio
from isoscale.common.analysis.laws import (
    LAWS,
    LEAST_COUNTS,
    Figure,
    Fit,
    Samples,
    best_of,
    fit,
    karp_flatt,
)
from isoscale.common.analysis.scaling import CellSummary, Scaling, compared, rounds_together
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.turns import Array

TOO_FEW_COUNTS = f"too few device counts (needs {LEAST_COUNTS})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One device count of a series.

    Attributes:
      devices: number of devices, above 1.
      speedup: throughput / throughput of the base on one device.
      serial: the Karp-Flatt fraction of that speedup.
    """

    devices: int
    speedup: Ratio
    serial: Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesLaws:
    """What limits one series on more devices.

    Attributes:
      series: its name within the setting.
      devices: its device counts, rising; counts on which devices shared cores are left out.
      base: the cell on one device that the points compare with: that of the series itself, without
        it ``bare``; None if neither was measured.
      points: one for each count above 1; [] without a base.
      fits: every law of this kind of scaling; [] if ``reason`` is not empty.
      reason: why no law was fitted; empty if laws were fitted.
      first: the cell with the fewest devices, to which the level of a fit is relative.
    """

    series: str
    devices: tuple[int, ...]
    base: CellSummary | None
    points: list[Point]
    fits: list[Fit]
    reason: str
    first: CellSummary

    @property
    def best(self) -> Fit | None:
        """The law with the fewest parameters among those that fit; None: none fits."""
        return best_of(self.fits)

    @property
    def against_bare(self) -> bool:
        """Whether points compare with ``bare``, and so count its wrapper as serial work."""
        return self.base is not None and self.base.cell.strategy == "bare"


def laws_of(setting: Setting, *, scaling: Scaling) -> list[SeriesLaws]:
    """Returns the laws of each series of a setting that was measured on more than one device.

    Only successful cells count whose devices did not share cores: shared cores show overhead.

    Args:
      setting: the setting; all its cells share the batch (with weak scaling, that per device).
      scaling: ``strong`` or ``weak``.
    """
    found = []
    for name, cells in setting.series.items():
        counted = [cell for cell in cells if cell.valid and not cell.cell.oversubscribed]
        if any(cell.cell.devices > 1 for cell in counted):
            found.append(_laws(name, counted, scaling))
    return found


def _laws(name: str, cells: Sequence[CellSummary], scaling: Scaling) -> SeriesLaws:
    """Returns the laws of one series.

    Args:
      cells: its cells that count, by device count.
    """
    first = cells[0]
    base = first if first.cell.devices == 1 else first.base
    several = [cell for cell in cells if cell.cell.devices > 1]
    if base is not None and not base.valid:
        base = None
    speedups = [] if base is None else compared([(cell, base) for cell in several])
    points = [
        Point(
            devices=cell.cell.devices,
            speedup=speedup,
            serial=karp_flatt(speedup, cell.cell.devices),
        )
        for cell, speedup in zip(several, speedups, strict=bool(speedups))
    ]
    samples, reason = _samples(cells)
    fits = [] if samples is None else [fit(law, samples) for law in LAWS[scaling]]
    return SeriesLaws(
        series=name,
        devices=tuple(cell.cell.devices for cell in cells),
        base=base,
        points=points,
        fits=fits,
        reason=reason,
        first=first,
    )


def _samples(cells: Sequence[CellSummary]) -> tuple[Samples | None, str]:
    """Returns the throughput of a series; None, with the reason, if no law can be fitted."""
    devices = tuple(cell.cell.devices for cell in cells)
    if len(devices) < LEAST_COUNTS:
        return None, TOO_FEW_COUNTS
    first = cells[0]
    unsound = [r.unsound for r in compared([(cell, first) for cell in cells[1:]]) if r.unsound]
    if unsound:
        return None, f"no law: {unsound[0]}"
    values = _in_turns(cells)
    paired = values is not None
    if values is None:
        values = tuple(np.log(cell.throughputs) for cell in cells)
    samples = Samples(devices=devices, values=values, paired=paired)
    if samples.units < LEAST_RUNS:
        units = "groups" if paired else "runs of each cell"
        return None, f"too few {units} (needs {LEAST_RUNS})"
    return samples, ""


def _in_turns(cells: Sequence[CellSummary]) -> tuple[Array, ...] | None:
    """Returns the log throughput of each cell by group, relative to that of the first cell.

    It is the trimmed mean over rounds, as for every ratio of cells that took turns. Only groups
    count that have 3 valid rounds of every pair.

    Returns:
      One array for each cell; None if runs followed each other.
    """
    together = [rounds_together(cell, cells[0]) for cell in cells]
    means: list[dict[int, float]] = []
    for both in together:
        if both is None:
            return None
        logs = turns.logs(*both)
        means.append(
            {
                group: float(turns.trimmed_mean(row))
                for group, row in logs.items()
                if np.sum(~np.isnan(row)) >= turns.LEAST_ROUNDS
            }
        )
    groups = sorted(set.intersection(*(set(entry) for entry in means)))
    return tuple(np.array([entry[group] for group in groups], float) for entry in means)
