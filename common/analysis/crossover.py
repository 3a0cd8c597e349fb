"""From which size on do several devices beat one: batch sizes, or sizes of a model.

At each size of a sweep the log ratio of throughputs, N devices against one, is estimated over
groups. Between two sizes it is taken to be a straight line over log size; the crossover is where it
crosses 0 *for good*: at all larger sizes measured the ratio is above 1. Nothing is extrapolated.

Which sizes pay is decided by the tests of the report, corrected for all its comparisons. The
interval of the crossover is from resampling: each of 4000 draws gives every size the log ratio
mean + error x T, where T has Student's t distribution with the degrees of freedom over its groups
(a parametric bootstrap of the groups' mean; Efron & Tibshirani 1993, "An Introduction to the
Bootstrap", ch. 6). Groups of different sizes are different processes at different times, so their
draws are independent. Drawing the groups themselves with replacement is too narrow: in the
simulation of `tests/benchmarks/crossovers.py` it covers 76 to 94 % at 3 to 8 groups, the draws used
95 to 99 %.

The curve between two sizes is not quite straight. Each draw is also crossed by a parabola with the
curvature that the neighbouring sizes show (the next term of Newton's interpolation); the interval
has the ends of both.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from isoscale.common.analysis.correction import Tested, Tests
from isoscale.common.analysis.estimates import CONFIDENCE
from isoscale.common.analysis.run_pairs import LEAST_PAIRS, ratio_of_runs, unpaired_ratio
from isoscale.common.analysis.scaling import CellSummary, runs_in_seconds, runs_together
from isoscale.common.analysis.sweeps import Member, Sweep
from isoscale.common.analysis.turns import Array, PairedRatio
from isoscale.common.analysis.verdicts import outcome_of

LEAST_SIZES = 3
DRAWS = 4000
_SEED = 0

Pays = Literal["pays", "does not pay", "makes no difference", "not decided", "unknown"]
PAYS: Pays = "pays"
PAYS_NOT: Pays = "does not pay"
NO_DIFFERENCE: Pays = "makes no difference"
UNDECIDED: Pays = "not decided"
UNKNOWN: Pays = "unknown"

Kind = Literal[
    "from a size on", "always", "never in the range measured", "not for good", "not decided",
    "too few sizes",
]  # fmt: skip
FROM_A_SIZE: Kind = "from a size on"
ALWAYS: Kind = "always"
NEVER: Kind = "never in the range measured"
NOT_FOR_GOOD: Kind = "not for good"
NOT_DECIDED: Kind = "not decided"
TOO_FEW: Kind = "too few sizes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """What is known of one size.

    Attributes:
      size: its place on the axis.
      center: mean log ratio of throughputs, several devices against one.
      error: its standard error.
      degrees: degrees of freedom of the error.
      pays: what the corrected test shows.
    """

    size: float
    center: float
    error: float
    degrees: float
    pays: Pays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossover:
    """The answer of a series of sizes.

    Attributes:
      kind: one of six answers. ``not for good``: several devices pay at some size, but are slower
        at the largest.
      value: the size from which several devices beat one; None for any other answer.
      low, high: its 95 % interval, within the sizes measured. If the answer is ``not decided``,
        what is known: the largest size below which they are not faster for good, and the smallest
        from which on they are; None: nothing.
      earlier: smaller sizes at which they pay, too, before they do not at a larger size.
      undecided: the sizes that keep the answer open.
    """

    kind: Kind
    value: float | None = None
    low: float | None = None
    high: float | None = None
    earlier: tuple[float, ...] = ()
    undecided: tuple[float, ...] = ()


def find(levels: Sequence[Level]) -> Crossover:
    """Returns from which size on several devices beat one.

    Args:
      levels: the sizes, rising; each was tested.
    """
    if len(levels) < LEAST_SIZES:
        return Crossover(kind=TOO_FEW)
    paying = [i for i, level in enumerate(levels) if level.pays == PAYS]
    losing = [i for i, level in enumerate(levels) if level.pays == PAYS_NOT]
    sizes = [level.size for level in levels]
    if len(paying) == len(levels):
        return Crossover(kind=ALWAYS)
    if len(losing) == len(levels):
        return Crossover(kind=NEVER)
    unknown = [i for i in range(len(levels)) if i not in (*paying, *losing)]
    last = losing[-1] if losing else -1
    earlier = tuple(sizes[i] for i in paying if i < last)
    if losing and levels[-1].pays == PAYS:
        value, low, high = crossover_of(levels)
        earlier = tuple(sizes[i] for i in paying if sizes[i] < value)
        return Crossover(kind=FROM_A_SIZE, value=value, low=low, high=high, earlier=earlier)
    if earlier and last == len(levels) - 1:
        return Crossover(kind=NOT_FOR_GOOD, earlier=earlier)
    first = len(levels)
    while first and levels[first - 1].pays == PAYS:
        first -= 1
    return Crossover(
        kind=NOT_DECIDED,
        low=sizes[last] if losing else None,
        high=sizes[first] if first < len(levels) else None,
        earlier=earlier,
        # Below a size that does not pay, an open size changes nothing, unless that is the largest.
        undecided=tuple(sizes[i] for i in unknown if i > last) or tuple(sizes[i] for i in unknown),
    )


def crossover_of(levels: Sequence[Level]) -> tuple[float, float, float]:
    """Returns the crossover of the means, and the ends of its 95 % interval.

    An end beyond the sizes measured becomes the smallest or the largest of them.

    Args:
      levels: at least 2 sizes, rising; the mean is at most 0 somewhere, and above 0 at the largest.
    """
    at = np.log([level.size for level in levels])
    center, error, degrees = (
        np.array([getattr(level, name) for level in levels])
        for name in ("center", "error", "degrees")
    )
    t = np.random.default_rng(_SEED).standard_t(degrees, size=(DRAWS, len(levels)))
    low, high = interval(at, center + error * t)
    value = float(crossings(at, center)[0])
    return math.exp(value), math.exp(min(low, value)), math.exp(max(high, value))


def interval(at: Array, draws: Array) -> tuple[float, float]:
    """Returns the ends of the 95 % interval of the crossover, in log size.

    Args:
      at: log sizes, shape (sizes,).
      draws: resampled log ratios, shape (draws, sizes).
    """
    cut = math.floor(len(draws) * (1 - CONFIDENCE) / 2)
    ordered = [np.sort(found) for found in crossings(at, draws)]
    low, high = min(o[cut] for o in ordered), max(o[-1 - cut] for o in ordered)
    return float(np.clip(low, at[0], at[-1])), float(np.clip(high, at[0], at[-1]))


def crossings(at: Array, ratios: Array) -> tuple[Array, Array]:
    """Returns the log size from which on log ratios stay above 0: straight, and along a parabola.

    It is -infinity if all are above 0, +infinity if the last is not.

    Args:
      at: log sizes, rising, shape (sizes,) with at least 2.
      ratios: log ratios, shape (..., sizes).
    """
    ratios = np.asarray(ratios)
    below = ratios <= 0
    last = len(at) - 1 - np.argmax(below[..., ::-1], axis=-1)
    left = np.minimum(last, len(at) - 2)
    slopes = np.diff(ratios, axis=-1) / np.diff(at)
    start = np.take_along_axis(ratios, left[..., None], axis=-1)[..., 0]
    slope = np.take_along_axis(slopes, left[..., None], axis=-1)[..., 0]
    ends = np.where(~below.any(axis=-1), -math.inf, math.inf)
    inside = below.any(axis=-1) & ~below[..., -1]
    a, b = at[left], at[left + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = a - start / slope
        bend = _bends(at, slopes)
        bend = np.take_along_axis(bend, left[..., None], axis=-1)[..., 0]
        curved = straight - bend * (straight - a) * (straight - b) / slope
    found = (np.where(inside, line, ends) for line in (straight, np.clip(curved, a, b)))
    return tuple(found)  # type: ignore[return-value]


def _bends(at: Array, slopes: Array) -> Array:
    """Returns the second divided difference of each segment, from its neighbours; 0 without one.

    Args:
      at: log sizes, shape (sizes,).
      slopes: of the segments, shape (..., sizes - 1).
    """
    each = np.diff(slopes, axis=-1) / (at[2:] - at[:-2])
    before, after = (
        np.pad(each, [(0, 0)] * (each.ndim - 1) + [pad], constant_values=np.nan)
        for pad in ((1, 0), (0, 1))
    )
    both = np.stack([before, after])
    known = ~np.isnan(both)
    found: Array = np.where(known, both, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One size of a curve.

    Attributes:
      member: the setting with its size.
      cell: the cell on several devices.
      base: the cell on one device that it is compared with.
      tested: the comparison, corrected with all others of the report.
    """

    member: Member
    cell: CellSummary
    base: CellSummary
    tested: Tested

    @property
    def pays(self) -> Pays:
        """What the test shows at this size."""
        outcome = outcome_of(self.tested.ratio, self.tested.p)
        if outcome == "faster":
            return PAYS
        if outcome == "slower":
            return PAYS_NOT
        if outcome == "no verdict":
            return UNKNOWN
        same = self.tested.p_same is not None and self.tested.p_same <= 1 - CONFIDENCE
        return NO_DIFFERENCE if same else UNDECIDED

    @property
    def level(self) -> Level | None:
        """The size for ``find``; None if it has no test."""
        ratio = self.tested.ratio
        if self.pays == UNKNOWN:
            return None
        # Of runs that followed each other, the ratio has neither error nor degrees.
        spread = ratio if isinstance(ratio, PairedRatio) else self._of_runs()
        assert spread.error is not None
        assert spread.degrees is not None
        return Level(
            size=self.member.size,
            center=math.log(ratio.value),  # of the judged ratio: its sign is that of ``pays``
            error=spread.error,
            degrees=spread.degrees,
            pays=self.pays,
        )

    def _of_runs(self) -> PairedRatio:
        """Returns the ratio of runs that followed each other, made as ``compared`` makes it."""
        runs = runs_together(self.cell, self.base)
        if len(runs) >= LEAST_PAIRS:
            return ratio_of_runs(*runs_in_seconds(self.cell, self.base, runs))
        sides = (cell.throughputs for cell in (self.cell, self.base))
        return unpaired_ratio(*([1 / value for value in side] for side in sides))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One series of a sweep on one number of devices.

    Attributes:
      series: its name within the settings.
      framework: its framework.
      devices: number of devices, above 1.
      base: strategy of the base on one device: ``bare`` or that of the series, the same at all
        sizes.
      points: by rising size.
      without_base: sizes at which the series was measured, but not this base.
    """

    series: str
    framework: str
    devices: int
    base: str
    points: list[Point]
    without_base: list[float]

    @property
    def levels(self) -> list[Level]:
        """The sizes that have a test."""
        return [level for point in self.points if (level := point.level) is not None]

    @functools.cached_property
    def answer(self) -> Crossover:
        """From which size on the devices beat one."""
        return find(self.levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepCurves:
    """A sweep with the curves of its series."""

    sweep: Sweep
    curves: list[Curve]


def curves_of(sweeps: Iterable[Sweep], tests: Tests) -> list[SweepCurves]:
    """Returns the curves of each sweep that has any: every series on every device count above 1.

    Cells whose devices share cores never count.

    Args:
      sweeps: the sweeps of a study.
      tests: the tests of the report, which get those of the curves.
    """
    found = [SweepCurves(sweep=sweep, curves=list(_curves(sweep, tests))) for sweep in sweeps]
    return [entry for entry in found if entry.curves]


_Measured = tuple[Member, CellSummary]


def _curves(sweep: Sweep, tests: Tests) -> Iterator[Curve]:
    measured: dict[tuple[str, int], list[_Measured]] = {}
    for member in sweep.members:
        for name, cells in member.setting.series.items():
            for cell in cells:
                if _counts(cell) and cell.cell.devices > 1:
                    measured.setdefault((name, cell.cell.devices), []).append((member, cell))
    for (name, devices), cells_of in sorted(measured.items()):
        pairs = _with_base(name, cells_of)
        if not pairs:
            continue
        based = {member.size for member, _, _ in pairs}
        yield Curve(
            series=name,
            framework=pairs[0][1].cell.framework,
            devices=devices,
            base=pairs[0][2].cell.strategy,
            points=[
                Point(member=member, cell=cell, base=base, tested=tests.ask(cell, base))
                for member, cell, base in pairs
            ],
            without_base=[member.size for member, _ in cells_of if member.size not in based],
        )


def _counts(cell: CellSummary) -> bool:
    """Whether a cell shows what devices add: it was successful, and no devices shared cores."""
    return bool(cell.valid) and not cell.cell.oversubscribed


def _with_base(
    series: str, measured: Sequence[_Measured]
) -> list[tuple[Member, CellSummary, CellSummary]]:
    """Returns the cells with their bases: bare, or the series on one device if that has more sizes.

    A curve with two kinds of bases would bend where they change.
    """
    bare = [(member, cell, cell.base) for member, cell in measured if cell.base is not None]
    itself = [
        (member, cell, base)
        for member, cell in measured
        for base in member.setting.series[series]
        if base.cell.devices == 1 and _counts(base)
    ]
    return itself if len(itself) > len(bare) else bare
