"""The change of the machine's speed during a study."""

import math
import statistics

from isoscale.common.analysis.scaling import step_seconds_of
from isoscale.common.report.study.data import StudyData

Drift = tuple[float, float, float, int]
"""(relative change of time per step, ends of its 95 % interval, runs)."""


def drift(study: StudyData) -> Drift | None:
    """Returns the change of time per step from the first run to the last; None with too few runs.

    Regresses log time on the order of runs, both minus their mean within the cell. Therefore a cell
    may cover only a part of the study.
    """
    xs: list[float] = []
    ys: list[float] = []
    cells = 0
    for summary in study.measured:
        known = [(line.sequence, step_seconds_of(line)) for line in summary.valid]
        if len(known) < 2:
            continue
        cells += 1
        order = [sequence for sequence, _ in known]
        logs = [math.log(seconds) for _, seconds in known if seconds is not None]
        xs += [x - statistics.fmean(order) for x in order]
        ys += [y - statistics.fmean(logs) for y in logs]
    degrees = len(xs) - cells - 1
    if degrees < 3 or len(set(xs)) < 2:
        return None
    from scipy import stats

    fit = stats.linregress(xs, ys)
    # The mean of each cell costs one degree of freedom, which linregress does not count.
    error = fit.stderr * math.sqrt((len(xs) - 2) / degrees)
    half = error * stats.t.ppf(0.975, degrees)
    sequences = [line.sequence for line in study.lines]
    span = max(sequences) - min(sequences)
    change, low, high = (math.expm1(span * (fit.slope + d)) for d in (0.0, -half, half))
    return change, low, high, len(xs)
