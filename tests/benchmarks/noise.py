"""Noise of windows: a model with parameters, their fit to recorded windows, and simulated studies.

log seconds of a window = level of the cell + effect of the process (normal)
                          + drift over the study (the same for all cells)
                          + noise of the window (normal, autocorrelated from round to round)
                          + now and then a stall (exponential)
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from isoscale.common.analysis import turns, variances
from isoscale.common.analysis.turns import Array, Rounds

STALL_SCORE = 4.0
"""A round this many (robust) standard deviations off the middle of its group has a stall."""
LEAST_SEEN = 0.1
"""Least share of stalls that is taken to be beyond the bound."""
DRIFT = 0.10
"""Change of speed over a study."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """Parameters of one cell's windows, in log seconds.

    Attributes:
      process: standard deviation of the effect of a process.
      window: standard deviation of a window without stalls.
      correlation: lag-1 autocorrelation of a cell's windows.
      stalls: probability of a stall in a window.
      stall: mean size of a stall.
    """

    process: float
    window: float
    correlation: float
    stalls: float
    stall: float


def fit(cells: Mapping[str, Rounds]) -> Noise:
    """Returns the parameters that belong to recorded windows of cells that took turns.

    They are from log ratios of pairs of cells, without drift of the machine; a cell has half of the
    variance of a pair, and half of its stalls. Parameters are averages over pairs.

    Args:
      cells: name -> group -> seconds per step of each round; at least 2 cells and 2 groups of
        5 rounds.

    Raises:
      ValueError: there is less.
    """
    found, bounds, offs = [], [], []
    for a, b in itertools.combinations(cells.values(), 2):
        table = turns.counted(turns.logs(a, b), least=turns.LEAST_ROUNDS_ALONE)
        if len(table) < 2:
            raise ValueError("a fit needs 2 groups of 5 rounds that are valid in both cells")
        r = float(turns.correlation(table))
        off = table - np.nanmedian(table, axis=1, keepdims=True)
        off = np.abs(off[~np.isnan(off)])
        # The middle of a group follows its rounds: their spread about it is a little too small.
        own = max(0.1, 1 - (1 + r) / (1 - r) / (off.size / len(table)))
        spread = 1.4826 * float(np.median(off)) / math.sqrt(own)
        _, between = variances.component_arrays(table)
        found.append((float(between) / 2, spread**2 / 2, r))
        bounds.append(STALL_SCORE * spread)
        offs.append(off)
    if not found:
        raise ValueError("a fit needs 2 cells")
    process, window, r = np.mean(found, axis=0).tolist()
    # An exponential size has no memory: its excess over any bound has the mean of the whole.
    beyond = np.concatenate(
        [off[off > bound] - bound for off, bound in zip(offs, bounds, strict=True)]
    )
    stall = float(beyond.mean()) if beyond.size else 0.0
    # Sizes far below the bound are the tail of the normal noise: few are added for them.
    seen = sum(
        2 * off.size * max(math.exp(-bound / stall), LEAST_SEEN) if stall else 1.0
        for off, bound in zip(offs, bounds, strict=True)
    )
    return Noise(
        process=math.sqrt(process),
        window=math.sqrt(window),
        correlation=r,
        stalls=min(0.5, beyond.size / seen),
        stall=stall,
    )


def draw(
    noise: Noise,
    random: np.random.Generator,
    *,
    studies: int,
    levels: Sequence[float],
    groups: int,
    rounds: int,
    change: float = DRIFT,
) -> Array:
    """Returns log seconds of simulated studies, shape (studies, cells, groups, rounds).

    In every second study the speed falls along a line, in the others it goes up and down in half a
    period to three, from a random point on.

    Args:
      noise: the parameters, the same for each cell.
      random: source of random numbers.
      studies, groups, rounds: numbers.
      levels: log seconds of each cell.
      change: how much the speed drifts over these groups.
    """
    cells = len(levels)
    shape = (studies, cells, groups, rounds)
    windows = random.normal(size=shape)
    keep = math.sqrt(1 - noise.correlation**2)
    for r in range(1, rounds):
        windows[..., r] = noise.correlation * windows[..., r - 1] + keep * windows[..., r]
    windows *= noise.window
    stalled = random.random(shape) < noise.stalls
    windows[stalled] += noise.stall * random.exponential(size=int(stalled.sum()))
    windows += noise.process * random.normal(size=(*shape[:3], 1))
    windows += np.asarray(levels)[:, None, None]
    # In each round the cells have a random order; the time goes from 0 to 1.
    place = np.argsort(random.random(shape), axis=1)
    start = np.arange(groups * rounds).reshape(groups, rounds)
    windows += change * drift((start + place / cells) / (groups * rounds), random)
    return windows


def drift(time: Array, random: np.random.Generator) -> Array:
    """Returns what the machine's drift adds to log seconds, per unit of change.

    Args:
      time: from 0 to 1, shape (studies, ...).
      random: source of the waves' lengths and starts.
    """
    found = time.copy()
    waves = found[1::2]
    shape = (len(waves), *[1] * (time.ndim - 1))
    periods, starts = random.uniform(0.5, 3, shape), random.uniform(0, 1, shape)
    waves[...] = 0.5 * np.sin(2 * np.pi * (periods * time[1::2] + starts))
    return found
