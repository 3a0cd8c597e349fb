"""The answer about stock and tuned as sentences: gaps, and the share that remains when tuned."""

import itertools
from collections.abc import Iterator, Sequence

from isoscale.common.analysis.verdicts import evidence_text, ratio_text
from isoscale.common.analysis.waterfall import Gap, LaneGap, Lanes, Waterfall
from isoscale.common.config.run_config import STOCK, TUNED
from isoscale.common.report.study.answers.setting import caveats, devices_text
from isoscale.common.report.words import (
    NOT_THE_QUOTIENT,
    SAME_CONFIGURATION,
    by_reason,
    joined,
    number,
)

INTRODUCTION = (
    "The rungs lead from stock (the installed packages, without tweaks) to tuned; each rung adds "
    "one tweak. A change is the examples per second of a rung, divided by those of the rung "
    "before: above 1, the tweak makes training faster. A change is called shown by the same rule "
    "as the other comparisons of this report, with p corrected for all tests of this report "
    "together. "
    "A gap is the throughput of the fastest framework, divided by that of the slowest. In both "
    "lanes, the same strategy stands for a framework: the one with the shortest median step in "
    "stock, chosen among its strategies with results in both lanes if there are any. The share "
    "of a gap that remains is log(gap in tuned) / log(gap in stock), because changes of speed "
    f"multiply. {NOT_THE_QUOTIENT}. "
    "If the tuned lane adds no tweak, tuned and stock are the same configuration: it is run once, "
    "both lanes have the same runs, and no test compares them."
)


def sentences(lanes: Lanes) -> list[str]:
    """Returns the sentences about a setting, the most important first."""
    if lanes.alarm:
        return [lanes.alarm]
    found = list(itertools.chain.from_iterable(_gap_sentences(gap) for gap in lanes.gaps))
    for waterfall in lanes.waterfalls:
        if waterfall.strays:
            cells = ", ".join("+".join(c.cell.tweaks or ["none"]) for c in waterfall.strays)
            found.append(
                f"These cells are not rungs from stock to tuned and are left out: "
                f"{waterfall.name} with {cells}."
            )
    if any(cell.cell.oversubscribed for _, cell in lanes.setting.cells):
        found.append(
            "Cells with shared cores (oversubscribed) are left out: these cells show overhead."
        )
    return found


def _gap_sentences(gap: Gap) -> Iterator[str]:
    where = f"On {devices_text(gap.devices)}"
    if gap.absent:
        names = joined([waterfall.name for waterfall in gap.absent])
        yield f"{where} the gap leaves out {names}: a result in stock or in tuned is missing."
    members = list(gap.members.values())
    if len(members) < 2:
        names = members[0].name if members else "none"
        yield f"{where} there is no gap to explain. Frameworks with results in both lanes: {names}."
    else:
        yield from _two_gaps(gap, where)
    if members:
        yield from _gains(members, where)
        cells = [
            (f"{waterfall.name} ({lane})", cell)
            for waterfall in members
            for lane in (STOCK, TUNED)
            if (cell := waterfall.cell(lane)) is not None and cell.shared is None
        ]
        listed = caveats(cells)
        if listed:
            yield f"But {joined(listed)}."


def _two_gaps(gap: Gap, where: str) -> Iterator[str]:
    yield f"{where}, stock: {_lane_text(gap, gap.stock, 'stock')}"
    if gap.same:
        ends = [gap.members[name].name for name in (gap.stock.order[0], gap.stock.order[-1])]
        yield (
            f"{where}, tuned: the comparison of {ends[0]} with {ends[1]} is that of stock, because "
            f"each is the {SAME_CONFIGURATION} in both lanes."
        )
    else:
        yield from _tuned_gap(gap, where)
    reversals = gap.reversals()
    if reversals:
        yield _order_text(gap, reversals, where)


def _tuned_gap(gap: Gap, where: str) -> Iterator[str]:
    """Yields the sentences about the gap in the tuned lane, and about the share that remains."""
    yield f"{where}, tuned: {_lane_text(gap, gap.tuned, 'tuned')}"
    stock, tuned = gap.stock.widest, gap.tuned.widest
    if stock.outcome == "no verdict" or tuned.outcome == "no verdict":
        yield f"{where} there are too few runs to say which share of the gap the tweaks explain."
    elif gap.left is None:
        yield f"{where} there is no gap to explain: no difference is shown in the stock lane."
    else:
        left = gap.left
        ends = f"interval {_percent(left.low)} to {_percent(left.high)} %, from the intervals of "
        ends += "the two gaps"
        if left.low <= 1 <= left.high:
            yield (
                f"{where} no change of the gap between the lanes is shown: the tuned gap is "
                f"{_percent(left.value)} % of the stock gap ({ends})."
            )
        elif left.value > 1:
            yield (
                f"{where} the gap is larger in the tuned lane: the tuned gap is "
                f"{_percent(left.value)} % of the stock gap ({ends})."
            )
        else:
            rest = "" if tuned.outcome == "faster" else "; no difference is shown in the tuned lane"
            yield (
                f"{where} {_percent(left.value)} % of the gap remains in the tuned lane ({ends}); "
                f"the tweaks explain the other {_percent(1 - left.value)} %{rest}."
            )


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _lane_text(gap: Gap, lane: LaneGap, name: str) -> str:
    """Returns the sentence about the fastest and the slowest framework of a lane."""

    def figures(framework: str) -> str:
        waterfall = gap.members[framework]
        cell = waterfall.cell(name)
        assert cell is not None
        assert cell.step_seconds is not None
        return f"{waterfall.name} ({number(cell.step_seconds.median, scale=1e3)} ms/step)"

    change = lane.widest
    fastest, slowest = figures(lane.order[0]), figures(lane.order[-1])
    evidence = evidence_text(change.ratio, change.p)
    ratio = f"{ratio_text(change.ratio)} ({evidence}{_quotient(gap, lane, name)})"
    if change.outcome == "no verdict":
        return f"there is no verdict between {fastest} and {slowest}: {ratio}."
    if change.outcome == "no difference shown":
        return f"no difference is shown between {fastest} and {slowest}: {ratio}."
    return f"the gap between {fastest} and {slowest} is {ratio}."


def _quotient(gap: Gap, lane: LaneGap, name: str) -> str:
    """Returns what the ratio is not, if the times shown beside it have another quotient."""
    fast, slow = (gap.members[lane.order[end]].cell(name) for end in (0, -1))
    if not (fast and slow and fast.step_seconds and slow.step_seconds):
        return ""
    quotient = f"{slow.step_seconds.median / fast.step_seconds.median:.2f}"
    if quotient == f"{lane.widest.ratio.value:.2f}":
        return ""
    return "; the judged ratio, not the quotient of the two medians"


def _order_text(gap: Gap, reversals: dict[tuple[str, str], bool], where: str) -> str:
    before, after = (", ".join(lane.order) for lane in (gap.stock, gap.tuned))
    text = f"{where} the order changes from {before} (stock) to {after} (tuned)"
    shown = [f"{a} against {b}" for (a, b), both in reversals.items() if both]
    if shown:
        return f"{text}; the difference is shown in both lanes for {joined(shown)}."
    return (
        f"{text}, but this change is not shown: for each pair that changed places, at least one "
        "lane shows no difference."
    )


def _gains(members: Sequence[Waterfall], where: str) -> Iterator[str]:
    """Yields the sentence about the effect of all tweaks together for each framework."""
    same = [(waterfall.name, waterfall.same) for waterfall in members if waterfall.same]
    if same:
        yield f"{where}, {SAME_CONFIGURATION} in stock and tuned: {by_reason(same)}."
    members = [waterfall for waterfall in members if not waterfall.same]
    if not members:
        return
    if not same and not any(waterfall.tweaks for waterfall in members):
        yield f"{where} the tuned lane has no tweaks for any framework."
        return
    parts = []
    for waterfall in members:
        change = waterfall.total
        if not waterfall.tweaks:
            parts.append(f"{waterfall.name} has no tweaks")
        elif change is not None:
            parts.append(f"{waterfall.name} {ratio_text(change.ratio)}, {change.answer}")
    yield f"{where}, all tweaks together against stock: {'; '.join(parts)}."
