"""The style of all plots: legible in print, in grey and for colour-blind readers.

The colour of a series shows its framework (palette: Okabe & Ito 2008). Every series of a plot has
its own marker and dash. Axes of sizes and times start at 0, except for curves over more than 8
devices.
"""

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isoscale.common.analysis.estimates import Estimate, Ratio
from isoscale.common.analysis.settings import Setting

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    "--",
    ":",
    "-.",
    (0, (5, 1)),
    (0, (1, 1)),
    (0, (3, 1, 1, 1)),
    (0, (7, 3)),
)
ROWS_PER_PLOT = 60
"""Rows per plot; more rows go into further plots."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """The colour, marker and dash of a series."""

    color: str
    marker: str
    dash: str | tuple[int, tuple[int, ...]]


def color_of(framework: str, frameworks: Sequence[str]) -> str:
    """Returns the colour of a framework; ``frameworks`` are all frameworks of the report."""
    return COLORS[frameworks.index(framework) % len(COLORS)]


def looks(setting: Setting, frameworks: Sequence[str]) -> dict[str, Look]:
    """Returns series -> look; a framework has the same colour in the whole report."""
    found: dict[str, Look] = {}
    for index, (name, cells) in enumerate(setting.series.items()):
        framework = cells[0].cell.framework
        found[name] = Look(
            color=color_of(framework, frameworks),
            marker=MARKERS[index % len(MARKERS)],
            dash=DASHES[index % len(DASHES)],
        )
    return found


_CHARACTER = 0.075
"""Width of one character of a label in inches, rounded up."""
_LONGEST = 60


def shortened(name: str) -> str:
    """Returns the name, cut to a length that leaves room for the drawing."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def text_width(names: Sequence[str]) -> float:
    """Returns the width of the longest label, in inches."""
    return 0.3 + _CHARACTER * max(len(shortened(name)) for name in names)


def make_axes(
    title: str, height: float, *, left: float, right: float = 0.2, least: float = 3.4
) -> tuple[Figure, Axes]:
    """Returns a figure with one pair of axes; margins in inches, so that labels always fit.

    Args:
      title: text above the axes, wrapped into lines.
      height: height of the figure with a title of one line, in inches.
      left, right: margins, in inches.
      least: smallest width between the margins, in inches.
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
    # Labels have fixed places: the search for places takes a third of the drawing time.
    axes.xaxis.set_label_coords(0.5, -0.36 / (height - bottom - top))
    axes.yaxis.set_label_coords(-0.58 / (width - left - right), 0.5)
    axes.set_title("\n".join(lines))
    return figure, axes


def error_bars(
    points: Sequence[tuple[float, Estimate | Ratio | None]], scale: float
) -> list | None:
    """Returns the distances to the ends of intervals, for ``errorbar``.

    NaN for a point without an interval; None if all points lack an interval.
    """
    low, high = [], []
    for value, estimate in points:
        if estimate is None or estimate.low is None or estimate.high is None:
            low.append(math.nan)
            high.append(math.nan)
        else:
            # By rounding, a mean of logs may lie slightly outside an interval of medians.
            low.append(max(0.0, scale * (value - estimate.low)))
            high.append(max(0.0, scale * (estimate.high - value)))
    return None if all(map(math.isnan, low)) else [low, high]


def add_value(axes: Axes, x: float, y: float, text: str) -> None:
    """Writes a value to the right of a point."""
    axes.annotate(text, (x, y), textcoords="offset points", xytext=(5, 0), va="center", fontsize=7)


def add_hollow(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], which: Sequence[int], look: Look
) -> None:
    """Draws hollow markers over some points of a series.

    Args:
      axes: the axes.
      xs, ys: the points of the series.
      which: indices of the points.
      look: of the series.
    """
    axes.plot(
        [xs[i] for i in which],
        [ys[i] for i in which],
        look.marker,
        color=look.color,
        markerfacecolor="white",
        markersize=5,
        zorder=3,
    )


def add_legend(axes: Axes, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Adds a legend beside the axes.

    The legend shows plain lines, because error bars would take a quarter of the drawing time.

    Args:
      axes: the axes.
      entries: (label, properties of its line).
    """
    axes.legend(
        handles=[Line2D([], [], label=shortened(label), **look) for label, look in entries],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        fontsize=8,
    )


def legend_entries(all_looks: dict[str, Look]) -> list[tuple[str, dict[str, Any]]]:
    """Returns (series, properties of its line) for ``add_legend``."""
    return [
        (name, {"color": look.color, "marker": look.marker, "linestyle": look.dash})
        for name, look in all_looks.items()
    ]
