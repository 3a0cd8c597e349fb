"""The same cells in two studies, and cells of one study against the first: four answers.

Two studies share no rounds, so their groups (without turns, their runs) are unpaired: the ratio of
a cell is Welch's, on logarithms of each group's typical time. The drift of the machine between the
studies is the same for all groups of a study: no number of groups brings it into the interval.

Cells of one study are paired where they can be: within rounds if they took turns in one setting,
otherwise runs with equal numbers (``run_pairs.py``).

All cells of a diff are one planned family: difference and equivalence are tested as in
``answers.py``, with the threshold as margin. A third test finds cells that are slower *by more than
the threshold*: throughput B / A below 1 / (1 + threshold). Its p (``answers.p_beyond``) is twice
the one-sided p of Student's t, corrected by Holm over all tested cells (a minimum-effect test:
Murphy & Myors 1999, "Testing the hypothesis that treatments have negligible effects", Journal of
Applied Psychology 84). Twice, because "faster by more than the threshold" is tested likewise.
Without the correction, p <= 0.05 means that the whole 95 % interval lies beyond the threshold. Each
of these p is at least that of the difference, so a cell that is shown to be slower by more than the
threshold is always shown to be different, and never to be the same.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from isoscale.common.analysis import pooling
from isoscale.common.analysis.answers import (
    DIFFERENT,
    DIFFERENT_WITHIN,
    LEVEL,
    NOT_DECIDED,
    SAME,
    Answered,
    answers,
    holm,
    p_beyond,
)
from isoscale.common.analysis.estimates import LEAST_RUNS, Ratio
from isoscale.common.analysis.run_pairs import LEAST_PAIRS, ratio_of_runs, unpaired_ratio
from isoscale.common.analysis.scaling import (
    CellSummary,
    rounds_together,
    runs_in_seconds,
    runs_together,
    unsound,
)
from isoscale.common.analysis.turns import PairedRatio, paired_ratio
from isoscale.common.config.cell import Cell
from isoscale.common.config.run_config import LADDER

Side = Literal["A", "B"]
Pairs = Sequence[tuple[CellSummary, CellSummary]]

_BY_TWEAKS = ("tweaks", "steps_per_dispatch")
"""Fields of a cell that tweaks set."""
_MAY_DIFFER = (*_BY_TWEAKS, "oversubscribed")
"""Fields in which a cell of another version or machine may differ and still be the same cell."""
_WORK = ("scenario", "model", "overrides", "dataset")
"""Fields that must be equal for two cells of one study to be compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matched:
    """The cells of two studies.

    Attributes:
      pairs: (cell of A, cell of B), in the order of A.
      only: ``A`` and ``B`` -> the cells that the other study lacks.
    """

    pairs: list[tuple[CellSummary, CellSummary]]
    only: dict[Side, list[CellSummary]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellDifference:
    """The comparison of two cells.

    Attributes:
      a, b: the cells.
      ratio: throughput of b / throughput of a; None if a cell has no successful run.
      answer: one of the four answers, with the threshold as margin.
      threshold: the threshold, for example 0.05.
      p: p that the ratio is 1, corrected over all cells; None without a test.
      p_beyond: p that the ratio is not beyond the threshold in the observed direction, corrected
        likewise; None without a test.
      why: why there is no test; "" with a test.
      throughputs: examples per second of a and b, of which the ratio is made; None likewise. Of
        paired cells the ratio is made of pairs, and theirs may differ from it.
    """

    a: CellSummary
    b: CellSummary
    ratio: Ratio | None
    answer: Answered
    threshold: float
    p: float | None
    p_beyond: float | None
    why: str
    throughputs: tuple[float | None, float | None]

    @property
    def beyond(self) -> bool:
        """Whether a difference of more than the threshold is shown."""
        return self.p_beyond is not None and self.p_beyond <= LEVEL

    @property
    def slower(self) -> bool:
        """Whether b is shown to be slower than a by more than the threshold."""
        return self.beyond and self.ratio is not None and self.ratio.value < 1

    @property
    def decided(self) -> bool:
        """Whether the answer is one of the other three."""
        return self.answer != NOT_DECIDED

    @property
    def text(self) -> str:
        """The answer in words."""
        within = f"{100 * self.threshold:g} %"
        if self.ratio is None or not self.decided:
            return f"not decided: {self.why}" if self.why else "not decided"
        if self.answer == SAME:
            return f"the same within {within}"
        word = "faster" if self.ratio.value > 1 else "slower"
        if self.answer == DIFFERENT_WITHIN:
            return f"{word}, but within {within}"
        assert self.answer == DIFFERENT
        return f"{word} by more than {within}" if self.beyond else word


def match(a: Sequence[CellSummary], b: Sequence[CellSummary]) -> Matched:
    """Returns the cells that two studies share.

    Cells match if all their fields are equal; fields that one version does not know have their
    default. Of the others, cells match that differ only in tweaks or in whether their devices
    shared cores, if each is the only such cell of its study: a later version may choose other
    tweaks for a lane, and another machine may have more cores. Steps of the ladder differ in their
    tweaks by definition: they match only if they are equal. A shared cell, whose runs are those of
    the stock cell, matches unless the other one is shared, too: that pair is the stock pair.

    Args:
      a, b: all cells of the two studies.
    """
    by_cell = {found.cell: found for found in b}
    partner = {x.cell: by_cell[x.cell] for x in a if x.cell in by_cell}
    taken = {found.cell for found in partner.values()}
    loose_a = _by_loose_key(x for x in a if x.cell not in partner)
    loose_b = _by_loose_key(x for x in b if x.cell not in taken)
    for key, found in loose_a.items():
        others = loose_b.get(key, [])
        if len(found) == len(others) == 1:
            partner[found[0].cell] = others[0]
            taken.add(others[0].cell)
    pairs = [(x, partner[x.cell]) for x in a if x.cell in partner]
    return Matched(
        pairs=[(x, y) for x, y in pairs if not (x.shared and y.shared)],
        only={
            "A": [x for x in a if x.cell not in partner],
            "B": [x for x in b if x.cell not in taken],
        },
    )


def _by_loose_key(cells: Iterable[CellSummary]) -> dict[str, list[CellSummary]]:
    found: dict[str, list[CellSummary]] = {}
    for summary in cells:
        if summary.cell.tuning != LADDER:
            found.setdefault(summary.cell.without(*_MAY_DIFFER), []).append(summary)
    return found


def fields_apart(a: Cell, b: Cell) -> dict[str, tuple[Any, Any]]:
    """Returns field -> (value of a, value of b), of the fields in which two cells differ."""
    names = [field.name for field in dataclasses.fields(Cell)]
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def other_work(a: Cell, b: Cell) -> list[str]:
    """Returns the fields in which two cells differ so that their throughputs mean nothing."""
    return [name for name in fields_apart(a, b) if name in _WORK]


def between(pairs: Pairs, *, threshold: float) -> list[CellDifference]:
    """Returns the comparison of each cell of A with the same cell of B, of another study.

    Args:
      pairs: (cell of A, cell of B).
      threshold: margin of equivalence, and of the test for slower cells.

    Raises:
      ValueError: the threshold is not positive.
    """

    def ratio_of(a: CellSummary, b: CellSummary) -> Ratio:
        first, second = (list(cell.seconds_per_example.values()) for cell in (a, b))
        return unpaired_ratio(second, first)

    def why_not(a: CellSummary, b: CellSummary) -> str | None:
        return _unfit(a, "A") or _unfit(b, "B")

    return _judged(pairs, ratio_of, why_not, threshold)


def within(pairs: Pairs, *, threshold: float) -> list[CellDifference]:
    """Returns the comparison of pairs of cells of one study.

    Args:
      pairs: (first cell, other cell).
      threshold: as for ``between``.

    Raises:
      ValueError: the threshold is not positive.
    """

    def ratio_of(a: CellSummary, b: CellSummary) -> Ratio:
        both = rounds_together(b, a)
        if both is not None:
            return paired_ratio(*both)
        runs = runs_together(b, a)
        if len(runs) >= LEAST_PAIRS:
            return ratio_of_runs(*runs_in_seconds(b, a, runs))
        sides = [list(cell.seconds_per_example.values()) for cell in (b, a)]
        return unpaired_ratio(*sides)

    return _judged(pairs, ratio_of, unsound, threshold)


def _unfit(cell: CellSummary, side: Side) -> str | None:
    """Returns why a cell must not be compared with that of another study; None: it may be."""
    if cell.mixed:
        return f"the runs of {side} differ in {pooling.names(cell.mixed)}"
    if cell.rounds is None and cell.disturbed == len(cell.ok):
        return f"all runs of {side} were disturbed from outside"
    return None


def _judged(
    pairs: Pairs,
    ratio_of: Callable[[CellSummary, CellSummary], Ratio],
    why_not: Callable[[CellSummary, CellSummary], str | None],
    threshold: float,
) -> list[CellDifference]:
    """Returns the comparisons, corrected together.

    Args:
      pairs: the cells.
      ratio_of: returns the ratio b / a of two cells; raises ValueError if no run counts.
      why_not: returns why two cells must not be compared; None: they may be.
      threshold: as for ``between``.
    """
    ratios: dict[int, Ratio] = {}
    reasons: dict[int, str] = {}
    for index, (a, b) in enumerate(pairs):
        if not (a.ok and b.ok):
            where = [side for side, cell in (("A", a), ("B", b)) if not cell.ok]
            reasons[index] = f"no successful run in {' and '.join(where)}"
            continue
        try:
            ratio = ratio_of(a, b)
        except ValueError:  # of no group enough rounds are valid
            reasons[index] = "all rounds of a cell were disturbed from outside"
            continue
        why = why_not(a, b)
        if why is None and (a.cell.oversubscribed or b.cell.oversubscribed):
            why = "devices shared cores"
        if why is not None:
            ratio = Ratio(value=ratio.value, low=None, high=None, n=ratio.n, unsound=why)
            reasons[index] = why
        elif ratio.p is None:
            reasons[index] = f"fewer than {LEAST_RUNS} {_units(a, b)}"
        ratios[index] = ratio
    tested = {index: r for index, r in ratios.items() if isinstance(r, PairedRatio)}
    found = answers(tested, {}, margin=threshold)
    with_p = {index: p_beyond(r, threshold) for index, r in tested.items() if r.p is not None}
    corrected = holm(np.array(list(with_p.values()))).tolist()
    beyond = dict(zip(with_p, corrected, strict=True))
    return [
        CellDifference(
            a=a,
            b=b,
            ratio=ratios.get(index),
            answer=found[index].text if index in found else NOT_DECIDED,
            threshold=threshold,
            p=found[index].p_different if index in found else None,
            p_beyond=beyond.get(index),
            why=reasons.get(index, ""),
            throughputs=_throughputs(a, b),
        )
        for index, (a, b) in enumerate(pairs)
    ]


def _units(a: CellSummary, b: CellSummary) -> str:
    return "runs" if a.rounds is None or b.rounds is None else "groups"


def _throughputs(a: CellSummary, b: CellSummary) -> tuple[float | None, float | None]:
    """Returns the geometric mean of each side's throughputs, or with few runs the medians."""
    sides = [[1 / s for s in cell.seconds_per_example.values()] for cell in (a, b)]
    few = min(map(len, sides)) < LEAST_RUNS

    def typical(values: list[float]) -> float | None:
        if not values:
            return None
        if few:
            return math.exp(statistics.median(map(math.log, values)))
        return statistics.geometric_mean(values)

    return typical(sides[0]), typical(sides[1])
