"""Simulates sweeps over a size with a planted crossover, and counts how often it is found.

A fake runner has cells on one device and on two at five sizes, each twice the one before. Its cells
take turns in groups, with the noise of recorded windows, processes that differ, and drift. Two
planted curves cross 1 at a random place between the second and the fourth size:

    line      log ratio = slope x log(size / crossover)
    overhead  one device takes c x size, two take c x size / 2 and a fixed time; at the crossover
              its slope is 1/2, and elsewhere it bends

The product's functions find the crossover; the tests of a study's sizes are corrected by Holm.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from isoscale.common.analysis import answers, crossover, turns
from isoscale.common.analysis.crossover import FROM_A_SIZE, PAYS, PAYS_NOT, UNDECIDED, Level
from isoscale.common.analysis.turns import Array
from tests.benchmarks.noise import Noise, draw

SIZES = 5
RATIO = 2.0
NEAR = math.log(1.1)
ROUNDS = 10
RESAMPLED = 500
"""Studies for which groups are drawn with replacement: enough to see that this is too narrow."""

Planted = Callable[[Array], Array]
"""log(size / crossover) -> log ratio of throughputs, two devices against one."""


def line(slope: float) -> Planted:
    return lambda place: slope * place


def overhead(place: Array) -> Array:
    found: Array = math.log(2) - np.log1p(np.exp(-place))
    return found


CURVES: dict[str, Planted] = {
    "line, slope 1/4": line(0.25),
    "line, slope 1/2": line(0.5),
    "overhead": overhead,
}


@dataclasses.dataclass(frozen=True)
class Found:
    """Shares of simulated studies.

    Attributes:
      answered: with a size as the answer.
      near: with a size as the answer that is within 10 % of the truth.
      covered: of the answered, with the truth in the interval; ``by_groups``: in the interval from
        groups drawn with replacement.
      width: median of the intervals' half-width, in log size.
      bias: mean log of size found / truth, of the answered.
    """

    answered: float
    near: float
    covered: float
    by_groups: float
    width: float
    bias: float


def levels_of(means: Array) -> list[Level]:
    """Returns the sizes of one study with the corrected answers.

    Args:
      means: log ratio of each group, shape (sizes, groups).
    """
    center, error, degrees = turns.over_groups(means)
    shown = answers.holm(turns.two_sided(center / error, degrees)) <= answers.LEVEL
    return [
        Level(
            size=RATIO**index,
            center=float(center[index]),
            error=float(error[index]),
            degrees=float(degrees[index]),
            pays=(PAYS if center[index] > 0 else PAYS_NOT) if shown[index] else UNDECIDED,
        )
        for index in range(len(means))
    ]


def by_groups(means: Array, random: np.random.Generator) -> tuple[float, float]:
    """Returns the interval of the log crossover from groups drawn with replacement."""
    sizes, groups = means.shape
    picked = random.integers(groups, size=(crossover.DRAWS, sizes, groups))
    drawn = np.take_along_axis(means[None], picked, axis=-1).mean(axis=-1)
    return crossover.interval(math.log(RATIO) * np.arange(sizes), drawn)


def simulate(
    noise: Noise, random: np.random.Generator, planted: Planted, *, studies: int, groups: int
) -> Found:
    """Returns how often the crossover of simulated studies is found."""
    at = math.log(RATIO) * np.arange(SIZES)
    truths = random.uniform(at[1], at[-2], size=studies)
    ratios = planted(at - truths[:, None])
    means = np.empty((studies, SIZES, groups))
    for index in range(SIZES):  # each size has groups of its own, at another time
        times = draw(
            noise, random, studies=studies, levels=(0.0, 0.0), groups=groups, rounds=ROUNDS
        )
        own = turns.trimmed_mean(times[:, 0] - times[:, 1])
        means[:, index] = own + ratios[:, index, None]
    found, truth, resampled = [], [], []
    for each, true in zip(means, truths, strict=True):
        answer = crossover.find(levels_of(each))
        if answer.kind != FROM_A_SIZE:
            continue
        ends = (answer.value, answer.low, answer.high)
        found.append([math.log(end) for end in ends if end is not None])
        truth.append(true)
        if len(resampled) < RESAMPLED:
            resampled.append(by_groups(each, random))
    value, low, high = np.transpose(found)
    off = value - np.array(truth)
    ends = np.array(resampled)
    ours = np.array(truth[: len(ends)])
    return Found(
        answered=len(found) / studies,
        near=float((np.abs(off) <= NEAR).sum() / studies),
        covered=float(np.mean((low <= truth) & (truth <= high))),
        by_groups=float(np.mean((ends[:, 0] <= ours) & (ours <= ends[:, 1]))),
        width=float(np.median((high - low) / 2)),
        bias=float(off.mean()),
    )


def rows(
    noises: Sequence[tuple[float, list[Noise]]],
    random: np.random.Generator,
    number: int,
    groups: Sequence[int] = (3, 4, 6, 8),
) -> Iterator[str]:
    """Yields the table.

    Args:
      noises: (how much processes differ, the noise of each recording).
      random: source of random numbers.
      number: number of studies for each line and recording.
      groups: numbers of groups.
    """
    yield (
        f"Crossovers planted at a random place in a sweep of {SIZES} sizes, each {RATIO:g} times "
        f"the one before; {ROUNDS} rounds a group. Found: the answer is a size, and within 10 % of "
        "the planted one. Coverage, of the answers with a size: of the product's interval (draws "
        "from Student's t and a curve through the neighbours), and of groups drawn with "
        "replacement (not used).\n"
    )
    yield (
        "| planted | processes differ by, % | groups | answered with a size, % "
        "| found within 10 %, % | coverage, % | coverage by drawn groups, % "
        "| half-width, median, % | bias, % |"
    )
    yield "|---" * 9 + "|"
    for name, (process, each), count in itertools.product(CURVES, noises, groups):
        found = [
            simulate(noise, random, CURVES[name], studies=number, groups=count) for noise in each
        ]
        columns = [
            f"{100 * float(np.mean([getattr(f, field) for f in found])):.1f}"
            for field in ("answered", "near", "covered", "by_groups", "width", "bias")
        ]
        yield f"| {name} | {100 * process:.0f} | {count} | {' | '.join(columns)} |"
