"""Simulated studies judged by the product's functions, many at once."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from isoscale.common.analysis import allocation, answers, turns
from isoscale.common.analysis.turns import Array
from tests.benchmarks.noise import Noise, draw

MARGIN = answers.SAME_WITHIN
LEVEL = answers.LEVEL
STEP = math.log1p(MARGIN)

# Three frameworks; each has a cell of one device (0, 1, 2) and one of a strategy (3, 4, 5).
CELLS = 6
FRAMEWORKS = ((0, 1), (0, 2), (1, 2))
PLANNED = (*FRAMEWORKS, (0, 3), (1, 4), (2, 5))
"""Each framework against each other one, and each strategy against its base."""
EQUAL = (0.0,) * CELLS
AT_MARGIN = (0.0, STEP, STEP, STEP, 0.0, 0.0)
"""All planned pairs but one, (1, 2), differ by exactly the margin: 5 %."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """What became of the planned pairs of simulated studies; arrays of shape (studies, pairs).

    Attributes:
      covered: whether the interval has the true ratio.
      half: half-width of the interval, in log ratio.
      different, same: what was shown, after the correction over the pairs.
    """

    covered: Array
    half: Array
    different: Array
    same: Array


def differences(times: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """Returns log ratios by round, shape (studies, pairs, groups, rounds)."""
    first, second = np.transpose(pairs)
    return times[:, second] - times[:, first]


def judge(center: Array, error: Array, degrees: Array | int, truth: Array) -> Judged:
    """Returns the answers on pairs, from arrays of shape (studies, pairs)."""
    degrees = np.asarray(degrees)
    half = turns.t_quantile(float(degrees.flat[0])) * error
    p_different = answers.holm(turns.two_sided(center / error, degrees))
    p_same = answers.holm(answers.outside_margin(center, error, degrees, MARGIN))
    return Judged(
        covered=np.abs(center - truth) <= half,
        half=half,
        different=p_different <= LEVEL,
        same=p_same <= LEVEL,
    )


def truths(levels: tuple[float, ...], pairs: tuple[tuple[int, int], ...] = PLANNED) -> Array:
    """Returns the true log ratio of each pair."""
    return np.array([levels[b] - levels[a] for a, b in pairs])


def simulate(
    noise: Noise,
    random: np.random.Generator,
    *,
    studies: int,
    groups: int,
    rounds: int,
    levels: tuple[float, ...] = EQUAL,
    pairs: tuple[tuple[int, int], ...] = PLANNED,
) -> Judged:
    """Returns what becomes of studies with a fixed number of groups and rounds."""
    times = draw(noise, random, studies=studies, levels=levels, groups=groups, rounds=rounds)
    means = turns.trimmed_mean(differences(times, pairs))
    return judge(*turns.over_groups(means), truths(levels, pairs))


@dataclasses.dataclass(frozen=True)
class Stopped:
    """What became of studies with a wanted half-width.

    Attributes:
      judged: the answers when the study stops.
      groups: number of groups of each study.
      reached: whether all intervals of a study were narrow enough in time.
    """

    judged: Judged
    groups: Array
    reached: Array


def _after(means: Array, groups: Array) -> Array:
    """Returns the mean over the first groups of each study.

    Args:
      means: shape (studies, pairs, groups).
      groups: shape (studies,).
    """
    sums = np.cumsum(means, axis=-1)
    picked = np.take_along_axis(sums, (groups - 1)[:, None, None], axis=-1)[..., 0]
    return picked / groups[:, None]


def stein_stops(means: Array, truth: Array, *, first: int, target: float) -> Stopped:
    """Returns what Stein's rule makes of studies that may run for all groups.

    Args:
      means: log ratios, shape (studies, pairs, groups).
      truth: the true log ratio of each pair.
      first: number of groups of the first stage.
      target: 0.03: the ends of intervals are within 3 % of the ratio.
    """
    most = means.shape[-1]
    _, error, _ = turns.over_groups(means[..., :first])
    spread = error * math.sqrt(first)
    needed = allocation.groups_needed(spread, first, target).max(axis=1).astype(int)
    groups = np.minimum(most, needed)
    judged = judge(_after(means, groups), spread / np.sqrt(groups)[:, None], first - 1, truth)
    return Stopped(judged=judged, groups=groups, reached=needed <= most)


def naive_stops(means: Array, truth: Array, *, first: int, target: float) -> float:
    """Returns the coverage of usual intervals in studies that look after each group."""
    studies, pairs, most = means.shape
    going = np.ones(studies, bool)
    covered = np.zeros((studies, pairs), bool)
    for groups in range(first, most + 1):
        now = judge(*turns.over_groups(means[..., :groups]), truth)
        narrow = (now.half <= math.log1p(target)).all(axis=1)
        stops = going & (narrow | (groups == most))
        covered[stops] = now.covered[stops]
        going &= ~stops
    return float(covered.mean())


def covered_alone(ratios: Array) -> float:
    """Returns how often intervals from rounds have the ratio of these processes, which is 1."""
    center, error, degrees = turns.these_processes(ratios)
    half = np.vectorize(turns.t_quantile, otypes=[float])(degrees.round(1)) * error
    return float((np.abs(center) <= half).mean())


LOCATIONS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda values: values.mean(axis=-1),
    "median": lambda values: np.median(values, axis=-1),
    "trimmed": turns.trimmed_mean,
}


def run_intervals(
    random: np.random.Generator, studies: int, process: float, runs: int, *, change: float
) -> tuple[float, float, float]:
    """Returns the coverage of intervals from paired runs, of Welch's, and their lengths' ratio.

    Three equal cells; a run's own noise is 0.5 %; the speed drifts by ``change``.
    """
    from scipy import stats

    noise = Noise(process=process, window=0.005, correlation=0.0, stalls=0.0, stall=0.0)
    times = draw(
        noise, random, studies=studies, levels=(0.0,) * 3, groups=runs, rounds=1, change=change
    )[..., 0]
    a, b = times[:, 0], times[:, 1]
    center, error, degrees = turns.over_groups(b - a)
    paired = turns.t_quantile(float(degrees[0])) * error
    parts = np.stack([side.var(axis=1, ddof=1) / runs for side in (a, b)])
    freedom = parts.sum(axis=0) ** 2 / (parts**2 / (runs - 1)).sum(axis=0)
    welch = stats.t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(parts.sum(axis=0))
    off = np.abs(center)
    return (
        float((off <= paired).mean()),
        float((off <= welch).mean()),
        float(paired.mean() / welch.mean()),
    )
