"""Statistics over runs. Runs are independent; the steps of one process are not."""

import dataclasses
import functools
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, Self

CONFIDENCE = 0.95
OUTLIER_SCORE = 3.5
"""A run with a larger modified z-score is flagged (Iglewicz & Hoaglin 1993)."""
LEAST_RUNS = 3
"""Least number of runs for an interval and a verdict."""
LEAST_RUNS_FOR_ORDER = 6
"""The range of n values contains the median with probability 1 - 2^(1-n): over 95 % for n >= 6."""

WELCH = "Welch's t on logarithms, ratio of geometric means"

Method = Literal[
    "order statistics",
    "t on log time",
    "none: fewer than 3 runs",
    "none: runs under different conditions",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median over runs, with its interval if n is large enough.

    Attributes:
      median: median of the values.
      low, high: ends of the 95 % interval; None with fewer than 3 runs.
      n: number of runs.
      method: method that gives the interval.
    """

    median: float
    low: float | None
    high: float | None
    n: int
    method: Method


@functools.cache
def _order_ranks(n: int) -> tuple[int, int]:
    """Returns the ranks (from 0) of the values that bound the 95 % interval of the median."""
    from scipy import stats

    interval = stats.quantile_test(list(range(n)), p=0.5).confidence_interval(CONFIDENCE)
    return int(interval.low), int(interval.high)


@functools.cache
def _t_quantile(degrees: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def median_estimate(values: Sequence[float]) -> Estimate:
    """Returns the median of positive values with a 95 % interval that is valid at their number.

    From 6 runs on, the interval comes from order statistics and needs no assumption on the
    distribution. For 3 to 5 runs it is a t interval on logarithms, which assumes log-normal run
    times.

    Args:
      values: one value per run.

    Raises:
      ValueError: ``values`` is empty.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    n = len(ordered)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    if n < LEAST_RUNS:
        return Estimate(median=median, low=None, high=None, n=n, method="none: fewer than 3 runs")
    if n >= LEAST_RUNS_FOR_ORDER:
        first, last = _order_ranks(n)
        method: Method = "order statistics"
        low, high = ordered[first], ordered[last]
    else:
        logs = [math.log(value) for value in ordered]
        center, spread = statistics.fmean(logs), statistics.stdev(logs)
        half = _t_quantile(n - 1) * spread / math.sqrt(n)
        method = "t on log time"
        low, high = math.exp(center - half), math.exp(center + half)
    return Estimate(median=median, low=low, high=high, n=n, method=method)


def outliers(values: Sequence[float]) -> list[int]:
    """Returns the indices of values with a modified z-score above 3.5; callers keep these values.

    The score is 0.6745 (x - median) / MAD. MAD is the median absolute deviation; if more than half
    of the values are equal, the mean absolute deviation replaces it (Iglewicz & Hoaglin 1993).
    Fewer than 6 values give an empty list: their median deviation is too uncertain. With 6 clean
    (log-normal) values, about one cell in six has an outlier.
    """
    if len(values) < LEAST_RUNS_FOR_ORDER:
        return []
    median = statistics.median(values)
    distances = [abs(value - median) for value in values]
    scale = statistics.median(distances) / 0.6745 or 1.253314 * statistics.fmean(distances)
    return [i for i, distance in enumerate(distances) if distance > OUTLIER_SCORE * scale]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of two cells' typical values.

    Attributes:
      value: the ratio.
      low, high: ends of the 95 % interval; None unless both sides have 3 runs.
      p: uncorrected p of Welch's test that the ratio is 1; None unless both sides have 3 runs.
      n: numbers of runs of numerator and denominator.
      unsound: why the runs must not be compared; such a ratio has neither interval nor test.
      method: how ratio and interval are made; empty without an interval.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None = None
    n: tuple[int, int]
    unsound: str | None = None
    method: str = ""

    def inverse(self) -> Self:
        """Returns the ratio of denominator to numerator."""
        low, high = (None if end is None else 1 / end for end in (self.high, self.low))
        a, b = self.n
        return dataclasses.replace(self, value=1 / self.value, low=low, high=high, n=(b, a))


def ratio_estimates(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[Ratio]:
    """Returns the ratio of typical values for each (numerator, denominator).

    With 3 runs or more on each side, the ratio is that of geometric means, with Welch's interval
    and test on logarithms: this interval keeps its 95 % at few runs, a bootstrap interval does not.
    With fewer runs on a side, the ratio is that of medians.

    Args:
      pairs: positive values of numerator and denominator, one value per run.

    Raises:
      ValueError: a side has no values.
    """
    found: list[Ratio | None] = [None] * len(pairs)
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (numerator, denominator) in enumerate(pairs):
        n = len(numerator), len(denominator)
        if not min(n):
            raise ValueError("a ratio needs values on both sides")
        if min(n) >= LEAST_RUNS:
            alike[n].append(index)
            continue
        value = statistics.median(numerator) / statistics.median(denominator)
        found[index] = Ratio(value=value, low=None, high=None, n=n)
    if alike:  # imported late: loading scipy takes half a second
        import numpy as np
        from scipy import stats
    # One call for all pairs with equal numbers of runs: a study may have thousands of pairs.
    for n, indices in alike.items():
        a = np.log([pairs[index][0] for index in indices])
        b = np.log([pairs[index][1] for index in indices])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # For nearly identical runs scipy warns about the test; the interval is right.
            warnings.simplefilter("ignore", RuntimeWarning)
            test = stats.ttest_ind(a, b, axis=1, equal_var=False)
            interval = test.confidence_interval(CONFIDENCE)
        shift = a.mean(axis=1) - b.mean(axis=1)
        exact = (a.std(axis=1) == 0) & (b.std(axis=1) == 0)
        low, high = (np.exp(np.where(exact, shift, end)) for end in interval)
        p = np.where(exact, shift == 0, test.pvalue)
        for row, index in enumerate(indices):
            found[index] = Ratio(
                value=float(np.exp(shift[row])),
                low=float(low[row]),
                high=float(high[row]),
                p=float(p[row]),
                n=n,
                method=WELCH,
            )
    return [ratio for ratio in found if ratio is not None]


def corrected(p_values: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number (Benjamini & Yekutieli 2001).

    Among the differences shown at 5 %, the expected share of false ones is at most 5 %. This holds
    for every dependence between comparisons (many comparisons share a cell).
    """
    if not p_values:
        return []
    from scipy import stats

    return stats.false_discovery_control(p_values, method="by").tolist()
