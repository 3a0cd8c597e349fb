"""The table of factors: what each cell on several devices loses, and to what."""

import math
from collections.abc import Sequence

from isoscale.common.analysis.factors import CAUSES, Factors
from isoscale.common.report.study.answers.limits import share_text, times_text
from isoscale.common.report.words import NO_VALUE

COLUMNS = (
    "cell",
    "efficiency [95 %]",
    "= wrapper [95 %]",
    "x smaller batch [95 %]",
    "x hardware [95 %]",
    "x communication and waiting [95 %]",
    "product",
    "R = compute / exposed communication [95 %]",
)

METHOD = (
    "Efficiency is throughput on N devices / (N x throughput of bare on one). It is the product "
    "of factors, each measured between two base cases. Wrapper: the strategy on one device / "
    "bare. Smaller batch (strong scaling only): one device with its share of the batch / with the "
    "whole batch. Hardware: N devices, each with a copy of the model and its share of the batch, "
    "released together and without communication / N x one such device alone. It holds what "
    "devices share (memory bandwidth, caches, clocks, power), and what other programs take when "
    "no core is free. A copy whose window has ended trains on until all have, so that all compute "
    "during every window; their rates add up. Communication and waiting: the strategy on N "
    "devices / these independent copies. It also holds what one process needs to coordinate "
    "several devices, which no link mends. Every factor is a ratio as all others of this report, "
    "with an interval of its own that is not corrected for their number; with fewer than 3 groups "
    "or runs it holds for these processes only. Each is a trimmed mean, so that the product can "
    "differ from the efficiency by what trimming leaves out; both are shown. R is the time of "
    "compute / the time of exposed communication and waiting in a step: c / (1 - c), with the "
    "factor c of communication and waiting."
)


def rows(found: Sequence[Factors]) -> list[list[str]]:
    """Returns one row for each cell, under ``COLUMNS``."""
    return [_row(factors) for factors in found]


def _row(found: Factors) -> list[str]:
    by_cause: dict[str, str] = {}
    for factor in found.factors:
        *before, last = factor.names
        by_cause |= dict.fromkeys(before, f"in {last}")
        by_cause[last] = times_text(factor.ratio)
    r = found.compute_to_communication
    against = "" if found.base.cell.strategy == "bare" else f" (of {found.base.cell.strategy})"
    return [
        found.name,
        share_text(found.efficiency) + against,
        *(by_cause.get(cause, NO_VALUE) for cause in CAUSES),
        NO_VALUE if math.isnan(found.product) else f"{100 * found.product:.0f} %",
        NO_VALUE if r is None else times_text(r),
    ]
