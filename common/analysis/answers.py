"""Four answers on a ratio from turns, with one correction over the planned comparisons.

A difference is shown by Student's t test over groups that the ratio is 1. Equivalence is shown by
two one-sided t tests on logarithms (Schuirmann 1987): the ratio is above 1 / (1 + margin), and
below 1 + margin. Both may hold: a difference that is real and too small to matter.

The planned comparisons are a family with strong control (Holm 1979, for every dependence): the
chance that at least one of them is called different falsely is at most 5 %, and so is the chance
that at least one is called the same falsely. All other pairs are exploratory: among those called
different, the expected share of false ones is at most 5 % (Benjamini & Yekutieli 2001).

A family is fixed before the data are seen. "The fastest against each other framework" is not, as
the data choose the fastest: the largest of all differences is then tested as if it were one of few.
The planned family therefore has all pairs of frameworks, of which the report may then show those
with the fastest. With three equal frameworks, Holm over the two pairs shown calls a difference in 6
to 7 % of simulated studies, over all three pairs in 5 %.
"""

import dataclasses
import math
from collections.abc import Hashable, Mapping
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from isoscale.common.analysis.estimates import CONFIDENCE, corrected
from isoscale.common.analysis.turns import Array, PairedRatio
from isoscale.common.study.records import SAME_WITHIN

LEVEL = 1 - CONFIDENCE
POWER = 0.8
MOST_MINUTES = 24 * 60
"""A prediction beyond one day is only "more than 24 hours"."""

Answered = Literal[
    "different",
    "different but within the margin",
    "the same within the margin",
    "not decided",
]
DIFFERENT: Answered = "different"
DIFFERENT_WITHIN: Answered = "different but within the margin"
SAME: Answered = "the same within the margin"
NOT_DECIDED: Answered = "not decided"

Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer on one pair of cells.

    Attributes:
      ratio: throughput of the first cell / throughput of the second.
      p_different: p that the ratio is 1, corrected; None with fewer than 3 groups.
      p_same: p that the ratio is outside the margin, corrected; None with fewer than 3 groups.
      margin: the margin of equivalence, for example 0.05.
      planned: whether the pair belongs to the planned comparisons.
    """

    ratio: PairedRatio
    p_different: float | None
    p_same: float | None
    margin: float
    planned: bool

    @property
    def text(self) -> Answered:
        """The answer in words."""
        different = self.p_different is not None and self.p_different <= LEVEL
        same = self.p_same is not None and self.p_same <= LEVEL
        if different:
            return DIFFERENT_WITHIN if same else DIFFERENT
        return SAME if same else NOT_DECIDED


def holm(p_values: Array) -> Array:
    """Returns p values corrected for their number by Holm's (1979) step-down method.

    Args:
      p_values: shape (..., comparisons); the last axis is one family.
    """
    count = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1)
    ordered = np.take_along_axis(p_values, order, axis=-1) * np.arange(count, 0, -1)
    ordered = np.minimum(1.0, np.maximum.accumulate(ordered, axis=-1))
    found = np.empty_like(ordered)
    np.put_along_axis(found, order, ordered, axis=-1)
    return found


def outside_margin(center: Array, error: Array, degrees: Array, margin: float) -> Array:
    """Returns the p of the two one-sided tests that a log ratio is outside +-log(1 + margin).

    It is the larger of the two p values, each one-sided at its own end of the margin.
    """
    from scipy import stats

    found: Array = stats.t.sf((math.log1p(margin) - np.abs(center)) / error, degrees)
    return found


def answers(
    planned: Mapping[Key, PairedRatio],
    exploratory: Mapping[Key, PairedRatio],
    *,
    margin: float = SAME_WITHIN,
) -> dict[Key, Answer]:
    """Returns the answer on each pair of cells.

    Ratios with fewer than 3 groups are not tested and are not part of a family.

    Args:
      planned: the comparisons that were fixed before the data.
      exploratory: all other pairs.
      margin: throughputs up to this share apart are called the same.

    Raises:
      ValueError: the margin is not positive, or a pair is in both.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be positive, not {margin!r}")
    if both := planned.keys() & exploratory.keys():
        raise ValueError(f"planned and exploratory at once: {sorted(map(str, both))}")
    found: dict[Key, Answer] = {}
    for family, is_planned in ((planned, True), (exploratory, False)):
        tested = {key: ratio for key, ratio in family.items() if ratio.p is not None}
        different = np.array([ratio.p for ratio in tested.values()])
        same = np.array([p_same(ratio, margin) for ratio in tested.values()])
        correct = holm if is_planned else (lambda p: np.array(corrected(p.tolist())))
        pairs = zip(correct(different).tolist(), correct(same).tolist(), strict=True)
        ps = dict(zip(tested, pairs, strict=True))
        for key, ratio in family.items():
            p_different, p_of_same = ps.get(key, (None, None))
            found[key] = Answer(
                ratio=ratio,
                p_different=p_different,
                p_same=p_of_same,
                margin=margin,
                planned=is_planned,
            )
    return found


def p_same(ratio: PairedRatio, margin: float) -> float:
    """Returns the uncorrected p that the ratio is outside the margin.

    Raises:
      ValueError: the ratio has fewer than 3 groups.
    """
    if ratio.error is None or ratio.degrees is None:
        raise ValueError("a ratio with fewer than 3 groups is not tested")
    center, error = np.array(math.log(ratio.value)), np.array(ratio.error)
    return float(outside_margin(center, error, np.array(ratio.degrees), margin))


def p_beyond(ratio: PairedRatio, margin: float) -> float:
    """Returns the uncorrected p that the ratio is not beyond the margin, on its own side of 1.

    It is twice the one-sided p of Student's t (a minimum-effect test, Murphy & Myors 1999): at 0.05
    it shows what the 95 % interval shows that lies beyond the margin as a whole. It is never below
    the p of a difference.

    Raises:
      ValueError: the ratio has fewer than 3 groups.
    """
    from scipy import stats

    if ratio.error is None or ratio.degrees is None:
        raise ValueError("a ratio with fewer than 3 groups is not tested")
    distance = abs(math.log(ratio.value)) - math.log1p(margin)
    return min(1.0, 2 * float(stats.t.sf(distance / ratio.error, ratio.degrees)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Minutes:
    """How long a study of the same kind must go on to decide.

    Attributes:
      low, high: minutes if the spread between groups is at the lower and at the upper end of its
        80 % interval; None: more than 24 hours.
    """

    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """The range in words, for example ``12 to 50 more minutes``."""
        cap = f"more than {MOST_MINUTES // 60} hours"
        if self.low is None:
            return cap
        low = f"{math.ceil(self.low)}"
        if self.high is None:
            return f"{low} more minutes to {cap}"
        high = f"{math.ceil(self.high)}"
        return f"{low} more minutes" if low == high else f"{low} to {high} more minutes"


def minutes_to_decide(
    ratio: PairedRatio, *, group_seconds: float, margin: float = SAME_WITHIN, family: int = 1
) -> Minutes:
    """Returns how many more minutes would decide a pair, with a power of 80 %.

    The prediction takes the observed ratio as the true one. The variance of group means has a
    chi-square interval (80 %); for each of its ends the smallest number of groups is found at which
    the difference or the equivalence has that power.

    Args:
      ratio: the pair, after at least 3 groups.
      group_seconds: seconds that one more group takes.
      margin: the margin of equivalence.
      family: number of comparisons that are corrected together (Holm's worst case).

    Raises:
      ValueError: the ratio has fewer than 3 groups.
    """
    from scipy import stats

    if ratio.error is None:
        raise ValueError("a prediction needs at least 3 groups")
    n = ratio.groups
    degrees = ratio.degrees or n - 1
    variance = ratio.error**2 * n
    ends = []
    for quantile in (0.9, 0.1):
        end = variance * degrees / float(stats.chi2.ppf(quantile, degrees))
        most = n + int(MOST_MINUTES * 60 / group_seconds)
        needed = groups_to_decide(abs(math.log(ratio.value)), end, margin, family, n + 1, most)
        ends.append(None if needed is None else (needed - n) * group_seconds / 60)
    return Minutes(low=ends[0], high=ends[1])


def groups_to_decide(
    shift: float, variance: float, margin: float, family: int, least: int, most: int
) -> int | None:
    """Returns the least number of groups with 80 % power to show a difference or equivalence.

    Args:
      shift: the true log ratio, not negative.
      variance: variance of group means.
      margin: the margin of equivalence.
      family: number of comparisons; each test has the level 0.05 / family.
      least, most: range of numbers that are tried.

    Returns:
      The number; None if it is above ``most``.
    """
    if most < least:
        return None
    numbers = np.arange(least, most + 1)
    enough = np.flatnonzero(power(shift, variance, margin, family, numbers) >= POWER)
    return int(numbers[enough[0]]) if enough.size else None


def power(
    shift: float, variance: float, margin: float, family: int, groups: NDArray[np.int64]
) -> Array:
    """Returns the chance to show a difference, or the one to show equivalence; the larger of them.

    From the noncentral t distribution; for equivalence the usual approximation of Owen's Q by the
    difference of two such probabilities (Julious 2004, "Sample sizes for clinical trials with
    normal data", section 5).

    Args:
      shift, variance, margin, family: as for ``groups_to_decide``.
      groups: numbers of groups.
    """
    from scipy import stats

    degrees, error = groups - 1, np.sqrt(variance / groups)

    def at(value: float) -> Array:
        # Beyond 30 standard errors the result is certain, and scipy's is not a number.
        return np.clip(value / error, -30.0, 30.0)

    level, width = LEVEL / family, math.log1p(margin)
    outer = stats.t.ppf(1 - level / 2, degrees)
    different = stats.nct.sf(outer, degrees, at(shift))
    inner = stats.t.ppf(1 - level, degrees)
    same = stats.nct.cdf(-inner, degrees, at(shift - width))
    same = same - stats.nct.cdf(inner, degrees, at(shift + width))
    found: Array = np.maximum(np.nan_to_num(different), np.nan_to_num(same))
    return found
