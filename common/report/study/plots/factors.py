"""The plot of factors: how throughput per device falls from one base case to the next."""

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure

from isoscale.common.analysis.factors import Factors
from isoscale.common.analysis.settings import Setting
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
from isoscale.common.report.study.answers.limits import share_text, times_text

_Row = tuple[Factors, int]
"""A cell, and the number of its factor; -1: its efficiency."""


def _name(row: _Row) -> str:
    found, index = row
    if index < 0:
        return "= efficiency"
    name = found.factors[index].name
    return f"x {name}" if index else f"{found.name}: {name}"


def _draw(rows: Sequence[_Row], frameworks: Sequence[str], title: str) -> Figure:
    names = [_name(row) for row in rows]
    figure, axes = make_axes(
        title, max(1.6, 1.0 + 0.24 * len(rows)), left=text_width(names), right=1.1
    )
    for y, (found, index) in enumerate(rows):
        color = color_of(found.cell.cell.framework, frameworks)
        ratio = found.efficiency if index < 0 else found.factors[index].ratio
        before = 1.0
        for factor in found.factors[: max(0, index)]:
            before *= factor.ratio.value
        end = ratio.value if index < 0 else before * ratio.value
        axes.barh(
            y,
            100 * (end if index < 0 else end - before),
            left=0 if index < 0 else 100 * before,
            height=0.7,
            color=color,
            alpha=0.9 if index < 0 else 0.45,
            # Hatching shows a gain, also in grey print.
            hatch="////" if index >= 0 and end > before else None,
            edgecolor="black",
            linewidth=0.4,
        )
        axes.errorbar(
            100 * end,
            y,
            xerr=error_bars([(ratio.value, ratio)], 100 * (1.0 if index < 0 else before)),
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2,
        )
        text = share_text(ratio) if index < 0 else times_text(found.factors[index].ratio)
        scale = 1.0 if index < 0 else before
        right = max(before if index >= 0 else 0.0, end, scale * (ratio.high or 0.0))
        add_value(axes, 100 * right, y, text)
        add_hover(axes, 100 * end, y, f"{found.name}, {names[y].strip(' x')}: {text}")
    axes.axvline(100, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [shortened(name) for name in names])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("throughput per device, % of the base on one device")
    return figure


def factor_plots(
    setting: Setting, found: Sequence[Factors], frameworks: Sequence[str]
) -> list[Plot]:
    """Returns the plots of a setting; several if one lacks room; [] without factors."""
    plots: list[Plot] = []
    pages: list[list[_Row]] = [[]]
    for factors in found:
        rows = [(factors, index) for index in (*range(len(factors.factors)), -1)]
        if len(pages[-1]) + len(rows) > ROWS_PER_PLOT:
            pages.append([])
        pages[-1] += rows
    for number, rows in enumerate(page for page in pages if page):
        plots.append(
            Plot(
                slug=f"{setting.slug}_factors{f'_{number + 1}' if number else ''}",
                title=f"What limits several devices: {setting.title}",
                caption="Read each cell from the top: throughput per device starts at 100 % (its "
                "base on one device), each factor multiplies it, and the last bar is the "
                "efficiency that was measured. Pale bars are what a factor takes, hatched ones "
                "what it adds. Whiskers: 95 % interval of each factor alone; with fewer than 3 "
                "groups it holds for these processes only.",
                draw=partial(_draw, rows, frameworks),
            )
        )
    return plots
