"""Plots with one row for each cell: time per step, latency, accuracy, memory, compile time."""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from matplotlib.figure import Figure

from isoscale.common.analysis.estimates import Estimate
from isoscale.common.analysis.scaling import CellSummary, step_seconds_of
from isoscale.common.analysis.settings import Setting
from isoscale.common.measure.result import Summary
from isoscale.common.report.drawing.plot import Plot, add_hover
from isoscale.common.report.drawing.style import (
    ROWS_PER_PLOT,
    Look,
    add_value,
    error_bars,
    make_axes,
    shortened,
    text_width,
)
from isoscale.common.report.words import accuracy, estimate, number
from isoscale.common.study.records import ResultLine


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellQuantity:
    """A quantity with one value for each run of a cell.

    Attributes:
      name: part of the file name.
      title: of the plot.
      label: of the axis, with the unit.
      scale: factor from the unit of a result to the unit of the axis.
      value_of: returns the value in a result line; None if not recorded.
      estimate_of: returns the estimate with the interval to draw; None for no interval.
      caption: explains the plot.
    """

    name: str
    title: str
    label: str
    scale: float
    value_of: Callable[[ResultLine], float | None]
    estimate_of: Callable[[CellSummary], Estimate | None]
    caption: str


_CAPTION = "A tick is one run, a marker the median over runs"
STEP_TIME = CellQuantity(
    name="step_time",
    title="Time per step",
    label="time per step, ms (left is better)",
    scale=1e3,
    value_of=step_seconds_of,
    estimate_of=lambda cell: cell.step_seconds,
    caption=f"{_CAPTION}; whiskers: 95 % interval of the median (with 3 or more runs). Of runs "
    "that took turns, a tick is one group: the trimmed mean over its valid rounds.",
)


def _latency(line: ResultLine) -> float | None:
    """Returns a run's latency; None if other programs disturbed all its rounds."""
    if step_seconds_of(line) is None:
        return None
    return (line.result.latency_seconds or Summary()).median


LATENCY = CellQuantity(
    name="latency",
    title="Latency of one step",
    label="latency of one step, ms (left is better)",
    scale=1e3,
    value_of=_latency,
    estimate_of=lambda cell: cell.latency_seconds,
    caption="Each run's median over windows of one synchronised step; the time per step comes "
    f"from windows of many steps. {_CAPTION}; whiskers: 95 % interval of the median (with 3 or "
    "more runs).",
)
ACCURACY = CellQuantity(
    name="accuracy",
    title="Accuracy on held-out data",
    label="accuracy, % of held-out labels",
    scale=100,
    value_of=lambda line: accuracy(line.result),
    estimate_of=lambda cell: None,
    caption=f"{_CAPTION}. The runs of a cell have different seeds.",
)
MEMORY = CellQuantity(
    name="memory",
    title="Memory",
    label="peak memory, MiB",
    scale=2**-20,
    value_of=lambda line: line.result.peak_memory_bytes,
    estimate_of=lambda cell: None,
    caption=f"{_CAPTION}. On CPU: peak resident memory, summed over processes, including the "
    "framework. On accelerators: the largest peak allocation of a device.",
)
COMPILE_TIME = CellQuantity(
    name="compile_time",
    title="Compile time",
    label="first step minus a median step, s",
    scale=1,
    value_of=lambda line: line.result.compile_seconds,
    estimate_of=lambda cell: None,
    caption=f"{_CAPTION}. With blocks of steps, the compilation and one run of a block are added. "
    f"Compilation caches on disk are off.",
)


def per_cell_plots(
    setting: Setting, quantity: CellQuantity, all_looks: dict[str, Look]
) -> Iterator[Plot]:
    """Yields the plots of one quantity; several plots for a setting with many cells."""
    entries = []
    for series, cells in setting.series.items():
        for cell in cells:
            values = [v for line in cell.ok if (v := quantity.value_of(line)) is not None]
            if values:
                mark = " (shared cores)" if cell.cell.oversubscribed else ""
                entries.append(
                    _Row(
                        name=f"{series}, {cell.cell.devices}{mark}",
                        series=series,
                        value=statistics.median(values),
                        estimate=quantity.estimate_of(cell),
                        runs=values,
                    )
                )
    for first in range(0, len(entries), ROWS_PER_PLOT):
        rows = entries[first : first + ROWS_PER_PLOT]
        suffix = f"_{first // ROWS_PER_PLOT + 1}" if first else ""
        yield Plot(
            slug=f"{setting.slug}_{quantity.name}{suffix}",
            title=f"{quantity.title}: {setting.title}",
            caption=f"{quantity.caption} Labels: framework, strategy, devices.",
            draw=partial(_draw_rows, rows, all_looks, quantity),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of the plot: one cell with its median, its estimate and the value of each run."""

    name: str
    series: str
    value: float
    estimate: Estimate | None
    runs: list[float]


def _draw_rows(
    rows: Sequence[_Row], all_looks: dict[str, Look], quantity: CellQuantity, title: str
) -> Figure:
    """Draws a marker with its interval and value for each cell, and a tick for each run."""
    left, scale = text_width([row.name for row in rows]), quantity.scale
    figure, axes = make_axes(title, max(1.6, 1.0 + 0.24 * len(rows)), left=left, right=0.7)
    ticks = [(scale * run, y) for y, row in enumerate(rows) for run in row.runs]
    axes.plot(*zip(*ticks, strict=True), "|", color="#555555", markersize=7)
    for series, group in itertools.groupby(enumerate(rows), key=lambda entry: entry[1].series):
        places = list(group)
        look = all_looks[series]
        axes.errorbar(
            [scale * row.value for _, row in places],
            [y for y, _ in places],
            xerr=error_bars([(row.value, row.estimate) for _, row in places], scale),
            fmt=look.marker,
            color=look.color,
            markersize=5,
            markeredgecolor="black",
            markeredgewidth=0.4,
        )
    for y, row in enumerate(rows):
        end = max([row.value, *row.runs, (row.estimate and row.estimate.high) or 0.0])
        value = number(row.value, scale=scale)
        text = estimate(row.estimate, scale=scale) if row.estimate else value
        add_value(axes, scale * end, y, value)
        add_hover(axes, scale * row.value, y, f"{row.name}: {text}, n = {len(row.runs)}")
    axes.set_yticks(range(len(rows)), [shortened(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(quantity.label)
    return figure
