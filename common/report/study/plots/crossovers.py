"""The plot of a sweep: what several devices gain over one, over the size, with the crossovers."""

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoscale.common.analysis.crossover import TOO_FEW, UNKNOWN, Curve, SweepCurves
from isoscale.common.analysis.verdicts import ratio_text
from isoscale.common.report.drawing.plot import Plot, add_hover
from isoscale.common.report.drawing.style import (
    DASHES,
    MARKERS,
    Look,
    add_hollow,
    add_legend,
    color_of,
    error_bars,
    make_axes,
    text_width,
)
from isoscale.common.report.study.answers.crossovers import (
    base_name,
    interval_text,
    sample,
    size_text,
)

_TICKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4, 6, 8)
_FEW_TICKS = (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_NEAR = 0.12
"""Two labels of sizes need this share of the axis between them."""


def crossover_plots(found: SweepCurves, frameworks: Sequence[str]) -> list[Plot]:
    """Returns one plot for each number of devices.

    Args:
      found: the sweep.
      frameworks: all frameworks of the report; the index of a framework gives its colour.
    """
    axis = found.sweep.axis
    return [
        Plot(
            slug=f"{found.sweep.slug}_on_{devices}",
            title=f"{devices} devices against one. {found.sweep.title}",
            caption=f"Examples per second on {devices} devices, divided by those on one device "
            f"(against {_bases(curves)}), over {axis}; both axes are logarithmic. Vertical bars: "
            "95 % intervals. Above the line at 1, more devices are faster. Marks below the curves: "
            "the crossover with its 95 % interval, where one was found. Lines between sizes are "
            "interpolated. Hollow markers: no verdict; then no line connects the sizes.",
            draw=partial(_draw, curves, axis, frameworks),
        )
        for devices in sorted({curve.devices for curve in found.curves})
        for curves in [[curve for curve in found.curves if curve.devices == devices]]
    ]


def _bases(curves: Sequence[Curve]) -> str:
    kinds = dict.fromkeys("bare" if c.base == "bare" else "the same strategy" for c in curves)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{curve.series}: {base_name(curve)}" for curve in curves)


def _draw(curves: Sequence[Curve], axis: str, frameworks: Sequence[str], title: str) -> Figure:
    entries = []
    for index, curve in enumerate(curves):
        look = Look(
            color=color_of(curve.framework, frameworks),
            marker=MARKERS[index % len(MARKERS)],
            dash=DASHES[index % len(DASHES)],
        )
        entries.append((curve, look))
    labels = [f"{curve.series}: {_short(curve, axis)}" for curve, _ in entries]
    figure, axes = make_axes(title, 3.6, left=0.75, right=text_width(labels) + 0.35)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for place, (curve, look) in enumerate(entries):
        _draw_curve(axes, curve, look, axis, place - (len(entries) - 1) / 2)
    _set_ticks(axes, curves, axis)
    axes.axhline(1, color="#555555", linewidth=0.8)
    for place, (curve, look) in enumerate(entries):
        _mark(axes, curve, look, axis, 0.04 + 0.045 * place)
    axes.set_xlabel(axis)
    axes.set_ylabel(f"ratio, {curves[0].devices} devices / 1")
    lines = [
        {"color": look.color, "marker": look.marker, "linestyle": look.dash} for _, look in entries
    ]
    add_legend(axes, list(zip(labels, lines, strict=True)))
    return figure


def _short(curve: Curve, axis: str) -> str:
    found = curve.answer
    text = found.kind if found.value is None else f"from {interval_text(found, axis)} on"
    open_ = any(point.pays == UNKNOWN for point in curve.points)
    return f"{text} (a size has no verdict)" if open_ and found.kind != TOO_FEW else text


def _draw_curve(axes: Axes, curve: Curve, look: Look, axis: str, place: float) -> None:
    # Curves are shifted sideways a little: intervals then do not hide each other.
    xs = [point.member.size * 1.01**place for point in curve.points]
    ratios = [point.tested.ratio for point in curve.points]
    ys = [ratio.value for ratio in ratios]
    # Without a verdict at each size a line would show a course that nobody knows.
    hollow = [i for i, point in enumerate(curve.points) if point.pays == UNKNOWN]
    axes.errorbar(
        xs,
        ys,
        yerr=error_bars([(ratio.value, ratio) for ratio in ratios], 1),
        linestyle="" if hollow else look.dash,
        marker=look.marker,
        color=look.color,
        markersize=5,
        linewidth=1.2,
        elinewidth=1,
    )
    add_hollow(axes, xs, ys, hollow, look)
    for x, y, point in zip(xs, ys, curve.points, strict=True):
        size = size_text(point.member.size, axis)
        ratio = point.tested.ratio
        text = f"{ratio_text(ratio)}, {point.pays}, {sample([ratio])}"
        add_hover(axes, x, y, f"{curve.series}, {axis} {size}: {text}")


def _mark(axes: Axes, curve: Curve, look: Look, axis: str, height: float) -> None:
    """Draws the crossover of a curve with its interval, at a share of the height of the axes."""
    found = curve.answer
    if found.value is None or found.low is None or found.high is None:
        return
    bottom, top = axes.get_ylim()
    y = bottom * (top / bottom) ** height
    axes.errorbar(
        [found.value],
        [y],
        xerr=[[found.value - found.low], [found.high - found.value]],
        marker=look.marker,
        color=look.color,
        markerfacecolor="white",
        markersize=5,
        elinewidth=1.2,
        capsize=3,
    )
    axes.plot([found.value] * 2, [y, 1], color=look.color, linewidth=0.7, linestyle=(0, (2, 2)))
    add_hover(axes, found.value, y, f"{curve.series}: from {interval_text(found, axis)} on")


def _set_ticks(axes: Axes, curves: Sequence[Curve], axis: str) -> None:
    """Labels the sizes measured, and round ratios; leaves room for the marks below the curves."""
    sizes = sorted({point.member.size for curve in curves for point in curve.points})
    axes.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
    width = math.log(sizes[-1] / sizes[0]) + 2 * math.log(1.25)
    labelled: list[float] = []
    for size in sizes:
        if not labelled or math.log(size / labelled[-1]) > _NEAR * width:
            labelled.append(size)
    axes.set_xticks(labelled, [size_text(size, axis) for size in labelled])
    axes.minorticks_off()
    bottom, top = axes.get_ylim()
    bottom, top = min(bottom, 0.95), max(top, 1.05)
    bottom *= (bottom / top) ** (0.06 * len(curves))
    ticks = [tick for tick in _TICKS if bottom <= tick <= top]
    if len(ticks) > 9:
        ticks = [tick for tick in _FEW_TICKS if bottom <= tick <= top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom, top)
