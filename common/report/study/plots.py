"""The plots of a report: legible in print, in grey and for colour-blind readers.

Colour says the framework (Okabe & Ito 2008); marker and dash tell all series of a plot apart by
themselves. Axes of sizes and times start at 0, but for curves over more than 8 devices.
"""

import dataclasses
import io
import itertools
import math
import multiprocessing
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isoscale.common.analysis.estimates import Estimate, Ratio
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import champions, speed
from isoscale.common.analysis.waterfall import Lanes, Waterfall
from isoscale.common.config.run_config import STOCK, TUNED
from isoscale.common.machine.cores import available_cores
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.study.lanes import step_name

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (7, 3)))
_MOST_LINEAR = 8
"""With more devices than that the axes of scaling curves are logarithmic."""
ROWS_PER_PLOT = 60
"""More rows than that go into a further plot: a page has no more."""

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.fonttype": "none",  # text stays text: searchable, small
    "svg.hashsalt": "isoscale",  # the same study gives the same file
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titley": 1.02,  # a title that has its place need not look for one
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot that can be drawn.

    Attributes:
      slug: file name without its ending.
      title: what it shows, with the setting.
      caption: how to read it.
      draw: makes the figure.
    """

    slug: str
    title: str
    caption: str
    draw: Callable[[], Figure]

    def render_svg(self) -> str:
        """Returns the SVG text alone."""
        with matplotlib.rc_context(_STYLE):
            return self._svg(self.draw())

    def _svg(self, figure: Figure) -> str:
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Title": self.title})
        return svg.getvalue()[svg.getvalue().index("<svg") :]

    def render(self) -> tuple[str, bytes]:
        """Returns the SVG text and the PNG bytes."""
        with matplotlib.rc_context(_STYLE):
            figure = self.draw()
            svg, png = self._svg(figure), io.BytesIO()
            # Larger files by a tenth, written in half the time.
            options = {"compress_level": 2}
            figure.savefig(png, format="png", metadata={"Title": self.title}, pil_kwargs=options)
        return svg, png.getvalue()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    color: str
    marker: str
    dash: str | tuple[int, tuple[int, ...]]


def looks(setting: Setting, frameworks: Sequence[str]) -> dict[str, _Look]:
    """Returns series -> how it is drawn; a framework has one colour in the whole report."""
    found: dict[str, _Look] = {}
    for index, (name, cells) in enumerate(setting.series.items()):
        framework = cells[0].cell["framework"]
        found[name] = _Look(
            color=COLORS[frameworks.index(framework) % len(COLORS)],
            marker=_MARKERS[index % len(_MARKERS)],
            dash=DASHES[index % len(DASHES)],
        )
    return found


_CHARACTER = 0.075
"""Inches that a character of a label needs, generously."""
_LONGEST = 60


def _brief(name: str) -> str:
    """A name that leaves room for the drawing."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _text_width(names: Sequence[str]) -> float:
    """Inches that the longest of some labels needs."""
    return 0.3 + _CHARACTER * max(len(_brief(name)) for name in names)


def _axes(
    title: str, height: float, *, left: float, right: float = 0.2, least: float = 3.4
) -> tuple[Figure, Axes]:
    """Returns a figure with one pair of axes; margins in inches, so that labels always fit.

    Args:
      title: above the axes, in as many lines as it needs.
      height: of the figure, with a title of one line.
      left, right: margins.
      least: width of the drawing itself.
    """
    width = max(6.4, left + least + right)
    lines = textwrap.wrap(title, int((width - left) / _CHARACTER)) or [""]
    bottom, top = 0.55, 0.2 + 0.16 * len(lines)
    height += 0.16 * (len(lines) - 1)
    figure = Figure(figsize=(width, height), dpi=110)
    box = (
        left / width,
        bottom / height,
        (width - left - right) / width,
        (height - bottom - top) / height,
    )
    axes = figure.add_axes(box)
    # Labels at fixed places: finding them takes a third of the time of a drawing.
    axes.xaxis.set_label_coords(0.5, -0.36 / (height - bottom - top))
    axes.yaxis.set_label_coords(-0.58 / (width - left - right), 0.5)
    axes.set_title("\n".join(lines))
    return figure, axes


def _errors(points: Sequence[tuple[float, Estimate | Ratio | None]], scale: float) -> list | None:
    """Returns distances to the ends of intervals, as errorbar wants them; NaN for none."""
    low, high = [], []
    for value, estimate in points:
        if estimate is None or estimate.low is None or estimate.high is None:
            low.append(math.nan)
            high.append(math.nan)
        else:
            # A mean of logs may lie outside an interval of medians by a rounding.
            low.append(max(0.0, scale * (value - estimate.low)))
            high.append(max(0.0, scale * (estimate.high - value)))
    return None if all(map(math.isnan, low)) else [low, high]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    series: str
    value: float
    estimate: Estimate | None
    runs: list[float]


def _draw_rows(
    setting: Setting,
    rows: Sequence[_Row],
    *,
    all_looks: dict[str, _Look],
    label: str,
    scale: float,
) -> Figure:
    """A marker with interval for each cell; every run is a small tick."""
    left = _text_width([row.name for row in rows])
    figure, axes = _axes(setting.title, max(1.6, 1.0 + 0.24 * len(rows)), left=left)
    ticks = [(scale * run, y) for y, row in enumerate(rows) for run in row.runs]
    axes.plot(*zip(*ticks, strict=True), "|", color="#555555", markersize=7)
    for series, group in itertools.groupby(enumerate(rows), key=lambda entry: entry[1].series):
        places = list(group)
        look = all_looks[series]
        axes.errorbar(
            [scale * row.value for _, row in places],
            [y for y, _ in places],
            xerr=_errors([(row.value, row.estimate) for _, row in places], scale),
            fmt=look.marker,
            color=look.color,
            markersize=5,
            markeredgecolor="black",
            markeredgewidth=0.4,
        )
    axes.set_yticks(range(len(rows)), [_brief(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    return figure


def _devices_axes(
    setting: Setting, names: Sequence[str], counts: Sequence[int], label: str
) -> tuple[Figure, Axes]:
    right = _text_width(names) + 0.35
    figure, axes = _axes(setting.title, 3.4, left=0.75, right=right)
    if counts[-1] > _MOST_LINEAR:
        # Both logarithmic: the ideal stays a straight line.
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("devices")
    axes.set_ylabel(label)
    return figure, axes


def _set_bottom(axes: Axes, values: Sequence[float], ideal: float) -> None:
    """Starts a linear axis at 0 and lets the ideal leave it where the data are far below."""
    if axes.get_yscale() == "log":
        axes.set_ylim(bottom=0.7 * min(values))
    else:
        axes.set_ylim(0, 1.08 * min(ideal, max(2 * max(values), 0.5 * ideal)))


def _legend(axes: Axes, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """A legend beside the axes, of (label, properties of a line).

    Made of plain lines: of error bars it would take a quarter of the time of a drawing.
    """
    axes.legend(
        handles=[Line2D([], [], label=_brief(label), **look) for label, look in entries],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        fontsize=8,
    )


def _line_entries(all_looks: dict[str, _Look]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, {"color": look.color, "marker": look.marker, "linestyle": look.dash})
        for name, look in all_looks.items()
    ]


_IDEAL: dict[str, Any] = {"color": "#777777", "linewidth": 0.8, "linestyle": (0, (1, 3))}


def _counts(setting: Setting) -> list[int]:
    return sorted(
        {cell.cell["devices"] for _, cell in setting.cells if cell.items_per_second is not None}
    )


def _curves(
    setting: Setting,
    axes: Axes,
    all_looks: dict[str, _Look],
    value_of: Callable[[CellSummary], tuple[float, Estimate | Ratio] | None],
    *,
    scale: float = 1.0,
) -> None:
    """A line for each series over device counts; cells that share cores are hollow."""
    counts = _counts(setting)
    for index, (name, cells) in enumerate(setting.series.items()):
        look = all_looks[name]
        points = [(cell, found) for cell in cells if (found := value_of(cell)) is not None]
        if not points:
            continue
        # Series are shifted a little sideways, so that intervals do not hide each other.
        place = index - (len(setting.series) - 1) / 2
        if axes.get_xscale() == "log":
            xs = [cell.cell["devices"] * 1.01**place for cell, _ in points]
        else:
            width = counts[-1] - counts[0]
            xs = [cell.cell["devices"] + 0.012 * width * place for cell, _ in points]
        ys = [scale * value for _, (value, _) in points]
        axes.errorbar(
            xs,
            ys,
            yerr=_errors([found for _, found in points], scale),
            linestyle=look.dash,
            marker=look.marker,
            color=look.color,
            markersize=5,
            linewidth=1.2,
            elinewidth=1,
        )
        shared = [i for i, (cell, _) in enumerate(points) if cell.cell["oversubscribed"]]
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
    estimate = cell.items_per_second
    return None if estimate is None else (estimate.median, estimate)


def _speedup(cell: CellSummary) -> tuple[float, Ratio] | None:
    return None if cell.speedup is None else (cell.speedup.value, cell.speedup)


def _efficiency(cell: CellSummary) -> tuple[float, Ratio] | None:
    return None if cell.efficiency is None else (cell.efficiency.value, cell.efficiency)


def _draw_throughput(setting: Setting, all_looks: dict[str, _Look]) -> Figure:
    counts = _counts(setting)
    names = [*setting.series, "ideal: n x bare"]
    figure, axes = _devices_axes(setting, names, counts, "examples/s")
    _curves(setting, axes, all_looks, _throughput)
    top = 0.0
    for name, cells in setting.series.items():
        for cell in cells:
            base = cell.items_per_second
            if cell.cell["strategy"] == "bare" and base is not None:
                ideal = [count * base.median for count in counts]
                top = max(top, ideal[-1])
                axes.plot(counts, ideal, **{**_IDEAL, "color": all_looks[name].color})
    values = [c.items_per_second.median for _, c in setting.cells if c.items_per_second]
    _set_bottom(axes, values, ideal=max([top, *values]))
    _legend(axes, [*_line_entries(all_looks), ("ideal: n x bare", _IDEAL)])
    return figure


def _draw_speedup(setting: Setting, all_looks: dict[str, _Look]) -> Figure:
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
    _legend(axes, [*_line_entries(all_looks), *extra])
    return figure


def _draw_efficiency(setting: Setting, all_looks: dict[str, _Look]) -> Figure:
    counts = _counts(setting)
    figure, axes = _devices_axes(
        setting, [*setting.series, "ideal: 100 %"], counts, "efficiency, % of n x bare"
    )
    axes.axhline(100, **_IDEAL)
    _curves(setting, axes, all_looks, _efficiency, scale=100)
    axes.set_yscale("linear")  # a percentage is read from 0, whatever the count of devices
    axes.set_ylim(bottom=0)
    _legend(axes, [*_line_entries(all_looks), ("ideal: 100 %", _IDEAL)])
    return figure


def _draw_latency(setting: Setting, all_looks: dict[str, _Look]) -> Figure:
    right = _text_width(list(setting.series)) + 0.35
    figure, axes = _axes(setting.title, 3.4, left=0.75, right=right)
    for name, cells in setting.series.items():
        look = all_looks[name]
        points = [
            (cell.items_per_second, cell.latency_seconds, cell.cell["devices"])
            for cell in cells
            if cell.items_per_second is not None and cell.latency_seconds is not None
        ]
        if not points:
            continue
        axes.errorbar(
            [throughput.median for throughput, _, _ in points],
            [1e3 * latency.median for _, latency, _ in points],
            xerr=_errors([(t.median, t) for t, _, _ in points], 1),
            yerr=_errors([(t.median, t) for _, t, _ in points], 1e3),
            fmt=look.marker,
            color=look.color,
            markersize=6,
            linewidth=0.8,
        )
        for throughput, latency, devices in points:
            axes.annotate(
                str(devices),
                (throughput.median, 1e3 * latency.median),
                textcoords="offset points",
                xytext=(6, 4),
                fontsize=7,
            )
    axes.set_xlim(0, 1.06 * axes.get_xlim()[1])
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
    axes.set_xlabel("throughput, examples/s (right is better)")
    axes.set_ylabel("latency of one step, ms (down is better)")
    entries = [(name, {**look, "linestyle": ""}) for name, look in _line_entries(all_looks)]
    _legend(axes, entries)
    return figure


LossCurves = list[tuple[str, str, list[int], list[float]]]
"""(cell name, series, steps, losses)."""


def _draw_loss(setting: Setting, curves: LossCurves, all_looks: dict[str, _Look]) -> Figure:
    names = [name for name, *_ in curves]
    height = max(3.4, 0.9 + 0.175 * len(curves))
    figure, axes = _axes(setting.title, height, left=0.75, right=_text_width(names) + 0.35)
    entries = []
    for index, (name, series, steps, losses) in enumerate(curves):
        look: dict[str, Any] = {
            "color": all_looks[series].color,
            "linestyle": all_looks[series].dash,
            # Later curves are thinner and lie on top: equal ones show as one banded line.
            "linewidth": 7.0 - 6.2 * index / max(1, len(curves) - 1),
        }
        axes.plot(steps, losses, **look)
        entries.append((name, look))
    axes.set_xlabel("training step")
    axes.set_ylabel("loss, nats")
    _legend(axes, entries)
    return figure


def draw_overview(settings: Sequence[Setting], frameworks: Sequence[str]) -> Figure:
    """The fastest cell of each framework, relative to the fastest of all, for each setting."""
    names = [setting.title for setting in settings]
    figure, axes = _axes(
        "The fastest cell of each framework",
        1.0 + 0.3 * len(settings),
        left=_text_width(names),
        right=1.2,
    )
    offset = 0.5 / max(1, len(frameworks))
    places: dict[str, list[tuple[float, float]]] = {name: [] for name in frameworks}
    for row, setting in enumerate(settings):
        speeds = {cell.cell["framework"]: speed(cell) for _, cell in reversed(champions(setting))}
        for framework, value in speeds.items():
            shift = offset * (frameworks.index(framework) - (len(frameworks) - 1) / 2)
            places[framework].append((100 * value / max(speeds.values()), row + shift))
    entries = []
    for index, (framework, points) in enumerate(places.items()):
        look: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": "",
            "markersize": 6,
        }
        axes.plot([x for x, _ in points], [y for _, y in points], **look)
        entries.append((framework, look))
    axes.set_yticks(range(len(settings)), [_brief(name) for name in names])
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlim(0, 105)
    axes.set_xlabel("examples/s, % of the fastest framework")
    _legend(axes, entries)
    return figure


def loss_curves(study: StudyData, setting: Setting) -> tuple[LossCurves, list[str]]:
    """Returns the loss of every step of one run of each cell, and what could not be read.

    The runs have the same number, and so the same seed, where there is one that all cells have.
    """
    cells = [(series, cell) for series, of in setting.series.items() for cell in of if cell.ok]
    runs = [{line["run"] for line in cell.ok} for _, cell in cells]
    common = set.intersection(*runs) if runs else set()
    batches = {cell.cell["global_batch_size"] for _, cell in cells}
    curves: LossCurves = []
    unreadable: list[str] = []
    for series, cell in cells:
        wanted = min(common) if common else min(line["run"] for line in cell.ok)
        line = next(line for line in cell.ok if line["run"] == wanted)
        name = f"{series}, {cell.cell['devices']}"
        name += f", batch {cell.cell['global_batch_size']}" if len(batches) > 1 else ""
        name += f" (run {line['run']})" if not common else ""
        try:
            known = [r for r in study.steps(line) if r["loss"] is not None]
        except (ValueError, KeyError, TypeError):
            unreadable.append(f"The loss curve of {name} is missing: its steps.jsonl is damaged.")
            continue
        if known:
            steps = [record["step"] for record in known]
            curves.append((name, series, steps, [record["loss"] for record in known]))
    return curves, unreadable


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RowKind:
    kind: str
    title: str
    label: str
    scale: float
    value_of: Callable[[dict], float | None]
    estimate_of: Callable[[CellSummary], Estimate | None]
    caption: str


_ROW_CAPTION = "Each tick is a run, each marker the median over runs"
_ROW_KINDS = (
    _RowKind(
        kind="step_time",
        title="Time per step",
        label="time per step, ms (left is better)",
        scale=1e3,
        value_of=lambda line: line["step_seconds"]["median"],
        estimate_of=lambda cell: cell.step_seconds,
        caption=f"{_ROW_CAPTION}; whiskers: 95 % interval of the median (none below 3 runs).",
    ),
    _RowKind(
        kind="accuracy",
        title="Accuracy on held-out data",
        label="accuracy, % of held-out labels",
        scale=100,
        value_of=lambda line: (line.get("eval") or {}).get("accuracy"),
        estimate_of=lambda cell: None,
        caption=f"{_ROW_CAPTION}. Runs of a cell differ in their seed.",
    ),
    _RowKind(
        kind="memory",
        title="Memory",
        label="peak memory, MiB",
        scale=2**-20,
        value_of=lambda line: line.get("peak_memory_bytes"),
        estimate_of=lambda cell: None,
        caption=f"{_ROW_CAPTION}. On CPU: peak resident memory summed over processes, the "
        "framework itself included. On accelerators: the largest device's peak allocation.",
    ),
    _RowKind(
        kind="compile_time",
        title="Compile time",
        label="first step less a median step, s",
        scale=1,
        value_of=lambda line: line.get("compile_seconds"),
        estimate_of=lambda cell: None,
        caption=f"{_ROW_CAPTION}. Caches on disk are off.",
    ),
)


def _row_plots(setting: Setting, kind: _RowKind, all_looks: dict[str, _Look]) -> Iterator[Plot]:
    entries = []
    for series, cells in setting.series.items():
        for cell in cells:
            values = [v for line in cell.ok if (v := kind.value_of(line)) is not None]
            if values:
                mark = " (shared cores)" if cell.cell["oversubscribed"] else ""
                entries.append(
                    _Row(
                        name=f"{series}, {cell.cell['devices']}{mark}",
                        series=series,
                        value=statistics.median(values),
                        estimate=kind.estimate_of(cell),
                        runs=values,
                    )
                )
    for first in range(0, len(entries), ROWS_PER_PLOT):
        rows = entries[first : first + ROWS_PER_PLOT]
        suffix = f"_{first // ROWS_PER_PLOT + 1}" if first else ""
        yield Plot(
            slug=f"{setting.slug}_{kind.kind}{suffix}",
            title=f"{kind.title}: {setting.title}",
            caption=f"{kind.caption} Label: framework, strategy, devices.",
            draw=partial(
                _draw_rows,
                setting,
                rows,
                all_looks=all_looks,
                label=kind.label,
                scale=kind.scale,
            ),
        )


_CURVE_CAPTION = (
    "With 95 % intervals where there are 3 runs or more; hollow markers: devices shared cores, "
    "which shows overhead, not scaling."
)


def setting_plots(setting: Setting, frameworks: Sequence[str], curves: LossCurves) -> list[Plot]:
    """Returns the plots of a setting, in the order in which a report shows them."""
    all_looks = looks(setting, frameworks)
    measured = [cell for _, cell in setting.cells if cell.items_per_second is not None]
    if not measured:
        return []
    step_time, accuracy, memory, compile_time = _ROW_KINDS
    plots = list(_row_plots(setting, step_time, all_looks))
    if len(_counts(setting)) > 1:
        plots.append(
            Plot(
                slug=f"{setting.slug}_throughput",
                title=f"Throughput against devices: {setting.title}",
                caption=f"Medians over runs. {_CURVE_CAPTION} Dotted: n times the framework's "
                "bare step.",
                draw=partial(_draw_throughput, setting, all_looks),
            )
        )
        if any(cell.speedup is not None for cell in measured):
            plots += [
                Plot(
                    slug=f"{setting.slug}_speedup",
                    title=f"Speedup: {setting.title}",
                    caption=f"{_CURVE_CAPTION} Against the framework's own bare step on one "
                    "device; in the grey region more devices are slower than one.",
                    draw=partial(_draw_speedup, setting, all_looks),
                ),
                Plot(
                    slug=f"{setting.slug}_efficiency",
                    title=f"Efficiency: {setting.title}",
                    caption=f"{_CURVE_CAPTION} Speedup divided by devices.",
                    draw=partial(_draw_efficiency, setting, all_looks),
                ),
            ]
    if any(cell.latency_seconds is not None for cell in measured):
        plots.append(
            Plot(
                slug=f"{setting.slug}_latency",
                title=f"Latency against throughput: {setting.title}",
                caption="Latency: windows of one synchronised step; throughput: windows of many. "
                "The number beside a marker is its device count.",
                draw=partial(_draw_latency, setting, all_looks),
            )
        )
    if curves:
        plots.append(
            Plot(
                slug=f"{setting.slug}_loss",
                title=f"Loss: {setting.title}",
                caption="Every training step of one run of each cell, with the same seed unless "
                "the legend says otherwise. Later curves are thinner and lie on top, so that equal "
                "curves show as one banded line.",
                draw=partial(_draw_loss, setting, curves, all_looks),
            )
        )
    for kind in (accuracy, memory, compile_time):
        plots += _row_plots(setting, kind, all_looks)
    return plots


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bar:
    """A bar of a waterfall; start and end in seconds, None where nothing was measured."""

    name: str
    color: str
    start: float
    estimate: Estimate | None
    floats: bool


def _bars(waterfall: Waterfall, color: str) -> Iterator[_Bar]:
    """Stock and tuned from 0; between them each step from where the step before ended."""
    before: float | None = None
    for step in waterfall.steps:
        if waterfall.tweaks and not step.added and step.lane == TUNED:
            break  # it was not measured, and has its bar below
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


def _draw_waterfalls(title: str, bars: Sequence[_Bar]) -> Figure:
    left = _text_width([bar.name for bar in bars])
    figure, axes = _axes(title, max(1.6, 1.0 + 0.24 * len(bars)), left=left)
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
            # In grey print too it is seen where a tweak makes a step longer.
            hatch="////" if bar.floats and end > bar.start else None,
            edgecolor="black",
            linewidth=0.4,
        )
        axes.errorbar(
            1e3 * end,
            y,
            xerr=_errors([(end, bar.estimate)], 1e3),
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=2,
        )
    axes.set_yticks(range(len(bars)), [_brief(bar.name) for bar in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("time per step, ms (left is better)")
    return figure


def waterfall_plots(lanes: Lanes, frameworks: Sequence[str]) -> list[Plot]:
    """Returns a plot for each device count, or several where one has no room for all bars."""
    plots = []
    for devices in sorted({waterfall.devices for waterfall in lanes.waterfalls}):
        bars: list[_Bar] = []
        for waterfall in lanes.waterfalls:
            if waterfall.devices == devices and any(step.measured for step in waterfall.steps):
                color = COLORS[frameworks.index(waterfall.framework) % len(COLORS)]
                bars += _bars(waterfall, color)
        for first in range(0, len(bars), ROWS_PER_PLOT):
            count = f"{devices} device{'s' if devices > 1 else ''}"
            title = f"{lanes.setting.title}, on {count}"
            suffix = f"_{first // ROWS_PER_PLOT + 1}" if first else ""
            plots.append(
                Plot(
                    slug=f"{lanes.setting.slug}_waterfall_{devices}{suffix}",
                    title=f"From stock to tuned: {title}",
                    caption="Medians over runs; whiskers: 95 % interval of the median (none below "
                    "3 runs). A pale bar is what a tweak takes from the step before, a hatched one "
                    "what it adds. Differences are verdicts only where the table says so.",
                    draw=partial(_draw_waterfalls, title, bars[first : first + ROWS_PER_PLOT]),
                )
            )
    return plots


_to_render: Sequence[Plot] = ()


def _render_one(index: int) -> tuple[str, bytes]:
    return _to_render[index].render()


class Drawing:
    """A context manager that draws plots on all cores that this process may use."""

    def __init__(self, plots: Sequence[Plot]):
        self._plots = plots
        self._pool: ProcessPoolExecutor | None = None
        self._drawn: Iterator[tuple[str, bytes]] = iter(())

    def __enter__(self) -> "Drawing":
        global _to_render
        workers = min(len(available_cores()), len(self._plots) // 8)
        if workers < 2 or sys.platform != "linux":
            self._drawn = (plot.render() for plot in self._plots)
            return self
        # Forked workers find the plots in their memory: nothing is sent but the drawings.
        _to_render = self._plots
        self._pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
        self._drawn = self._pool.map(_render_one, range(len(self._plots)), chunksize=2)
        return self

    def __exit__(self, *exception: object) -> None:
        global _to_render
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            _to_render = ()

    def result(self) -> dict[str, tuple[str, bytes]]:
        """Returns slug -> (SVG, PNG) of each plot, when all are drawn."""
        return {plot.slug: drawn for plot, drawn in zip(self._plots, self._drawn, strict=True)}
