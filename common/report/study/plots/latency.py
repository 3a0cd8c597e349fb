"""The plot of latency against throughput."""

from functools import partial

from matplotlib.figure import Figure

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


def latency_plot(setting: Setting, all_looks: dict[str, Look]) -> Plot:
    """Returns the plot of latency against throughput, with a marker for each cell."""
    return Plot(
        slug=f"{setting.slug}_latency",
        title=f"Latency against throughput: {setting.title}",
        caption="Latency comes from windows of one synchronised step, throughput from windows of "
        "many steps. The number beside a marker is the number of devices.",
        draw=partial(_draw_latency, setting, all_looks),
    )


def _draw_latency(setting: Setting, all_looks: dict[str, Look]) -> Figure:
    right = text_width(list(setting.series)) + 0.35
    figure, axes = make_axes(setting.title, 3.4, left=0.75, right=right)
    for name, cells in setting.series.items():
        look = all_looks[name]
        points = [
            (cell.examples_per_second, cell.latency_seconds, cell.cell.devices)
            for cell in cells
            if cell.examples_per_second is not None and cell.latency_seconds is not None
        ]
        if not points:
            continue
        axes.errorbar(
            [throughput.median for throughput, _, _ in points],
            [1e3 * latency.median for _, latency, _ in points],
            xerr=error_bars([(t.median, t) for t, _, _ in points], 1),
            yerr=error_bars([(t.median, t) for _, t, _ in points], 1e3),
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
    entries = [(name, {**look, "linestyle": ""}) for name, look in legend_entries(all_looks)]
    add_legend(axes, entries)
    return figure
