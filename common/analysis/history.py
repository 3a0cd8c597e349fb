"""A cell over several studies: its throughput in each, and the ratio to the study before.

Two neighbours are compared as ``isoscale diff`` compares two studies (``between_studies.py``):
unpaired, with Welch's interval on logarithms, and the drift of the machine between the studies is
outside the interval. All ratios of a history are one family: they are corrected together by Holm.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from isoscale.common.analysis import turns
from isoscale.common.analysis.between_studies import CellDifference, between, match
from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.analysis.scaling import CellSummary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """The throughput of a cell in one study, in examples per second.

    Attributes:
      value: geometric mean over runs (groups, where runs took turns); with fewer than 3, the
        median.
      low, high: ends of the 95 % interval, Student's t on logarithms; None with fewer than 3 runs,
        or if the runs had different conditions.
      n: number of runs (groups).
    """

    value: float
    low: float | None
    high: float | None
    n: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appearance:
    """A cell in one study.

    Attributes:
      study: number of the study, from 0.
      cell: its results there.
      throughput: None if no run counts.
      difference: the comparison with the appearance before; None for the first one.
    """

    study: int
    cell: CellSummary
    throughput: Throughput | None
    difference: CellDifference | None


def throughput(cell: CellSummary) -> Throughput | None:
    """Returns the throughput of a cell over its runs; None if no run counts."""
    seconds = list(cell.seconds_per_example.values())
    if not seconds:
        return None
    logs = [-turns.log_of(value) for value in seconds]
    if len(logs) < LEAST_RUNS:
        center = statistics.median(logs)
        return Throughput(value=math.exp(center), low=None, high=None, n=len(logs))
    center, error, degrees = (float(x) for x in turns.over_groups(np.array(logs)))
    low, high = (None, None) if cell.mixed else turns.interval(center, error, degrees)
    return Throughput(value=math.exp(center), low=low, high=high, n=len(logs))


def tracks(studies: Sequence[Sequence[CellSummary]]) -> list[dict[int, CellSummary]]:
    """Returns the cells that studies share, each as number of the study -> its results there.

    A cell matches its latest appearance before (``between_studies.match``).

    Args:
      studies: all cells of each study, in the order of time.
    """
    found: list[dict[int, CellSummary]] = []
    for number, cells in enumerate(studies):
        latest = [next(reversed(track.values())) for track in found]
        by_latest = {summary.cell: track for summary, track in zip(latest, found, strict=True)}
        matched = match(latest, cells)
        for before, cell in matched.pairs:
            by_latest[before.cell][number] = cell
        found += [{number: cell} for cell in matched.only["B"]]
    return found


def histories(
    found: Sequence[dict[int, CellSummary]],
    *,
    order: Callable[[int, CellSummary], Any],
    threshold: float,
) -> list[list[Appearance]]:
    """Returns the appearances of each cell, in their order.

    Args:
      found: as ``tracks`` returns them.
      order: key by which the appearances (number of the study, results) of a cell are sorted.
      threshold: margin of the four answers, for example 0.05.

    Raises:
      ValueError: the threshold is not positive.
    """
    ordered = [sorted(track.items(), key=lambda entry: order(*entry)) for track in found]
    pairs = [(a, b) for entries in ordered for (_, a), (_, b) in itertools.pairwise(entries)]
    differences = iter(between(pairs, threshold=threshold))
    return [
        [
            Appearance(
                study=number,
                cell=cell,
                throughput=throughput(cell),
                difference=next(differences) if place else None,
            )
            for place, (number, cell) in enumerate(entries)
        ]
        for entries in ordered
    ]
