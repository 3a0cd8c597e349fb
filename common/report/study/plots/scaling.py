"""Plots over the number of devices: throughput, speedup, efficiency."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoscale.common.analysis.estimates import Estimate, Ratio
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.drawing.style import (
    Look,
    add_legend,
    error_bars,
    legend_entries,
    make_axes,
    text_width,
)

_MOST_LINEAR = 8
"""With more devices, the axes of scaling curves are logarithmic."""
_IDEAL: dict[str, Any] = {"color": "#777777", "linewidth": 0.8, "linestyle": (0, (1, 3))}


_CURVE_CAPTION = (
    "Vertical bars: 95 % intervals, for cells with 3 or more runs. Hollow markers: devices shared "
    "cores; these cells show overhead, not scaling."
)


def scaling_plots(setting: Setting, all_looks: dict[str, Look]) -> list[Plot]:
    """Returns the plots over the number of devices; [] if all cells have the same number."""
    if len(_counts(setting)) < 2:
        return []
    plots = [
        Plot(
            slug=f"{setting.slug}_throughput",
            title=f"Throughput against devices: {setting.title}",
            caption=f"Medians over runs. {_CURVE_CAPTION} Dotted: the throughput of bare on one "
            "device, times the number of devices.",
            draw=partial(_draw_throughput, setting, all_looks),
        )
    ]
    if any(_speedup(cell) for _, cell in setting.cells if _throughput(cell)):
        plots += [
            Plot(
                slug=f"{setting.slug}_speedup",
                title=f"Speedup: {setting.title}",
                caption=f"{_CURVE_CAPTION} Speedup against the bare step of the same framework on "
                "one device. In the grey region, more devices are slower than one.",
                draw=partial(_draw_speedup, setting, all_looks),
            ),
            Plot(
                slug=f"{setting.slug}_efficiency",
                title=f"Efficiency: {setting.title}",
                caption=f"{_CURVE_CAPTION} Speedup divided by devices.",
                draw=partial(_draw_efficiency, setting, all_looks),
            ),
        ]
    return plots


def _devices_axes(
    setting: Setting, names: Sequence[str], counts: Sequence[int], label: str
) -> tuple[Figure, Axes]:
    right = text_width(names) + 0.35
    figure, axes = make_axes(setting.title, 3.4, left=0.75, right=right)
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
    *,
    scale: float = 1.0,
) -> None:
    """Draws a line for each series over the number of devices; hollow: cells with shared cores."""
    counts = _counts(setting)
    for index, (name, cells) in enumerate(setting.series.items()):
        look = all_looks[name]
        points = [(cell, found) for cell in cells if (found := value_of(cell)) is not None]
        if not points:
            continue
        # Series are shifted sideways a little: intervals then do not hide each other.
        place = index - (len(setting.series) - 1) / 2
        if axes.get_xscale() == "log":
            xs = [cell.cell.devices * 1.01**place for cell, _ in points]
        else:
            width = counts[-1] - counts[0]
            xs = [cell.cell.devices + 0.012 * width * place for cell, _ in points]
        ys = [scale * value for _, (value, _) in points]
        axes.errorbar(
            xs,
            ys,
            yerr=error_bars([found for _, found in points], scale),
            linestyle=look.dash,
            marker=look.marker,
            color=look.color,
            markersize=5,
            linewidth=1.2,
            elinewidth=1,
        )
        shared = [i for i, (cell, _) in enumerate(points) if cell.cell.oversubscribed]
        if shared:
            axes.plot(
                [xs[i] for i in shared],
                [ys[i] for i in shared],
                look.marker,
                color=look.color,
                markerfacecolor="white",
                markersize=5,
                zorder=3,
            )


def _throughput(cell: CellSummary) -> tuple[float, Estimate] | None:
    estimate = cell.examples_per_second
    return None if estimate is None else (estimate.median, estimate)


def _speedup(cell: CellSummary) -> tuple[float, Ratio] | None:
    return None if cell.speedup is None else (cell.speedup.value, cell.speedup)


def _efficiency(cell: CellSummary) -> tuple[float, Ratio] | None:
    return None if cell.efficiency is None else (cell.efficiency.value, cell.efficiency)


def _draw_throughput(setting: Setting, all_looks: dict[str, Look]) -> Figure:
    counts = _counts(setting)
    names = [*setting.series, "ideal: n x bare"]
    figure, axes = _devices_axes(setting, names, counts, "examples/s")
    _curves(setting, axes, all_looks, _throughput)
    top = 0.0
    for name, cells in setting.series.items():
        for cell in cells:
            base = cell.examples_per_second
            if cell.cell.strategy == "bare" and base is not None:
                ideal = [count * base.median for count in counts]
                top = max(top, ideal[-1])
                axes.plot(counts, ideal, **{**_IDEAL, "color": all_looks[name].color})
    values = [c.examples_per_second.median for _, c in setting.cells if c.examples_per_second]
    _set_bottom(axes, values, ideal=max([top, *values]))
    add_legend(axes, [*legend_entries(all_looks), ("ideal: n x bare", _IDEAL)])
    return figure


def _draw_speedup(setting: Setting, all_looks: dict[str, Look]) -> Figure:
    counts = _counts(setting)
    figure, axes = _devices_axes(
        setting, [*setting.series, "slower than bare"], counts, "speedup against bare"
    )
    axes.plot(counts, counts, **_IDEAL)
    axes.axhline(1, color="#555555", linewidth=0.8)
    _curves(setting, axes, all_looks, _speedup)
    values = [cell.speedup.value for _, cell in setting.cells if cell.speedup]
    _set_bottom(axes, values, ideal=max([counts[-1], *values]))
    axes.axhspan(axes.get_ylim()[0], 1, color="#999999", alpha=0.18, linewidth=0)
    grey = {"color": "#999999", "alpha": 0.3, "linewidth": 8}
    extra = [("ideal", _IDEAL), ("slower than bare", grey)]
    add_legend(axes, [*legend_entries(all_looks), *extra])
    return figure


def _draw_efficiency(setting: Setting, all_looks: dict[str, Look]) -> Figure:
    counts = _counts(setting)
    figure, axes = _devices_axes(
        setting, [*setting.series, "ideal: 100 %"], counts, "efficiency, % of n x bare"
    )
    axes.axhline(100, **_IDEAL)
    _curves(setting, axes, all_looks, _efficiency, scale=100)
    axes.set_yscale("linear")  # readers compare percentages from 0, with many devices too
    axes.set_ylim(bottom=0)
    add_legend(axes, [*legend_entries(all_looks), ("ideal: 100 %", _IDEAL)])
    return figure
