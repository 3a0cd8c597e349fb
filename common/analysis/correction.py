"""The tests of a report: one family, corrected together, so that no two sections contradict.

A report compares cells in several sections, and some pairs of cells in more than one. Each pair is
tested once, and all p values are corrected for the number of different pairs.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from isoscale.common.analysis.estimates import Ratio, corrected
from isoscale.common.analysis.scaling import CellSummary, compared

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tested:
    """The comparison of two cells.

    Attributes:
      ratio: throughput of the first cell / throughput of the second.
      p: Welch's p, corrected for all pairs of the report; None without a test.
    """

    ratio: Ratio
    p: float | None


_UNTESTED = Tested(ratio=Ratio(value=1.0, low=None, high=None, n=(0, 0)), p=None)
_Key = tuple[str, str]


class Tests:
    """Collects the pairs of cells that a report compares, then tests all of them at once."""

    def __init__(self) -> None:
        self._pairs: dict[_Key, tuple[CellSummary, CellSummary]] = {}
        self._answers: dict[_Key, Tested] | None = None

    @property
    def count(self) -> int:
        """Returns the number of tests."""
        return sum(answer.p is not None for answer in (self._answers or {}).values())

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
        return Tested(ratio=found.ratio.inverse(), p=found.p) if swapped else found

    def settle(self) -> None:
        """Tests all pairs; from now on ``ask`` knows the answers."""
        ratios = compared(list(self._pairs.values()))
        p_values = iter(corrected([ratio.p for ratio in ratios if ratio.p is not None]))
        self._answers = {
            key: Tested(ratio=ratio, p=None if ratio.p is None else next(p_values))
            for key, ratio in zip(self._pairs, ratios, strict=True)
        }


def in_one_family(make: Callable[[Tests], T]) -> tuple[T, Tests]:
    """Returns what ``make`` makes, with all tests that it asks for corrected together.

    Args:
      make: asks for tests in the same way in each call; it is called twice.
    """
    tests = Tests()
    make(tests)  # the correction needs all tests before it can answer the first
    tests.settle()
    return make(tests), tests


def _key(cell: CellSummary, other: CellSummary) -> tuple[_Key, bool]:
    """Returns a key that is the same in both orders, and whether the order was changed.

    A shared cell counts as the cell that has its runs: the same pair in two lanes is one test.
    """
    first, second = cell.measured.key, other.measured.key
    return ((second, first), True) if second < first else ((first, second), False)
