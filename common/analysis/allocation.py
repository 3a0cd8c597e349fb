"""Divides the time of a study between groups and rounds, and says when it may stop."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.analysis.turns import (
    LEAST_ROUNDS,
    Array,
    PairedRatio,
    interval,
    t_quantile,
    two_sided,
)
from isoscale.common.analysis.variances import Components
from isoscale.common.study.pace import LEAST_ROUNDS as FEWEST_ROUNDS
from isoscale.common.study.pace import Pace

LEAST_FIRST_STAGE = 4
"""Least number of groups before the first look of a study with ``--target_ci``."""
STEIN = "Stein's two-stage interval (1945): t with the first stage's spread and degrees of freedom"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """How a study spends its time.

    Attributes:
      groups: number of groups of fresh processes.
      rounds: number of rounds in each of them.
      seconds: how long they take.
      half_width: expected half-width of a 95 % interval after all groups, in log ratio (0.02: about
        2 %).
    """

    groups: int
    rounds: int
    seconds: float
    half_width: float


def half_width(parts: Sequence[Components], rounds: Sequence[float]) -> float:
    """Returns the expected half-width of 95 % intervals, in log ratio (root mean square of pairs).

    It is t(G - 1) * sqrt(sum over the G groups of (between + within / rounds)) / G.

    Args:
      parts: the variances of each pair.
      rounds: number of rounds of each group.
    """
    within = sum(entry.within for entry in parts) / len(parts)
    between = sum(entry.between for entry in parts) / len(parts)
    groups = len(rounds)
    variance = groups * between + within * sum(1 / number for number in rounds)
    return t_quantile(groups - 1) * math.sqrt(variance) / groups


def split(
    parts: Sequence[Components],
    *,
    budget: float,
    start_seconds: float,
    round_seconds: float,
    least_groups: int = LEAST_RUNS,
    least_rounds: int = LEAST_ROUNDS,
    done: Sequence[int] = (),
) -> Split:
    """Returns the numbers of groups and rounds with the shortest expected intervals.

    Minimizes ``half_width`` while groups * (start_seconds + rounds * round_seconds) is within the
    budget. More rounds never widen an interval, so each number of groups has all rounds that fit,
    and all numbers of groups are tried. All pairs share groups and rounds. Their mean variance
    decides, not the widest pair: after few groups the largest of several estimates is mostly
    chance, and simulated plans that follow it lose twice as much.

    Args:
      parts: the variances of each planned pair.
      budget: seconds for all groups that are still to come.
      start_seconds: seconds until all processes of a group are warm, and for their end.
      round_seconds: seconds of one round of all cells.
      least_groups: 3, or 4 for ``stein``; those done count.
      least_rounds: of a group that is still to come.
      done: number of rounds of each group that has run already.

    Returns:
      The groups still to come; none if enough have run and no other fits into the budget.

    Raises:
      ValueError: not even the least numbers of groups and rounds fit into the budget.
    """
    least = start_seconds + least_rounds * round_seconds
    missing = max(0, least_groups - len(done))
    options = []
    if not missing:
        options.append(Split(groups=0, rounds=0, seconds=0.0, half_width=half_width(parts, done)))
    for groups in range(max(1, missing), int(budget / least + 1e-9) + 1):
        fitting = int((budget / groups - start_seconds) / round_seconds + 1e-9)
        rounds = max(least_rounds, fitting)
        options.append(
            Split(
                groups=groups,
                rounds=rounds,
                seconds=groups * (start_seconds + rounds * round_seconds),
                half_width=half_width(parts, (*done, *[rounds] * groups)),
            )
        )
    if not options:
        raise ValueError(
            f"{missing} groups of {least_rounds} rounds take {missing * least:.0f} seconds; "
            f"the budget is {budget:.0f} seconds"
        )
    return min(options, key=lambda option: option.half_width)


def pace(
    parts: Sequence[Components],
    *,
    done: Sequence[int],
    budget: float,
    start_seconds: float,
    round_seconds: float,
) -> Pace | None:
    """Returns how a study divides the rest of its time; None without a pair.

    Coverage of intervals over all groups, those of the first part among them, is simulated
    (tests/benchmarks/plans.py): group means have unequal variances, and the first part decides on
    the numbers.

    Args:
      parts: the variances of each planned pair.
      done, budget, start_seconds, round_seconds: as for ``split``; all groups done had the same
        number of rounds.
    """
    if not parts:
        return None
    found = split(
        parts,
        budget=max(0.0, budget),
        start_seconds=start_seconds,
        round_seconds=round_seconds,
        least_rounds=FEWEST_ROUNDS,
        done=done,
    )
    return Pace(
        first_groups=len(done),
        first_rounds=done[0],
        groups=found.groups,
        rounds=found.rounds,
        start_seconds=start_seconds,
        round_seconds=round_seconds,
        within_variance=sum(entry.within for entry in parts) / len(parts),
        between_variance=sum(entry.between for entry in parts) / len(parts),
        expected_half_width=found.half_width,
        pairs=len(parts),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstStage:
    """What the first groups of a study with ``--target_ci`` say about one planned ratio.

    Attributes:
      groups: number of groups of the first stage that count for this ratio.
      spread: their standard deviation, in log ratio.
      needed: number of groups that makes the ratio's interval as narrow as wanted.
    """

    groups: int
    spread: float
    needed: int

    @property
    def more(self) -> int:
        """Number of groups that are still needed after the first stage."""
        return self.needed - self.groups


def stein(ratio: PairedRatio, target: float) -> FirstStage:
    """Returns how many groups a ratio needs; to ask once, after the first stage of the study.

    Stein's (1945) two-stage rule: N = max(n0, ceil((t * s / d)^2)), with the standard deviation s
    of the n0 groups of the first stage, t with n0 - 1 degrees of freedom, and d = log(1 + target).
    With several planned ratios, the study adds the largest number of groups that one of them needs.

    ``stein_ratio`` then has a coverage of 95 %, exactly, for normal group means: the spreads of the
    first stage are independent of its means and of all later groups. Given these spreads, on which
    N depends, the mean of N groups is normal about the true ratio with variance sigma^2 / N; so
    (mean - truth) * sqrt(N) / s has Student's t distribution with n0 - 1 degrees of freedom. This
    holds for each of several ratios. It holds, too, if the time ends before group N: the number of
    groups that fit does not depend on the ratios. A look after each group with the usual interval
    has no such proof: it stops where the spread is small by chance.

    Args:
      ratio: the ratio over the groups of the first stage.
      target: for example 0.03: the ends of the interval are within 3 % of the ratio.

    Raises:
      ValueError: the target is not positive, or the ratio has fewer than 4 groups.
    """
    if not target > 0:
        raise ValueError(f"the target must be positive, not {target!r}")
    if ratio.groups < LEAST_FIRST_STAGE or ratio.error is None:
        raise ValueError(f"the first stage needs {LEAST_FIRST_STAGE} groups, not {ratio.groups}")
    spread = ratio.error * math.sqrt(ratio.groups)
    return FirstStage(
        groups=ratio.groups,
        spread=spread,
        needed=int(groups_needed(np.array(spread), ratio.groups, target)),
    )


def groups_needed(spread: Array, first: int, target: float) -> Array:
    """Returns Stein's N; see ``stein``. Takes an array of spreads of any shape."""
    width = t_quantile(first - 1) * spread / math.log1p(target)
    needed: Array = np.maximum(first, np.ceil(width**2 - 1e-9))
    return needed


def stein_ratio(ratio: PairedRatio, first: FirstStage) -> PairedRatio:
    """Returns a ratio over all groups with the interval and the p of Stein's rule.

    Valid after ``first.needed`` groups, and after any number that the time allowed.

    Args:
      ratio: the ratio over all groups of the study, those of the first stage among them.
      first: what ``stein`` said after the first stage.

    Raises:
      ValueError: the ratio has fewer groups than its first stage.
    """
    if ratio.groups < first.groups:
        raise ValueError(f"{ratio.groups} groups are fewer than the first stage's {first.groups}")
    error = first.spread / math.sqrt(ratio.groups)
    degrees = first.groups - 1
    low, high = interval(math.log(ratio.value), error, degrees)
    t = np.array(math.log(ratio.value) / error)
    return dataclasses.replace(
        ratio,
        low=low,
        high=high,
        p=float(two_sided(t, np.array(degrees))),
        error=error,
        degrees=degrees,
        method=STEIN,
    )
