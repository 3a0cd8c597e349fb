"""The table from stock to tuned: one row for each rung."""

from isoscale.common.analysis.estimates import LEAST_RUNS
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import cell_name
from isoscale.common.analysis.verdicts import evidence_text, ratio_text
from isoscale.common.analysis.waterfall import Lanes, Step, Waterfall
from isoscale.common.config.run_config import TUNED
from isoscale.common.report.words import (
    ALL_DISTURBED,
    JUDGED,
    NO_VALUE,
    SAME_CONFIGURATION,
    estimate,
    incomplete,
    joined,
    marks,
    same_configuration,
)

COLUMNS = (
    "framework",
    "rung",
    "runs",
    "time per step, ms",
    f"change to the rung before ({JUDGED})",
    "shown?",
    "marks",
)


def step_name(waterfall: Waterfall, step: Step) -> str:
    """Returns the name of a step, such as ``+ huge-pages``; the last name also contains tuned."""
    name = ", ".join(f"+ {tweak}" for tweak in step.added)
    if step.lane != TUNED:
        return name or step.lane
    if not name and waterfall.tweaks:
        return TUNED
    if step.same:
        return f"tuned = stock: {SAME_CONFIGURATION}"
    return f"{name} = tuned" if name else "tuned = stock: no tweak"


def _few(runs: int) -> str:
    return f" (no interval from {runs} run{'s' if runs > 1 else ''})"


def _seconds(cell: CellSummary | None) -> str:
    if cell is None:
        return "not measured"
    if cell.step_seconds is None:
        return f"no result: {joined(incomplete(cell)) or ALL_DISTURBED}"
    text = estimate(cell.step_seconds, scale=1e3)
    return text + (_few(len(cell.ok)) if len(cell.ok) < LEAST_RUNS else "")


def _change(found: Step | Waterfall) -> tuple[str, str]:
    """Returns the ratio and the verdict of a step, or of tuned against stock."""
    change = found.change if isinstance(found, Step) else found.total
    if found.same:
        return NO_VALUE, same_configuration(found.same)
    if change is None:
        return NO_VALUE, NO_VALUE
    ratio = ratio_text(change.ratio)
    if change.p is None:
        return ratio + _few(min(change.ratio.n)), change.answer
    return ratio, f"{change.answer} ({evidence_text(change.ratio, change.p)})"


def rows(lanes: Lanes) -> list[list[str]]:
    """Returns the rows of a setting's table; values in the order of ``COLUMNS``."""
    several = len({waterfall.devices for waterfall in lanes.waterfalls}) > 1
    found = []
    for waterfall in lanes.waterfalls:
        name = waterfall.name
        name = cell_name(name, waterfall.devices) if several else name
        for step in waterfall.steps:
            found.append(
                [
                    name,
                    step_name(waterfall, step),
                    str(len(step.cell.ok)) if step.cell else "0",
                    _seconds(step.cell),
                    *_change(step),
                    "; ".join(marks(step.cell)) if step.cell and not step.same else "",
                ]
            )
        if waterfall.total is not None and len(waterfall.steps) > 2:
            total = _change(waterfall)
            found.append([name, "tuned against stock", "", "", *total, ""])
    return found
