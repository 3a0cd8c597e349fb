"""Laws of scaling: what limits a strategy on more devices, from its throughput on each count.

With N devices and the speedup S(N) against one device:

- Karp-Flatt, for each point: the experimentally determined serial fraction
  e = (1/S - 1/N) / (1 - 1/N). A constant e is serial work; an e that grows with N is overhead
  (Karp & Flatt 1990, "Measuring parallel processor performance", CACM 33(5)).
- Amdahl, strong scaling: S = N / (1 + f (N - 1)); f is the share of the time on one device that
  more devices do not shorten (Amdahl 1967, AFIPS 30).
- Gustafson, weak scaling: S = N - s (N - 1); s is the share of the time on N devices that is spent
  on serial work (Gustafson 1988, CACM 31(5)).
- USL, both: S = N / (1 + sigma (N - 1) + kappa N (N - 1)); sigma is contention, kappa coherence
  (Gunther 1993; 2007, "Guerrilla Capacity Planning"). S has its peak at
  N* = sqrt((1 - sigma) / kappa).

**The base is the strategy itself at one device.** These laws compare T(1) and T(N) of one program.
``bare`` is another program: with a wrapper that costs 10 % and work that divides perfectly,
S against ``bare`` is 0.9 N, and e = 0.11 / (N - 1) shows a serial part that is none. Fits do not
even need the base: the level of a curve is a parameter of its own, as in the R package ``usl``, so
that the noise at one device is not treated as exact.

A law is fitted to log throughput. Weights are from the variance of each count over groups (over
runs, if these did not take turns). Few groups give uncertain variances, so each is the mean of its
own and the pooled one. In simulations (``tests/common/analysis/test_laws.py``; 600 studies of 3 to
7 groups or runs, variances equal or 16 times apart) intervals of parameters then cover 90 to 99 %,
and a true law is rejected in 2 to 9 % of studies. Own variances alone gave 75 to 95 % and 5 to
15 %, pooled ones 80 to 97 % and 1 to 9 %.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoscale.common.analysis.estimates import CONFIDENCE, LEAST_RUNS, Ratio
from isoscale.common.analysis.scaling import Scaling
from isoscale.common.analysis.turns import LEAST_SPREAD, t_quantile

LEAST_COUNTS = 4
"""Least number of device counts for a law: USL has two parameters and a level."""
EXTRAPOLATION = 2
"""A law is drawn up to this multiple of the largest measured device count."""
LEAST_RESAMPLED = 8
"""Least number of groups, or of runs of each cell, for intervals by resampling."""
RESAMPLES = 1000
_DRAWS = 2000
_TINY = 1e-9

Array = NDArray[np.float64]
Name = Literal["Amdahl", "Gustafson", "USL"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """A law of scaling.

    Attributes:
      name: its name.
      parameters: names of its parameters; none is negative.
      most: largest value of each parameter.
      start: values at which a fit starts.
      log_speedup: (device counts, shape (counts,); parameters) -> log S of each count.
    """

    name: Name
    parameters: tuple[str, ...]
    most: tuple[float, ...]
    start: tuple[float, ...]
    log_speedup: Callable[[Array, Array], Array]


def _log(values: Array) -> Array:
    """Returns logarithms; no step of a fit leaves the region where a law is defined."""
    found: Array = np.log(np.maximum(values, _TINY))
    return found


def _amdahl(n: Array, p: Array) -> Array:
    found: Array = np.log(n) - _log(1 + p[0] * (n - 1))
    return found


def _gustafson(n: Array, p: Array) -> Array:
    return _log(n - p[0] * (n - 1))


def _usl(n: Array, p: Array) -> Array:
    found: Array = np.log(n) - _log(1 + p[0] * (n - 1) + p[1] * n * (n - 1))
    return found


AMDAHL = Law(
    name="Amdahl",
    parameters=("serial fraction",),
    most=(1.0,),
    start=(0.1,),
    log_speedup=_amdahl,
)
GUSTAFSON = Law(
    name="Gustafson",
    parameters=("serial share",),
    most=(1.0,),
    start=(0.1,),
    log_speedup=_gustafson,
)
# A contention above 1 is allowed: two devices may be slower than one.
USL = Law(
    name="USL",
    parameters=("contention", "coherence"),
    most=(math.inf, math.inf),
    start=(0.1, 0.01),
    log_speedup=_usl,
)
LAWS: dict[Scaling, tuple[Law, ...]] = {"strong": (AMDAHL, USL), "weak": (GUSTAFSON, USL)}
"""The laws of each kind of scaling; those with fewer parameters first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A value with its 95 % interval.

    Attributes:
      value: the value.
      low, high: ends of the interval; None without an interval; infinite without a bound.
    """

    value: float
    low: float | None
    high: float | None


def karp_flatt(speedup: Ratio, devices: int) -> Figure:
    """Returns the experimentally determined serial fraction, from a speedup against one device.

    It is negative for a speedup above the number of devices, and above 1 for one below 1. Under
    weak scaling it is the growth of time per step for each further device, (T(N)/T(1) - 1)/(N - 1).

    Args:
      speedup: throughput on these devices / throughput on one device.
      devices: number of devices, above 1.

    Raises:
      ValueError: with one device the fraction is undefined.
    """
    if devices < 2:
        raise ValueError(f"the Karp-Flatt fraction needs 2 devices or more, not {devices}")

    def fraction(value: float) -> float:
        return (1 / value - 1 / devices) / (1 - 1 / devices)

    # A larger speedup has a smaller fraction: the ends of the interval change places.
    low, high = (None if end is None else fraction(end) for end in (speedup.high, speedup.low))
    return Figure(value=fraction(speedup.value), low=low, high=high)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """The throughput of one series, by unit of statistics.

    Attributes:
      devices: the device counts, each once, rising.
      values: log throughput of each unit, one array for each device count. Paired values may be
        relative to any level of their unit.
      paired: whether entry i of all arrays is from the same group, in which the cells took turns;
        otherwise an entry is a run.
    """

    devices: tuple[int, ...]
    values: tuple[Array, ...]
    paired: bool

    @property
    def units(self) -> int:
        """Number of groups; without turns, of runs of the cell with fewest."""
        return min(len(values) for values in self.values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Moments:
    """Mean log throughput of each count, its weight (1 / variance), and degrees of freedom."""

    devices: Array
    mean: Array
    weight: Array
    degrees: float


def _moments(samples: Samples) -> _Moments:
    """Returns what a fit needs.

    In paired samples a group's own level cancels. The variance of a count is then from residuals
    about the means of groups and counts: with K counts, the mean square s_k of a count's residuals
    has the expectation v_k (1 - 2/K) + sum(v) / K^2 (Grubbs 1948).
    """
    counts = len(samples.devices)
    mean = np.array([values.mean() for values in samples.values])
    size = np.array([len(values) for values in samples.values], float)
    if samples.paired:
        table = np.stack(samples.values, axis=1)
        rest = table - table.mean(axis=1, keepdims=True)
        rest = rest - rest.mean(axis=0)
        square = (rest**2).sum(axis=0) / (len(table) - 1)
        total = square.sum() / (1 - 1 / counts)
        own = np.maximum(0.0, (square - total / counts**2) / (1 - 2 / counts))
        pooled, degrees = total / counts, (len(table) - 1.0) * (counts - 1)
    else:
        own = np.array([values.var(ddof=1) for values in samples.values])
        degrees = float((size - 1).sum())
        pooled = ((size - 1) * own).sum() / degrees
    variance = np.maximum((own + pooled) / 2, LEAST_SPREAD**2)
    return _Moments(
        devices=np.array(samples.devices, float),
        mean=mean,
        weight=size / variance,
        degrees=degrees,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to a series.

    Attributes:
      law: the law.
      parameters: name -> value with its interval.
      peak: number of devices with the largest speedup, by the law; infinite: more are always
        faster; 1: more than one never are. None except for USL.
      level: log throughput on one device by the fit, relative to the mean of the first count.
      p: p of the F test that the deviations from the law are noise.
      deviation: largest deviation of a mean from the law, as a share of its throughput.
      most_devices: largest measured device count.
      draws: parameters drawn from their uncertainty, shape (draws, parameters).
      tail: share of the draws beyond each end of a 95 % interval.
      method: how the intervals were made.
    """

    law: Law
    parameters: dict[str, Figure]
    peak: Figure | None
    level: float
    p: float
    deviation: float
    most_devices: int
    draws: Array = dataclasses.field(repr=False, compare=False)
    tail: float
    method: Literal["resampling", "covariance"]

    @property
    def fits(self) -> bool:
        """Whether deviations from the law are not shown to be more than noise."""
        return self.p > 1 - CONFIDENCE

    def speedup(self, devices: float) -> Figure:
        """Returns the speedup against one device that the law estimates, with its interval.

        Raises:
          ValueError: more than twice the largest measured device count, or less than one.
        """
        if not 1 <= devices <= EXTRAPOLATION * self.most_devices:
            raise ValueError(
                f"a law measured up to {self.most_devices} devices says nothing on {devices:g}: it "
                f"is extrapolated to {EXTRAPOLATION} times that number"
            )
        n = np.array([float(devices)])
        values = np.array([p.value for p in self.parameters.values()])
        value = math.exp(float(self.law.log_speedup(n, values)[0]))
        drawn = np.exp(self.law.log_speedup(n, self.draws.T))
        low, high = _ends(drawn, self.tail)
        return Figure(value=value, low=min(low, value), high=max(high, value))


def usl_peaks(contention: Array, coherence: Array) -> Array:
    """Returns N* = sqrt((1 - contention) / coherence), at least 1; infinite without coherence."""
    with np.errstate(divide="ignore", invalid="ignore"):
        peaks = np.sqrt((1 - contention) / coherence)
    found: Array = np.where(contention >= 1, 1.0, np.maximum(1.0, peaks))
    return found


def _ends(values: Array, tail: float) -> tuple[float, float]:
    """Returns the quantiles ``tail`` and 1 - ``tail``; of infinite values too."""
    ends = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(ends[0]), float(ends[1])


def _centered(values: Array, weight: Array) -> Array:
    """Returns values without their weighted mean over the counts (the first axis)."""
    found: Array = values - (weight @ values) / weight.sum()
    return found


def _residuals(law: Law, moments: _Moments, parameters: Array) -> Array:
    """Returns the weighted deviations of the means from the law, at its best level."""
    rest = moments.mean - law.log_speedup(moments.devices, parameters)
    found: Array = np.sqrt(moments.weight) * _centered(rest, moments.weight)
    return found


def _solve(law: Law, moments: _Moments, free: NDArray[np.bool_], start: Array) -> Array:
    """Returns the parameters with the smallest sum of squares; those that are not free stay.

    Args:
      free: which parameters change, shape (parameters,).
      start: values at which the search starts.
    """
    from scipy import optimize

    def at(values: Array) -> Array:
        parameters = start.copy()
        parameters[free] = values
        return _residuals(law, moments, parameters)

    found = start.copy()
    found[free] = optimize.least_squares(at, start[free], method="lm").x
    return found


def _within_bounds(law: Law, moments: _Moments, best: Array) -> tuple[Array, int]:
    """Returns the best parameters within their bounds, and how many are not at a bound.

    Args:
      best: the best parameters without bounds.
    """
    most = np.array(law.most)
    if ((best >= 0) & (best <= most)).all():
        return best, len(best)
    found = [(np.clip(best, 0.0, most), 0)] if len(best) == 1 else []
    for fixed in range(len(best)) if len(best) > 1 else ():
        free = np.arange(len(best)) != fixed
        edge = _solve(law, moments, free, np.where(free, law.start, 0.0))
        inside = bool((edge[free] >= 0).all())
        found.append((np.maximum(edge, 0.0), int(inside)))
    return min(found, key=lambda entry: (_residuals(law, moments, entry[0]) ** 2).sum())


def _covariance(law: Law, moments: _Moments, parameters: Array) -> Array:
    """Returns the covariance of the parameters, from the slope of the law at them."""
    slopes: list[Array] = []
    for index in range(len(parameters)):
        step = np.zeros(len(parameters))
        step[index] = 1e-5 * max(abs(parameters[index]), 1e-2)
        up, down = (
            law.log_speedup(moments.devices, parameters + sign * step) for sign in (1.0, -1.0)
        )
        slopes.append((up - down) / (2 * step[index]))
    design = _centered(np.stack(slopes, axis=1), moments.weight)
    found: Array = np.linalg.pinv((design * moments.weight[:, None]).T @ design).astype(float)
    return found


def fit(law: Law, samples: Samples) -> Fit:
    """Returns a law fitted to a series by weighted least squares on log throughput.

    With 8 groups or more (of runs that did not take turns: 8 of each cell), intervals are from 1000
    resamples of whole groups (runs), by percentiles widened for small numbers (Hesterberg 2015,
    "What Teachers Should Know About the Bootstrap", expanded percentile interval): simulated
    coverage with 8 and 12 groups 94 % on average. With fewer they are from the covariance and
    Student's t with half the degrees of freedom of the variances, since each weight is half its own
    variance. Neither knows the bounds of a parameter; the interval is then cut off at them.

    The goodness is an F test: the weighted sum of squared deviations, divided by its degrees of
    freedom. A chi-square test would treat the weights as known, and rejects a true law in 6 to 17 %
    of studies with 3 groups. A parameter at its bound was not free and takes no degree of freedom.

    Raises:
      ValueError: fewer than 4 device counts, or fewer than 3 groups or runs.
    """
    from scipy import stats

    if len(samples.devices) < LEAST_COUNTS or samples.units < LEAST_RUNS:
        raise ValueError(
            f"a law needs {LEAST_COUNTS} device counts and {LEAST_RUNS} groups or runs of each, "
            f"not {len(samples.devices)} and {samples.units}"
        )
    moments = _moments(samples)
    best = _solve(law, moments, np.full(len(law.start), True), np.array(law.start))
    values, free = _within_bounds(law, moments, best)
    degrees = len(samples.devices) - 1 - free
    square = float((_residuals(law, moments, values) ** 2).sum())
    rest = moments.mean - law.log_speedup(moments.devices, values)
    level = float(moments.weight @ rest / moments.weight.sum())

    covariance = _covariance(law, moments, best)
    if samples.units >= LEAST_RESAMPLED:
        draws, tail = _resampled(law, samples, moments, best)
        ends = np.array([_ends(column, tail) for column in draws.T])
    else:
        draws, tail = _drawn(best, covariance, moments.degrees / 2), (1 - CONFIDENCE) / 2
        half = t_quantile(moments.degrees / 2) * np.sqrt(np.diag(covariance))
        ends = np.stack([best - half, best + half], axis=1)
    most = np.array(law.most)
    draws = np.clip(draws, 0.0, most)
    ends = np.clip(ends, 0.0, most[:, None])
    return Fit(
        law=law,
        parameters={
            name: Figure(
                value=float(value), low=min(float(low), value), high=max(float(high), value)
            )
            for name, value, (low, high) in zip(law.parameters, values.tolist(), ends, strict=True)
        },
        peak=_peak(values, draws, tail) if law is USL else None,
        level=level - float(moments.mean[0]),
        p=float(stats.f.sf(square / degrees, degrees, moments.degrees)),
        deviation=float(np.expm1(np.abs(rest - level).max())),
        most_devices=max(samples.devices),
        draws=draws,
        tail=tail,
        method="resampling" if samples.units >= LEAST_RESAMPLED else "covariance",
    )


def _peak(values: Array, draws: Array, tail: float) -> Figure:
    value = float(usl_peaks(*values))
    low, high = _ends(usl_peaks(*draws.T), tail)
    return Figure(value=value, low=min(low, value), high=max(high, value))


def _drawn(center: Array, covariance: Array, degrees: float) -> Array:
    """Returns parameters drawn from a multivariate t distribution."""
    random = np.random.default_rng(0)
    normal = random.multivariate_normal(np.zeros(len(center)), covariance, _DRAWS, method="eigh")
    scale = np.sqrt(degrees / random.chisquare(degrees, _DRAWS))
    found: Array = center + normal * scale[:, None]
    return found


def _resampled(law: Law, samples: Samples, moments: _Moments, best: Array) -> tuple[Array, float]:
    """Returns the parameters of resampled series, with the share beyond each end of an interval."""
    from scipy import stats

    random = np.random.default_rng(0)
    every, n = np.full(len(best), True), samples.units
    draws = np.empty((RESAMPLES, len(best)))
    for index in range(RESAMPLES):
        chosen = random.integers(0, n, n)
        mean = np.array(
            [
                values[
                    chosen if samples.paired else random.integers(0, len(values), len(values))
                ].mean()
                for values in samples.values
            ]
        )
        draws[index] = _solve(law, dataclasses.replace(moments, mean=mean), every, best)
    tail = stats.norm.sf(math.sqrt(n / (n - 1)) * t_quantile(n - 1))
    return draws, float(tail)


def best_of(fits: list[Fit]) -> Fit | None:
    """Returns the first law that fits, as laws with fewer parameters come first; None: none fits.

    A law with more parameters is not taken because it is closer: it always is.
    """
    return next((found for found in fits if found.fits), None)
