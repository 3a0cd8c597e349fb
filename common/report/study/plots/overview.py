"""The plot at the top of a report: the fastest cell of each framework, for each setting."""

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import champions, speed
from isoscale.common.report.drawing.plot import Plot, add_hover
from isoscale.common.report.drawing.style import (
    COLORS,
    MARKERS,
    add_legend,
    add_value,
    make_axes,
    shortened,
    text_width,
)
from isoscale.common.report.words import number

_ROWS = 40
"""Settings per plot; more settings go into further plots."""
_LINE = 48
"""Most characters of a line of a title: its last words tell the settings of a sweep apart."""


def overview_plots(settings: Sequence[Setting], frameworks: Sequence[str]) -> list[Plot]:
    """Returns the overview plots of all settings with a measured cell."""
    compared = [setting for setting in settings if champions(setting)]
    return [
        Plot(
            slug=f"overview{f'_{first // _ROWS + 1}' if first else ''}",
            title="Throughput of the fastest cell of each framework",
            caption="Examples per second of each framework with its fastest strategy and number of "
            "devices, relative to the fastest framework of the setting. This plot shows no "
            "verdicts; the verdicts are in the text.",
            draw=partial(_draw_overview, compared[first : first + _ROWS], frameworks),
        )
        for first in range(0, len(compared), _ROWS)
    ]


def _draw_overview(settings: Sequence[Setting], frameworks: Sequence[str], title: str) -> Figure:
    """Draws, for each setting, each framework's fastest cell relative to the fastest of all."""
    names = [textwrap.wrap(setting.title, _LINE, break_on_hyphens=False) for setting in settings]
    most = max(map(len, names))
    figure, axes = make_axes(
        title,
        1.0 + max(0.15 + 0.15 * len(frameworks), 0.2 * most) * len(settings),
        left=text_width([line for lines in names for line in lines]),
        right=1.2,
    )
    offset = 0.75 / max(1, len(frameworks))
    places: dict[str, list[tuple[float, float]]] = {name: [] for name in frameworks}
    for row, setting in enumerate(settings):
        best = {cell.cell.framework: (n, speed(cell)) for n, cell in reversed(champions(setting))}
        fastest = max(value for _, value in best.values())
        for framework, (name, value) in best.items():
            shift = offset * (frameworks.index(framework) - (len(frameworks) - 1) / 2)
            x, y = 100 * value / fastest, row + shift
            places[framework].append((x, y))
            add_value(axes, x, y, f"{x:.0f}")
            add_hover(axes, x, y, f"{name}: {number(value)} examples/s, {x:.1f} % of the fastest")
    entries = []
    for index, (framework, points) in enumerate(places.items()):
        look: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "",
            "markersize": 6,
        }
        axes.plot([x for x, _ in points], [y for _, y in points], **look)
        entries.append((framework, look))
    axes.set_yticks(range(len(settings)), ["\n".join(map(shortened, lines)) for lines in names])
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlim(0, 112)
    axes.set_xlabel("examples/s, % of the fastest framework")
    add_legend(axes, entries)
    return figure
