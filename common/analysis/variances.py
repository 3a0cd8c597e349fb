"""Variance within processes and between them, for the plan of a study and for its report.

A window's log time is a level of its cell, plus what its process has (memory layout, start-up),
plus noise of the window. Rounds average the noise; only fresh processes average the other part.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from isoscale.common.analysis import turns
from isoscale.common.analysis.turns import Array

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Components:
    """Where the variance of log ratios, or of log seconds, comes from.

    Attributes:
      within: long-run variance of one round: a group mean of R rounds has the variance within / R.
      between: variance between groups, which no number of rounds reduces; 0 with one group.
      groups: number of groups that the estimates are from.
    """

    within: float
    between: float
    groups: int

    def group_variance(self, rounds: float) -> float:
        """Returns the variance of the mean of one group with this number of rounds."""
        return self.between + self.within / rounds


def component_arrays(values: Array) -> tuple[Array, Array]:
    """Returns the variances within (of one round) and between groups; neither is negative.

    The one-way random-effects analysis of variance in its form for unequal numbers of rounds, by
    unweighted group means (Searle, Casella & McCulloch 1992, "Variance Components", ch. 3; Thomas &
    Hultquist 1978): between = variance of the group means - mean over groups of within / n, or 0.
    It is the form that belongs to an unweighted mean over groups. Two changes: group means are
    trimmed, with Yuen's variance; and ``within`` is multiplied by (1 + r) / (1 - r), where r is the
    lag-1 autocorrelation of rounds, since else correlated rounds would pass for process effects.

    Args:
      values: log ratios or log seconds, shape (..., groups, rounds); NaN: not valid.
    """
    r = turns.correlation(values)
    n = np.sum(~np.isnan(values), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = turns.round_variance(values) * ((1 + r) / (1 - r))[..., None]
    groups = np.sum(~np.isnan(each), axis=-1)
    within = np.nansum(each, axis=-1) / np.maximum(groups, 1)
    of_means = np.nansum(each / np.maximum(n, 1), axis=-1) / np.maximum(groups, 1)
    _, error, degrees = turns.over_groups(turns.trimmed_mean(values))
    spread = np.where(degrees > 0, error**2 * (degrees + 1), 0.0)
    return within, np.maximum(0.0, spread - of_means)


def components(groups: Mapping[int, Array]) -> Components:
    """Returns the variances of a pair of cells, or of one cell.

    Args:
      groups: group -> value of each round, NaN: not valid. ``turns.logs`` gives those of a pair.
        With the log seconds of one cell, drift of the machine is part of both variances.

    Raises:
      ValueError: no group has 3 valid rounds.
    """
    table = turns.counted(groups)
    if not len(table):
        raise ValueError(f"no group has {turns.LEAST_ROUNDS} valid rounds")
    within, between = (float(part) for part in component_arrays(table))
    return Components(within=within, between=between, groups=len(table))


def of_cells(pairs: Mapping[Pair, Components]) -> dict[str, Components]:
    """Returns the variances of each cell, without drift of the machine, from those of its pairs.

    The variance of a pair is the sum of those of its two cells (Grubbs 1948); all pairs together
    give the cells' by least squares, none negative. Two cells alone cannot be told apart: each gets
    half.

    Args:
      pairs: the variances of each pair of cells, each pair once.
    """
    from scipy import optimize

    names = sorted({name for pair in pairs for name in pair})
    if len(pairs) == 1:
        (only,) = pairs.values()
        half = dataclasses.replace(only, within=only.within / 2, between=only.between / 2)
        return dict.fromkeys(names, half)
    design = np.array([[float(name in pair) for name in names] for pair in pairs])
    within, between = (
        optimize.nnls(design, np.array([getattr(entry, part) for entry in pairs.values()]))[0]
        for part in ("within", "between")
    )
    return {
        name: Components(
            within=float(within[index]),
            between=float(between[index]),
            groups=min(entry.groups for pair, entry in pairs.items() if name in pair),
        )
        for index, name in enumerate(names)
    }
