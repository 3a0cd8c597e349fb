"""Statistics over runs. Steps inside a process are not independent; runs are."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Literal

CONFIDENCE = 0.95
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


def median_estimate(values: Sequence[float]) -> Estimate:
    """Returns the median of positive values with a 95 % interval valid at that n.

    From 6 runs on the interval is that of order statistics (no assumption on the distribution).
    For 3 to 5 runs it is a t interval on logarithms, which assumes log-normal run times.

    Raises:
      ValueError: no values.
    """
    import numpy as np
    from scipy import stats

    if not values:
        raise ValueError("no values")
    n, median = len(values), float(np.median(values))
    if n < LEAST_RUNS:
        return Estimate(median=median, low=None, high=None, n=n, method="none: fewer than 3 runs")
    if n >= LEAST_RUNS_FOR_ORDER:
        interval = stats.quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
        method: Method = "order statistics"
        low, high = float(interval.low), float(interval.high)
    else:
        logs = np.log(values)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * logs.std(ddof=1) / math.sqrt(n)
        method = "t on log time"
        low, high = (float(np.exp(logs.mean() + sign * half)) for sign in (-1, 1))
    return Estimate(median=median, low=low, high=high, n=n, method=method)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of two cells' typical values, with a 95 % interval where both have 3 runs."""

    value: float
    low: float | None
    high: float | None


def ratio_estimate(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Returns the ratio of medians; with 3 runs each, of geometric means with Welch's interval.

    Welch on logarithms keeps its 95 % at few runs, where a bootstrap does not.

    Raises:
      ValueError: a side without values.
    """
    import numpy as np
    from scipy import stats

    if not numerator or not denominator:
        raise ValueError("a ratio needs values on both sides")
    if min(len(numerator), len(denominator)) < LEAST_RUNS:
        return Ratio(
            value=float(np.median(numerator) / np.median(denominator)), low=None, high=None
        )
    a, b = np.log(numerator), np.log(denominator)
    value = float(np.exp(a.mean() - b.mean()))
    if a.std() == 0 and b.std() == 0:
        return Ratio(value=value, low=value, high=value)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # Nearly identical runs: the interval is right, the warning is about the test.
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return Ratio(value=value, low=float(np.exp(interval.low)), high=float(np.exp(interval.high)))
