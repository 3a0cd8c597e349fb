"""The threshold table of a sweep: which range of sizes pays on several devices, and how sure."""

import itertools
from collections.abc import Sequence

from isoscale.common.analysis.crossover import (
    NO_DIFFERENCE,
    PAYS,
    PAYS_NOT,
    Curve,
    Point,
    SweepCurves,
)
from isoscale.common.analysis.verdicts import ratio_text
from isoscale.common.report.study.answers.crossovers import (
    base_name,
    curve_name,
    sample,
    size_text,
)
from isoscale.common.report.words import NO_VALUE


def columns(found: SweepCurves) -> list[str]:
    """Returns the names of the columns of ``rows``."""
    return [
        "cells",
        f"range of {found.sweep.axis}",
        "benefit: ratio of examples/s at both ends [95 %]",
        "against",
        "answer",
        "how sure",
        "sample",
        "models",
    ]


def rows(found: SweepCurves) -> list[list[str]]:
    """Returns one row for each curve and each range between two neighbouring sizes measured."""
    return [
        [
            curve_name(curve),
            f"{_size(first, found)} to {_size(other, found)}",
            f"{ratio_text(first.tested.ratio)} to {ratio_text(other.tested.ratio)}",
            base_name(curve),
            _answer(curve, first, other, found.sweep.axis),
            _sureness(first, other),
            sample([first.tested.ratio, other.tested.ratio]),
            ", ".join(dict.fromkeys(point.member.model for point in (first, other))),
        ]
        for curve in found.curves
        for first, other in itertools.pairwise(curve.points)
    ]


def _size(point: Point, found: SweepCurves) -> str:
    return size_text(point.member.size, found.sweep.axis)


def _answer(curve: Curve, first: Point, other: Point, axis: str) -> str:
    if first.pays == other.pays:
        return first.pays
    sizes = [point.member.size for point in (first, other)]
    begins = (first.pays, other.pays) == (PAYS_NOT, PAYS)
    value = curve.answer.value
    if begins and value is not None and sizes[0] <= value <= sizes[1]:
        return f"pays from {size_text(value, axis)} on"
    ends = zip((first, other), sizes, strict=True)
    return ", ".join(f"{point.pays} at {size_text(size, axis)}" for point, size in ends)


def _sureness(first: Point, other: Point) -> str:
    """Returns the larger of the corrected p of both ends: both tests must hold."""
    p_values = [
        tested.p_same if point.pays == NO_DIFFERENCE else tested.p
        for point in (first, other)
        for tested in [point.tested]
    ]
    known: Sequence[float] = [p for p in p_values if p is not None]
    if len(known) < 2:
        return NO_VALUE
    return "corrected p < 0.001" if max(known) < 0.001 else f"corrected p = {max(known):.3f}"
