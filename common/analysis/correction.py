"""The tests of a report: corrected together, so that no two sections contradict.

A report compares cells in several sections, and some pairs of cells in more than one. Each pair is
tested once. Pairs of runs that followed each other are one family. Pairs whose runs took turns are
tested for a difference and for equivalence (``answers.py``), in a family of planned comparisons and
one of all others.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

from isoscale.common.analysis import turns, variances
from isoscale.common.analysis.allocation import LEAST_FIRST_STAGE, STEIN, stein, stein_ratio
from isoscale.common.analysis.answers import SAME_WITHIN, answers
from isoscale.common.analysis.estimates import LEAST_RUNS, Ratio, corrected
from isoscale.common.analysis.scaling import CellSummary, compared, rounds_together
from isoscale.common.analysis.turns import PairedRatio, paired_ratio
from isoscale.common.analysis.variances import Components

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tested:
    """The comparison of two cells.

    Attributes:
      ratio: throughput of the first cell / throughput of the second.
      p: p that the ratio is 1, corrected for all pairs of its family; None without a test.
      p_same: p that the ratio is outside the margin of equivalence, corrected likewise; None
        without a test, and for runs that followed each other.
      planned: whether the comparison was planned before the data.
    """

    ratio: Ratio
    p: float | None
    p_same: float | None = None
    planned: bool = False


_UNTESTED = Tested(ratio=Ratio(value=1.0, low=None, high=None, n=(0, 0)), p=None)
_Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """How narrow a study makes its planned intervals (``--target_ci``).

    Attributes:
      groups: number of groups of the first stage.
      half_width: for example 0.03: the ends of an interval are within 3 % of the ratio.
    """

    groups: int
    half_width: float


class Tests:
    """Collects the pairs of cells that a report compares, then tests all of them at once."""

    def __init__(self, *, margin: float = SAME_WITHIN, target: Target | None = None) -> None:
        """Starts a family.

        Args:
          margin: throughputs up to this share apart are called the same.
          target: planned ratios have the intervals of Stein's rule; None: the usual ones.
        """
        self.margin = margin
        self.groups_needed = 0
        """Number of groups that the target needs; 0 without one, or before its first stage."""
        self._target = target
        self._planned: set[_Key] = set()
        self._pairs: dict[_Key, tuple[CellSummary, CellSummary]] = {}
        self._answers: dict[_Key, Tested] | None = None

    @property
    def count(self) -> int:
        """Returns the number of tests."""
        return sum(answer.p is not None for answer in (self._answers or {}).values())

    @property
    def planned(self) -> int:
        """Returns the number of comparisons that were planned before the data."""
        return len(self._planned)

    def ask(self, cell: CellSummary, other: CellSummary) -> Tested:
        """Returns the comparison of two cells; before all pairs are known, a placeholder.

        Raises:
          ValueError: both cells have the same runs: a cell is not compared with itself.
        """
        if cell.measured == other.measured and cell.cell != other.cell:
            raise ValueError(f"{cell.cell.id} and {other.cell.id} have the same runs")
        key, swapped = _key(cell, other)
        if self._answers is None:
            self._pairs[key] = (other, cell) if swapped else (cell, other)
            return _UNTESTED
        found = self._answers[key]
        return dataclasses.replace(found, ratio=found.ratio.inverse()) if swapped else found

    def plan(self, cell: CellSummary, other: CellSummary) -> None:
        """Notes a comparison that was planned before the data, also if no section shows it.

        Pairs of runs that followed each other have no planned family.
        """
        if rounds_together(cell, other) is None:
            return
        self.ask(cell, other)
        self._planned.add(_key(cell, other)[0])

    def settle(self) -> None:
        """Tests all pairs; from now on ``ask`` knows the answers."""
        ratios = dict(zip(self._pairs, compared(list(self._pairs.values())), strict=True))
        in_turns = {key: ratio for key, ratio in ratios.items() if isinstance(ratio, PairedRatio)}
        found = answers(
            {k: self._staged(k, ratio) for k, ratio in in_turns.items() if k in self._planned},
            {key: ratio for key, ratio in in_turns.items() if key not in self._planned},
            margin=self.margin,
        )
        others = [r.p for key, r in ratios.items() if key not in in_turns and r.p is not None]
        p_values = iter(corrected(others))
        self._answers = {
            key: Tested(
                ratio=found[key].ratio,
                p=found[key].p_different,
                p_same=found[key].p_same,
                planned=found[key].planned,
            )
            if key in in_turns
            else Tested(ratio=ratio, p=None if ratio.p is None else next(p_values))
            for key, ratio in ratios.items()
        }

    def _staged(self, key: _Key, ratio: PairedRatio) -> PairedRatio:
        """Returns a planned ratio with the interval that belongs to the target."""
        if self._target is None:
            return ratio
        both = rounds_together(*self._pairs[key])
        assert both is not None
        first, other = (
            {group: row for group, row in side.items() if group < self._target.groups}
            for side in both
        )
        try:
            stage = paired_ratio(first, other)
        except ValueError:  # all rounds of the first stage were disturbed
            return ratio
        if stage.groups < LEAST_FIRST_STAGE or ratio.groups < stage.groups:
            return ratio
        found = stein(stage, self._target.half_width)
        self.groups_needed = max(self.groups_needed, self._target.groups + found.more)
        return stein_ratio(ratio, found)

    def noise(self) -> list[Components]:
        """Returns the variances of each planned pair; without a planned pair, of all pairs.

        Pairs with fewer than 3 groups are left out.
        """
        found = []
        for key in sorted(self._planned or self._pairs):
            both = rounds_together(*self._pairs[key])
            logs = turns.logs(*both) if both else {}
            if len(turns.counted(logs)) >= LEAST_RUNS:
                found.append(variances.components(logs))
        return found

    def widest_planned(self) -> float | None:
        """Returns the largest half-width of a planned interval, as a share of the ratio.

        Infinite if a planned ratio has no interval of the target's rule; None without a planned
        ratio.
        """
        widths = [
            math.sqrt(answer.ratio.high / answer.ratio.low) - 1
            if isinstance(answer.ratio, PairedRatio)
            and answer.ratio.method == STEIN
            and answer.ratio.low
            and answer.ratio.high
            else math.inf
            for key, answer in (self._answers or {}).items()
            if key in self._planned
        ]
        return max(widths, default=None)


def in_one_family(
    make: Callable[[Tests], T], *, margin: float = SAME_WITHIN, target: Target | None = None
) -> tuple[T, Tests]:
    """Returns what ``make`` makes, with all tests that it asks for corrected together.

    Args:
      make: asks for tests in the same way in each call; it is called twice.
      margin, target: as for ``Tests``.
    """
    tests = Tests(margin=margin, target=target)
    make(tests)  # the correction needs all tests before it can answer the first
    tests.settle()
    return make(tests), tests


def _key(cell: CellSummary, other: CellSummary) -> tuple[_Key, bool]:
    """Returns a key that is the same in both orders, and whether the order was changed.

    A shared cell counts as the cell that has its runs: the same pair in two lanes is one test.
    """
    first, second = cell.measured.key, other.measured.key
    return ((second, first), True) if second < first else ((first, second), False)
