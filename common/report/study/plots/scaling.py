"""The plot over the number of devices: speedup and efficiency, or throughput."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoscale.common.analysis.estimates import LEAST_RUNS, Estimate, Ratio
from isoscale.common.analysis.laws import EXTRAPOLATION, Fit
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.series_laws import SeriesLaws
from isoscale.common.analysis.settings import Setting
from isoscale.common.report.drawing.plot import Plot, add_hover
from isoscale.common.report.drawing.style import (
    Look,
    add_hollow,
    add_legend,
    error_bars,
    legend_entries,
    make_axes,
    text_width,
)
from isoscale.common.report.words import estimate, number, ratio

_MOST_LINEAR = 8
"""With more devices, the axes of scaling curves are logarithmic."""
_ESTIMATED: dict[str, Any] = {"linewidth": 1, "linestyle": (0, (4, 3)), "alpha": 0.8}
"""The dashed end of a curve, beyond the measured devices."""
_IDEAL: dict[str, Any] = {"color": "#777777", "linewidth": 0.8, "linestyle": (0, (1, 3))}


_CURVE_CAPTION = (
    "Vertical bars: 95 % intervals, for cells with 3 or more runs; a line connects only such "
    "cells. Hollow markers: devices shared cores; these cells show overhead, not scaling."
)


def scaling_plots(
    setting: Setting, all_looks: dict[str, Look], laws: Sequence[SeriesLaws]
) -> list[Plot]:
    """Returns the plot over the number of devices; [] if all cells have the same number.

    It shows speedup and efficiency. Without a ``bare`` cell to compare with, it shows throughput.
    A law of scaling that fits continues the speedup of its series, dashed.

    Args:
      setting: the setting.
      all_looks: series -> its look.
      laws: the laws of its series.
    """
    if len(_counts(setting)) < 2:
        return []
    if any(_speedup(cell) for _, cell in setting.cells):
        about = (
            f" Dashed: estimated, by the law of scaling, up to {EXTRAPOLATION} times the devices "
            "measured."
            if any(_continued(laws))
            else ""
        )
        return [
            Plot(
                slug=f"{setting.slug}_speedup",
                title=f"Speedup and efficiency: {setting.title}",
                caption="Speedup: examples per second, divided by those of bare on one device in "
                "the same framework. Efficiency: speedup divided by devices; the legend has both "
                f"for the most devices. {_CURVE_CAPTION} In the grey region, more devices are "
                f"slower than bare.{about}",
                draw=partial(_draw_speedup, setting, all_looks, laws),
            )
        ]
    return [
        Plot(
            slug=f"{setting.slug}_throughput",
            title=f"Throughput: {setting.title}",
            caption="Medians over runs (groups, where they took turns); the legend has those for "
            f"the most devices. "
            f"{_CURVE_CAPTION} There is no speedup: bare was not measured.",
            draw=partial(_draw_throughput, setting, all_looks),
        )
    ]


def _devices_axes(
    title: str, names: Sequence[str], counts: Sequence[int], label: str
) -> tuple[Figure, Axes]:
    right = text_width(names) + 0.35
    figure, axes = make_axes(title, 3.4, left=0.75, right=right)
    if counts[-1] > _MOST_LINEAR:
        # With two logarithmic axes the ideal remains a straight line.
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("devices")
    axes.set_ylabel(label)
    return figure, axes


def _set_bottom(axes: Axes, values: Sequence[float], ideal: float) -> None:
    """Starts a linear axis at 0; cuts off an ideal far above the data."""
    if axes.get_yscale() == "log":
        axes.set_ylim(bottom=0.7 * min(values))
    else:
        axes.set_ylim(0, 1.08 * min(ideal, max(2 * max(values), 0.5 * ideal)))


def _counts(setting: Setting) -> list[int]:
    return sorted(
        {cell.cell.devices for _, cell in setting.cells if cell.examples_per_second is not None}
    )


def _curves(
    setting: Setting,
    axes: Axes,
    all_looks: dict[str, Look],
    value_of: Callable[[CellSummary], tuple[float, Estimate | Ratio] | None],
    text_of: Callable[[CellSummary], str],
) -> None:
    """Draws a line for each series over the number of devices; hollow: cells with shared cores."""
    counts = _counts(setting)
    for index, (name, cells) in enumerate(setting.series.items()):
        points = [(cell, found) for cell in cells if (found := value_of(cell)) is not None]
        if not points:
            continue
        look = all_looks[name]
        # With fewer runs a line would show a course that nobody knows.
        known = all(len(cell.ok) >= LEAST_RUNS for cell, _ in points)
        # Series are shifted sideways a little: intervals then do not hide each other.
        place = index - (len(setting.series) - 1) / 2
        if axes.get_xscale() == "log":
            xs = [cell.cell.devices * 1.01**place for cell, _ in points]
        else:
            width = counts[-1] - counts[0]
            xs = [cell.cell.devices + 0.012 * width * place for cell, _ in points]
        ys = [value for _, (value, _) in points]
        axes.errorbar(
            xs,
            ys,
            yerr=error_bars([found for _, found in points], 1),
            linestyle=look.dash if known else "",
            marker=look.marker,
            color=look.color,
            markersize=5,
            linewidth=1.2,
            elinewidth=1,
        )
        for x, y, (cell, _) in zip(xs, ys, points, strict=True):
            add_hover(axes, x, y, f"{name}, {cell.cell.devices}: {text_of(cell)}")
        shared = [i for i, (cell, _) in enumerate(points) if cell.cell.oversubscribed]
        if shared:
            add_hollow(axes, xs, ys, shared, look)


def _throughput(cell: CellSummary) -> tuple[float, Estimate] | None:
    found = cell.examples_per_second
    return None if found is None else (found.median, found)


def _throughput_text(cell: CellSummary) -> str:
    return f"{estimate(cell.examples_per_second)} examples/s, n = {len(cell.ok)}"


def _speedup(cell: CellSummary) -> tuple[float, Ratio] | None:
    if cell.cell.strategy == "bare" or cell.speedup is None:  # bare is the line at 1
        return None
    return cell.speedup.value, cell.speedup


def _speedup_text(cell: CellSummary) -> str:
    percent = ratio(cell.efficiency, scale=100, digits=0)
    return f"speedup {ratio(cell.speedup)}, efficiency {percent} %, n = {len(cell.ok)}"


def _entries(
    setting: Setting,
    all_looks: dict[str, Look],
    value_of: Callable[[CellSummary], tuple[float, Estimate | Ratio] | None],
    text_of: Callable[[CellSummary], str],
) -> list[tuple[str, dict[str, Any]]]:
    """Returns (label, properties of its line) of each series; the label has its last value."""
    most = max(_counts(setting))
    drawn = {
        name: [cell for cell in cells if value_of(cell) is not None]
        for name, cells in setting.series.items()
    }
    entries = []
    for name, look in legend_entries(all_looks):
        if drawn[name]:
            last = drawn[name][-1]
            where = "" if last.cell.devices == most else f" on {last.cell.devices}"
            entries.append((f"{name}: {text_of(last)}{where}", look))
    return entries


def _draw_throughput(setting: Setting, all_looks: dict[str, Look], title: str) -> Figure:
    def text(cell: CellSummary) -> str:
        assert cell.examples_per_second is not None
        return number(cell.examples_per_second.median)

    counts, entries = _counts(setting), _entries(setting, all_looks, _throughput, text)
    names = [name for name, _ in entries]
    figure, axes = _devices_axes(title, names, counts, "examples/s")
    _curves(setting, axes, all_looks, _throughput, _throughput_text)
    values = [c.examples_per_second.median for _, c in setting.cells if c.examples_per_second]
    _set_bottom(axes, values, ideal=max(values))
    add_legend(axes, entries)
    return figure


def _continued(laws: Sequence[SeriesLaws]) -> Iterator[tuple[str, Fit, float]]:
    """Yields (series, its law, what turns a speedup of the law into one against bare)."""
    for entry in laws:
        if entry.best is not None and entry.first.speedup is not None:
            yield entry.series, entry.best, entry.first.speedup.value * math.exp(entry.best.level)


def _draw_laws(
    axes: Axes, laws: Sequence[SeriesLaws], all_looks: dict[str, Look]
) -> tuple[list[float], list[tuple[str, dict[str, Any]]]]:
    """Draws the dashed end of each series that has a law.

    Returns:
      The speedups at the ends, and the entry of the legend.
    """
    ends: list[float] = []
    for name, fit, scale in _continued(laws):
        most = EXTRAPOLATION * fit.most_devices
        xs = np.geomspace(fit.most_devices, most, 24).clip(max=most).tolist()
        ys = [scale * fit.speedup(x).value for x in xs]
        axes.plot(xs, ys, color=all_looks[name].color, **_ESTIMATED)
        end = fit.speedup(most)
        assert end.low is not None
        assert end.high is not None
        itself = f"{end.value:.2f} [{end.low:.2f}, {end.high:.2f}]"
        text = f"speedup {ys[-1]:.2f}; against itself on one device {itself}"
        add_hover(axes, xs[-1], ys[-1], f"{name}, {most}: estimated by {fit.law.name}, {text}")
        ends += ys
    return ends, [("estimated (laws)", {"color": "#555555", **_ESTIMATED})] if ends else []


def _draw_speedup(
    setting: Setting, all_looks: dict[str, Look], laws: Sequence[SeriesLaws], title: str
) -> Figure:
    def text(cell: CellSummary) -> str:
        assert cell.speedup is not None
        percent = 100 * cell.speedup.value / cell.cell.devices
        return f"{cell.speedup.value:.2f}x, {percent:.0f} %"

    counts, entries = _counts(setting), _entries(setting, all_looks, _speedup, text)
    grey = {"color": "#999999", "alpha": 0.3, "linewidth": 8}
    entries += [("ideal", _IDEAL), ("slower than bare", grey)]
    estimated = {EXTRAPOLATION * fit.most_devices for _, fit, _ in _continued(laws)}
    ticks = sorted({*counts, *estimated})
    names = [name for name, _ in entries]
    figure, axes = _devices_axes(title, names, ticks, "speedup against bare")
    axes.plot(ticks, ticks, **_IDEAL)
    axes.axhline(1, color="#555555", linewidth=0.8)
    _curves(setting, axes, all_looks, _speedup, _speedup_text)
    ends, more = _draw_laws(axes, laws, all_looks)
    values = [*ends, *(found[0] for _, cell in setting.cells if (found := _speedup(cell)))]
    _set_bottom(axes, values, ideal=max([ticks[-1], *values]))
    axes.axhspan(axes.get_ylim()[0], 1, color="#999999", alpha=0.18, linewidth=0)
    add_legend(axes, [*entries, *more])
    return figure
