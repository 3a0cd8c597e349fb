"""The plot from stock to tuned: one bar for each step; each step adds a tweak."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.figure import Figure

from isoscale.common.analysis.estimates import Estimate
from isoscale.common.analysis.waterfall import Lanes, Waterfall
from isoscale.common.config.run_config import STOCK, TUNED
from isoscale.common.report.drawing.plot import Plot, add_hover
from isoscale.common.report.drawing.style import (
    ROWS_PER_PLOT,
    add_value,
    color_of,
    error_bars,
    make_axes,
    shortened,
    text_width,
)
from isoscale.common.report.study.tables.lanes import step_name
from isoscale.common.report.words import estimate, number


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bar:
    """A bar of a waterfall; start in seconds, ``estimate`` is None without a measurement."""

    name: str
    color: str
    start: float
    estimate: Estimate | None
    floats: bool


def _bars(waterfall: Waterfall, color: str) -> Iterator[_Bar]:
    """Yields the bars: stock and tuned start at 0, others at the end of the rung before."""
    before: float | None = None
    for step in waterfall.steps:
        if waterfall.tweaks and not step.added and step.lane == TUNED:
            break  # a tuned cell without added tweaks gets its bar below
        found = step.cell.step_seconds if step.cell is not None else None
        floats = bool(step.added) and before is not None
        name = step_name(waterfall, step).removesuffix(" = tuned")
        yield _Bar(
            name=f"{waterfall.name}: {name}" if step.lane == STOCK else name,
            color=color,
            start=before if floats and before is not None else 0.0,
            estimate=found,
            floats=floats,
        )
        before = found.median if found is not None else None
    if waterfall.tweaks:
        last = waterfall.cell(TUNED)
        found = last.step_seconds if last is not None else None
        yield _Bar(name=TUNED, color=color, start=0.0, estimate=found, floats=False)


def _draw_waterfalls(bars: Sequence[_Bar], title: str) -> Figure:
    left = text_width([bar.name for bar in bars])
    figure, axes = make_axes(title, max(1.6, 1.0 + 0.24 * len(bars)), left=left, right=0.7)
    for y, bar in enumerate(bars):
        if bar.estimate is None:
            axes.annotate("no result", (0, y), fontsize=7, va="center")
            continue
        end = bar.estimate.median
        axes.barh(
            y,
            1e3 * (end - bar.start),
            left=1e3 * bar.start,
            height=0.7,
            color=bar.color,
            alpha=0.45 if bar.floats else 0.9,
            # Hatching shows a longer step, also in grey print.
            hatch="////" if bar.floats and end > bar.start else None,
            edgecolor="black",
            linewidth=0.4,
        )
        axes.errorbar(
            1e3 * end,
            y,
            xerr=error_bars([(end, bar.estimate)], 1e3),
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2,
        )
        high = max(bar.start, end, bar.estimate.high or 0.0)
        change = number(end - bar.start, scale=1e3)
        value = f"{'+' if end > bar.start else ''}{change}" if bar.floats else change
        add_value(axes, 1e3 * high, y, value)
        text = f"{bar.name}: {estimate(bar.estimate, scale=1e3)} ms per step"
        add_hover(axes, 1e3 * end, y, f"{text}, n = {bar.estimate.n}")
    axes.set_yticks(range(len(bars)), [shortened(bar.name) for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("time per step, ms (left is better)")
    return figure


def waterfall_plots(lanes: Lanes, frameworks: Sequence[str]) -> list[Plot]:
    """Returns the plots of each number of devices; several plots if one lacks room for all bars."""
    plots = []
    for devices in sorted({waterfall.devices for waterfall in lanes.waterfalls}):
        bars: list[_Bar] = []
        for waterfall in lanes.waterfalls:
            if waterfall.devices == devices and any(step.measured for step in waterfall.steps):
                color = color_of(waterfall.framework, frameworks)
                bars += _bars(waterfall, color)
        for first in range(0, len(bars), ROWS_PER_PLOT):
            count = f"{devices} device{'s' if devices > 1 else ''}"
            title = f"{lanes.setting.title}, on {count}"
            suffix = f"_{first // ROWS_PER_PLOT + 1}" if first else ""
            plots.append(
                Plot(
                    slug=f"{lanes.setting.slug}_waterfall_{devices}{suffix}",
                    title=f"From stock to tuned: {title}",
                    caption="Medians over runs (groups, where they took turns); whiskers: 95 % "
                    "interval of the median (with 3 or more). A pale bar is the time that a tweak "
                    "saves against the rung before, a hatched bar the time that a tweak adds; the "
                    "number beside it is that time. This plot shows no verdicts; the verdicts are "
                    "in the table.",
                    draw=partial(_draw_waterfalls, bars[first : first + ROWS_PER_PLOT]),
                )
            )
    return plots
