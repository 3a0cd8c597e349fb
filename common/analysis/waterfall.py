"""Analyses the steps from stock to tuned, and the gap between frameworks that remains.

All ratios are ratios of throughput; the rule of verdicts applies to them.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from isoscale.common.analysis.correction import Tests, in_one_family
from isoscale.common.analysis.estimates import Ratio
from isoscale.common.analysis.losses import loss_spread
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting, split_into_settings
from isoscale.common.analysis.verdicts import Outcome, answer_text, outcome_of, speed
from isoscale.common.config.run_config import LADDER, STOCK, TUNED
from isoscale.common.study.records import Scalings

# Fields that may differ between the cells of a waterfall.
_TUNED = ("tuning", "tweaks", "compile_mode", "steps_per_dispatch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """The comparison of one cell with another cell.

    Attributes:
      ratio: throughput / throughput of the other cell; above 1 means faster.
      p: Welch's p, corrected for all changes of the study; None without a test.
      outcome: the verdict by ``verdicts.RULE``.
      answer: the outcome in words; one of four answers if the runs took turns.
    """

    ratio: Ratio
    p: float | None
    outcome: Outcome
    answer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A cell on the way from stock to tuned.

    Attributes:
      lane: ``stock``, ``ladder`` or ``tuned``.
      added: tweaks that the previous step lacks; several tweaks if the ladder was not measured.
      cell: the cell of this step; None if the study lacks it.
      change: comparison with the previous step; None for the first step, if a result is missing,
        or if both are the same configuration.
    """

    lane: str
    added: tuple[str, ...]
    cell: CellSummary | None
    change: Change | None

    @property
    def measured(self) -> bool:
        """Whether the step's cell has a successful run."""
        return self.cell is not None and bool(self.cell.valid)

    @property
    def same(self) -> str | None:
        """Why this tuned step is the same configuration as stock; None if it has its own runs."""
        return self.cell.shared.reason if self.cell and self.cell.shared else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waterfall:
    """The steps of one framework and strategy at one device count.

    Attributes:
      framework, strategy, devices: of all steps.
      steps: from stock (the first) to tuned (the last).
      total: comparison of tuned with stock; None if a result is missing, or if both are the same
        configuration.
      strays: cells outside the steps: a stock cell with tweaks, a rung whose tweaks are not the
        first ones of the tuned lane, or a second cell of a lane.
    """

    framework: str
    strategy: str
    devices: int
    steps: list[Step]
    total: Change | None
    strays: list[CellSummary]

    @property
    def name(self) -> str:
        """Framework and strategy, for example ``torch ddp``."""
        return f"{self.framework} {self.strategy}"

    @property
    def same(self) -> str | None:
        """Why tuned is the same configuration as stock; None if tuned has its own runs."""
        return self.steps[-1].same

    @property
    def tweaks(self) -> list[str]:
        """Names of the tweaks that the steps add, in order."""
        return [tweak for step in self.steps for tweak in step.added]

    def cell(self, lane: str) -> CellSummary | None:
        """Returns the cell of ``stock`` or ``tuned``; None if it has no result."""
        step = self.steps[0 if lane == STOCK else -1]
        return step.cell if step.measured else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneGap:
    """The speed differences between frameworks in one lane.

    Attributes:
      order: frameworks, the fastest first.
      changes: (faster framework, slower framework) -> comparison of the faster with the slower.
    """

    order: list[str]
    changes: dict[tuple[str, str], Change]

    @property
    def widest(self) -> Change:
        """Comparison of the fastest with the slowest framework; needs two frameworks."""
        return self.changes[self.order[0], self.order[-1]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemainingShare:
    """The share of a gap that remains when tuned: log(gap in tuned) / log(gap in stock).

    Attributes:
      value: 0: the gap is closed; 1: the gap is unchanged; above 1: the gap has grown.
      low, high: interval from the ends of the two gaps' 95 % intervals. Both gaps lie within their
        intervals in at least 90 % of studies, so this interval holds the share in at least 90 %.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """The frameworks at one device count, each with one strategy, the same in both lanes.

    It is the strategy with the shortest median step in stock, among those with results in both
    lanes if there are any.

    Attributes:
      devices: the device count.
      members: framework -> its waterfall; only frameworks with a result in both lanes.
      absent: waterfalls of the other frameworks: the result of a lane is missing.
      stock, tuned: speed differences in each lane.
      left: share of the stock gap that remains; None unless the stock lane shows a difference;
        None if both gaps are between the same configurations.
    """

    devices: int
    members: dict[str, Waterfall]
    absent: list[Waterfall]
    stock: LaneGap
    tuned: LaneGap
    left: RemainingShare | None

    @property
    def same(self) -> bool:
        """Whether the gaps of both lanes are between the same configurations: they are one gap."""
        ends = (self.stock.order[0], self.stock.order[-1])
        return (self.tuned.order[0], self.tuned.order[-1]) == ends and all(
            self.members[name].same for name in ends
        )

    def reversals(self) -> dict[tuple[str, str], bool]:
        """Returns the pairs (faster, slower) in stock that have the opposite order in tuned.

        The value of a pair says whether both lanes show the difference.
        """
        return {
            (a, b): change.outcome == self.tuned.changes[b, a].outcome == "faster"
            for (a, b), change in self.stock.changes.items()
            if (b, a) in self.tuned.changes
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lanes:
    """One setting in all its lanes.

    Attributes:
      setting: the setting with its cells of all lanes.
      waterfalls: one for each framework, strategy and device count; oversubscribed cells are left
        out.
      gaps: one for each device count.
      alarm: the reason why the cells must not be compared; None if they may be compared.
    """

    setting: Setting
    waterfalls: list[Waterfall]
    gaps: list[Gap]
    alarm: str | None

    @property
    def changes(self) -> Iterator[Change]:
        """All tested changes. May contain duplicates."""
        for waterfall in self.waterfalls:
            found = [*(step.change for step in waterfall.steps), waterfall.total]
            yield from (change for change in found if change is not None)
        for gap in self.gaps:
            yield from (*gap.stock.changes.values(), *gap.tuned.changes.values())


def compare_lanes(
    summaries: Sequence[CellSummary], *, scaling: Scalings, tests: Tests | None = None
) -> list[Lanes]:
    """Returns the settings that were measured in more than one lane.

    Tests every step against the previous step, tuned against stock, and every pair of frameworks in
    both lanes. Since every pair counts, the correction also covers the choice of the fastest and
    the slowest framework.

    Args:
      summaries: all cells of a study.
      scaling: as for ``split_into_settings``.
      tests: the tests of the report; None: those of the lanes are corrected by themselves.
    """
    if tests is None:
        own = in_one_family(lambda t: compare_lanes(summaries, scaling=scaling, tests=t))
        return own[0]

    def test(cell: CellSummary, other: CellSummary) -> Change:
        found = tests.ask(cell, other)
        outcome = outcome_of(found.ratio, found.p)
        answer = answer_text(found, outcome, tests.margin)
        return Change(ratio=found.ratio, p=found.p, outcome=outcome, answer=answer)

    return [
        _lanes(setting, test)
        for setting in split_into_settings(summaries, scaling=scaling, across_lanes=True)
        if _has_lanes({cell.cell.tuning for _, cell in setting.cells})
    ]


_Test = Callable[[CellSummary, CellSummary], Change]


def _has_lanes(lanes: set[str]) -> bool:
    return LADDER in lanes or {STOCK, TUNED} <= lanes


def _lanes(setting: Setting, test: _Test) -> Lanes:
    groups: dict[str, list[CellSummary]] = {}
    for _, cell in setting.cells:
        if not cell.cell.oversubscribed:
            groups.setdefault(cell.cell.without(*_TUNED), []).append(cell)
    waterfalls = [_waterfall(cells, test) for cells in groups.values()]
    counts = sorted({waterfall.devices for waterfall in waterfalls})
    return Lanes(
        setting=setting,
        waterfalls=waterfalls,
        gaps=[_gap(n, [w for w in waterfalls if w.devices == n], test) for n in counts],
        alarm=loss_spread(setting).alarm,
    )


def _waterfall(cells: Sequence[CellSummary], test: _Test) -> Waterfall:
    """Returns the waterfall of cells that differ in their tuning only."""
    of_lane: dict[str, list[CellSummary]] = {}
    for cell in cells:
        of_lane.setdefault(cell.cell.tuning, []).append(cell)
    rungs = of_lane.get(LADDER, [])
    stock = next((c for c in of_lane.get(STOCK, []) if not list(c.cell.tweaks)), None)
    tuned = max(of_lane.get(TUNED, []), key=lambda c: len(list(c.cell.tweaks)), default=None)
    highest = [tuned] if tuned is not None else rungs
    all_tweaks = max((list(cell.cell.tweaks) for cell in highest), key=len, default=[])
    # With a tuned cell, the last tweak belongs to the tuned step; without one, the last rung adds
    # it. Without a ladder, one step adds all tweaks.
    last = len(all_tweaks) if tuned is None else len(all_tweaks) - 1
    middle = range(1, last + 1) if rungs else range(0)
    plan: list[tuple[str, list[str], CellSummary | None]] = [(STOCK, [], stock)]
    for n in middle:
        found = (cell for cell in rungs if list(cell.cell.tweaks) == all_tweaks[:n])
        plan.append((LADDER, all_tweaks[n - 1 : n], next(found, None)))
    plan.append((TUNED, all_tweaks[len(middle) :], tuned))
    steps: list[Step] = []
    for lane, added, here in plan:
        change = _change(here, steps[-1].cell if steps else None, test)
        steps.append(Step(lane=lane, added=tuple(added), cell=here, change=change))
    used = [step.cell for step in steps]
    first = cells[0].cell
    return Waterfall(
        framework=first.framework,
        strategy=first.strategy,
        devices=first.devices,
        steps=steps,
        total=_change(tuned, stock, test),
        strays=[cell for cell in cells if not any(cell is other for other in used)],
    )


def _change(cell: CellSummary | None, other: CellSummary | None, test: _Test) -> Change | None:
    if cell is None or other is None or not cell.valid or not other.valid:
        return None
    if cell.measured == other.measured:
        return None  # one configuration with one set of runs: there is nothing to test
    return test(cell, other)


def _gap(devices: int, waterfalls: Sequence[Waterfall], test: _Test) -> Gap:
    def rank(waterfall: Waterfall) -> tuple[bool, float]:
        cell = waterfall.cell(STOCK)
        found = cell.step_seconds if cell else None
        incomplete = cell is None or waterfall.cell(TUNED) is None
        return incomplete, found.median if found else math.inf

    chosen: dict[str, Waterfall] = {}
    for waterfall in sorted(waterfalls, key=rank):
        chosen.setdefault(waterfall.framework, waterfall)
    members = {name: w for name, w in chosen.items() if w.cell(STOCK) and w.cell(TUNED)}
    stock, tuned = (_lane_gap(members, lane, test) for lane in (STOCK, TUNED))
    gap = Gap(
        devices=devices,
        members=members,
        absent=[waterfall for name, waterfall in chosen.items() if name not in members],
        stock=stock,
        tuned=tuned,
        left=None,
    )
    if len(members) < 2 or gap.same:
        return gap
    return dataclasses.replace(gap, left=_left(stock, tuned))


def _lane_gap(members: dict[str, Waterfall], lane: str, test: _Test) -> LaneGap:
    cells = {name: cell for name, w in members.items() if (cell := w.cell(lane)) is not None}
    order = sorted(cells, key=lambda name: speed(cells[name]), reverse=True)
    return LaneGap(
        order=order,
        changes={(a, b): test(cells[a], cells[b]) for a, b in itertools.combinations(order, 2)},
    )


def _left(stock: LaneGap, tuned: LaneGap) -> RemainingShare | None:
    whole, rest = stock.widest, tuned.widest
    if whole.outcome != "faster" or rest.outcome == "no verdict":
        return None
    assert whole.ratio.low is not None
    assert whole.ratio.high is not None
    assert rest.ratio.low is not None
    assert rest.ratio.high is not None
    if whole.ratio.low <= 1:  # shown, but rounding moved the low end to 1; log 1 is 0
        return None
    gap = math.log(whole.ratio.value)
    return RemainingShare(
        value=math.log(rest.ratio.value) / gap,
        # A gap is at least 0: the fastest of a lane is at least as fast as the slowest.
        low=max(0.0, math.log(rest.ratio.low)) / math.log(whole.ratio.high),
        high=math.log(rest.ratio.high) / math.log(whole.ratio.low),
    )
