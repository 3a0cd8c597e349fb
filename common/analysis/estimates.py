"""Statistics over runs. Steps inside a process are not independent; runs are."""

import dataclasses
import functools
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

CONFIDENCE = 0.95
OUTLIER_SCORE = 3.5
"""A run whose modified z-score is beyond this is flagged (Iglewicz & Hoaglin 1993)."""
LEAST_RUNS = 3
"""Below this there is no interval and no verdict."""
LEAST_RUNS_FOR_ORDER = 6
"""The range of n values holds the median with 1 - 2^(1-n): over 95 % from n = 6 on."""

Method = Literal["order statistics", "t on log time", "none: fewer than 3 runs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A median over runs, with an interval for it where n allows one.

    Attributes:
      median: of the values.
      low, high: ends of the 95 % interval, or None.
      n: runs.
      method: how the interval was found.
    """

    median: float
    low: float | None
    high: float | None
    n: int
    method: Method


@functools.cache
def _order_ranks(n: int) -> tuple[int, int]:
    """Returns the ranks (from 0) of the values between which the median lies."""
    from scipy import stats

    interval = stats.quantile_test(list(range(n)), p=0.5).confidence_interval(CONFIDENCE)
    return int(interval.low), int(interval.high)


@functools.cache
def _t_quantile(degrees: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def median_estimate(values: Sequence[float]) -> Estimate:
    """Returns the median of positive values with a 95 % interval valid at that n.

    From 6 runs on the interval is that of order statistics (no assumption on the distribution).
    For 3 to 5 runs it is a t interval on logarithms, which assumes log-normal run times.

    Raises:
      ValueError: no values.
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
    """Returns the indices of values whose modified z-score exceeds 3.5; they are never dropped.

    The score is 0.6745 (x - median) / MAD, with the mean absolute deviation where more than half
    of the values are equal (Iglewicz & Hoaglin 1993). Fewer than 6 values have none: their median
    deviation says too little. Of 6 clean (log-normal) values about one in six cells has one.
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
      p: of Welch's test that the ratio is 1, not corrected; None likewise.
      n: runs of numerator and denominator.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None = None
    n: tuple[int, int]


def ratio_estimates(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> list[Ratio]:
    """Returns, for each (numerator, denominator), the ratio of their typical positive values.

    With 3 runs on each side: of geometric means, with Welch's interval and test on logarithms,
    which keeps its 95 % at few runs where a bootstrap does not. Otherwise the ratio of medians.

    Raises:
      ValueError: a side without values.
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
    if alike:  # not before: loading scipy takes half a second
        import numpy as np
        from scipy import stats
    # All pairs with the same numbers of runs in one call: a study may have thousands of them.
    for n, indices in alike.items():
        a = np.log([pairs[index][0] for index in indices])
        b = np.log([pairs[index][1] for index in indices])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # Nearly identical runs: the interval is right, the warning is about the test.
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
            )
    return [ratio for ratio in found if ratio is not None]


def corrected(p_values: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number (Benjamini & Yekutieli 2001).

    Of the differences called at 5 %, at most 5 % are expected to be none, however the comparisons
    depend on each other (many share a cell).
    """
    if not p_values:
        return []
    from scipy import stats

    return stats.false_discovery_control(p_values, method="by").tolist()
