"""The plot of a cell's history: throughput in each study, and the ratio to the study before."""

import string
import textwrap
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoscale.common.analysis.answers import DIFFERENT
from isoscale.common.analysis.verdicts import ratio_text
from isoscale.common.report.drawing.plot import Plot, add_hover
from isoscale.common.report.drawing.style import (
    COLORS,
    MARKERS,
    add_legend,
    error_bars,
    shortened,
    text_width,
)
from isoscale.common.report.study.history import CellHistory, History

_CAPTION = (
    "Above: throughput of each study, with its 95 % interval; a line connects neighbours of the "
    "same machine. Below: ratio to the study before, with its interval; grey: up to the threshold; "
    "filled: shown to be different. Drift of the machine between studies is outside the intervals. "
    "Studies stand at equal distances. Dashed vertical lines: conditions changed."
)
_WIDTH_PER_STUDY, _CHARACTER = 0.8, 0.058
"""Width of a study, and of a character of its label, in inches."""
_MOST_CHANGES = 3
"""Most facts of a step that the line below the plot names; the table has all of them."""


def history_plots(history: History) -> list[Plot]:
    """Returns a plot for each cell."""
    frameworks = sorted({cell.framework for cell in history.cells})
    return [
        Plot(
            slug=cell.slug,
            title=f"Throughput over studies: {cell.name}",
            caption=_CAPTION,
            draw=partial(_draw, cell, COLORS[frameworks.index(cell.framework)], history.threshold),
            source=_source(cell),
        )
        for cell in history.cells
    ]


def _letters(cell: CellHistory) -> dict[int, str]:
    """Returns number of a step -> the letter of its change; a step without change has none."""
    changed = [number for number, step in enumerate(cell.steps) if step.changed]
    letters = string.ascii_lowercase
    return {number: letters[place % 26] * (1 + place // 26) for place, number in enumerate(changed)}


def _source(cell: CellHistory) -> str:
    """Returns the line below the plot: the numbers of runs, the machines, and the changes."""
    counts = sorted({found.n for found in cell.throughputs if found})
    runs = "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
    texts = [f"n = {runs} in each study", *dict.fromkeys(cell.machines)]
    for number, letter in _letters(cell).items():
        changed = cell.steps[number].changed
        more = len(changed) - _MOST_CHANGES
        listed = [*changed[:_MOST_CHANGES], *([f"{more} more facts"] if more > 0 else [])]
        texts.append(f"{letter}: {', '.join(listed)}")
    return "; ".join(texts)


def _draw(cell: CellHistory, color: str, threshold: float, title: str) -> Figure:
    count = len(cell.labels)
    labels = [shortened(label) for label in cell.labels]
    several = len(set(cell.machines)) > 1
    right = text_width(cell.machines) + 0.3 if several else 0.3
    # Slanted labels reach to the left and down.
    left = max(0.95, _CHARACTER * len(labels[0]) - 0.2)
    bottom = 0.35 + 0.6 * _CHARACTER * max(map(len, labels))
    width = max(6.4, left + right + max(3.6, _WIDTH_PER_STUDY * count))
    lines = textwrap.wrap(title, int((width - left) / 0.075)) or [""]
    height = bottom + 1.3 + 1.75 + 0.2 + 0.16 * len(lines)
    figure = Figure(figsize=(width, height), dpi=110)
    span = (width - left - right) / width
    above = figure.add_axes((left / width, (bottom + 1.3) / height, span, 1.75 / height))
    below = figure.add_axes((left / width, bottom / height, span, 1.05 / height), sharex=above)
    above.set_title("\n".join(lines))
    markers = {
        machine: MARKERS[index % len(MARKERS)]
        for index, machine in enumerate(dict.fromkeys(cell.machines))
    }
    _draw_throughputs(above, cell, color, markers)
    _draw_ratios(below, cell, color, threshold)
    for number, letter in _letters(cell).items():
        for axes in (above, below):
            axes.axvline(number + 0.5, color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
        above.annotate(
            letter,
            (number + 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
        )
    above.tick_params(labelbottom=False)
    below.set_xticks(range(count), labels, rotation=30, ha="right", fontsize=8)
    below.set_xlim(-0.5, count - 0.5)
    entries = [
        (machine, {"color": color, "marker": marker, "linestyle": ""})
        for machine, marker in markers.items()
    ]
    if several:
        add_legend(above, entries)
    return figure


def _draw_throughputs(axes: Axes, cell: CellHistory, color: str, markers: dict[str, str]) -> None:
    ends = []
    for place, (found, machine) in enumerate(zip(cell.throughputs, cell.machines, strict=True)):
        if found is None:
            continue
        axes.errorbar(
            [place],
            [found.value],
            yerr=None
            if found.low is None or found.high is None
            else [[found.value - found.low], [found.high - found.value]],
            color=color,
            marker=markers[machine],
            markersize=5,
            elinewidth=1,
            capsize=2,
        )
        add_hover(axes, place, found.value, f"{cell.labels[place]}: {cell.rows[place][6]}")
        ends.append(found.high or found.value)
    for place, step in enumerate(cell.steps):
        pair = cell.throughputs[place : place + 2]
        if step.same_machine and all(pair):
            values = [found.value for found in pair if found]
            axes.plot([place, place + 1], values, color=color, linewidth=1.2)
    axes.set_ylim(0, 1.15 * max(ends, default=1.0))
    axes.set_ylabel("examples/s")


def _draw_ratios(axes: Axes, cell: CellHistory, color: str, threshold: float) -> None:
    axes.axhspan(1 / (1 + threshold), 1 + threshold, color="#999999", alpha=0.18, linewidth=0)
    axes.axhline(1, color="#555555", linewidth=0.8)
    for place, step in enumerate(cell.steps, 1):
        ratio = step.difference.ratio
        if ratio is None:
            continue
        axes.errorbar(
            [place],
            [ratio.value],
            yerr=error_bars([(ratio.value, ratio)], 1),
            color=color,
            marker="o",
            markersize=5,
            markerfacecolor=color if step.difference.answer == DIFFERENT else "white",
            elinewidth=1,
            capsize=2,
        )
        said = f"{ratio_text(ratio)}, {step.difference.text}"
        add_hover(axes, place, ratio.value, f"{cell.labels[place]}: {said}")
    axes.margins(y=0.15)
    axes.set_ylabel("ratio to the\none before")
