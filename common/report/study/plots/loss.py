"""The plot of losses over training steps."""

from functools import partial
from typing import Any

from matplotlib.figure import Figure

from isoscale.common.analysis.settings import Setting
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.drawing.style import Look, add_legend, make_axes, text_width
from isoscale.common.report.study.data import StudyData

LossCurves = list[tuple[str, str, list[int], list[float]]]
"""(cell name, series, steps, losses)."""


def loss_curves(study: StudyData, setting: Setting) -> tuple[LossCurves, list[str]]:
    """Returns the losses of one run of each cell, and a sentence for each damaged file.

    Takes the lowest run number that all cells have, because its seed is the same in all cells.
    """
    cells = [(series, cell) for series, of in setting.series.items() for cell in of if cell.ok]
    runs = [{line.run for line in cell.ok} for _, cell in cells]
    common = set.intersection(*runs) if runs else set()
    batches = {cell.cell.global_batch_size for _, cell in cells}
    curves: LossCurves = []
    unreadable: list[str] = []
    for series, cell in cells:
        wanted = min(common) if common else min(line.run for line in cell.ok)
        line = next(line for line in cell.ok if line.run == wanted)
        name = f"{series}, {cell.cell.devices}"
        name += f", batch {cell.cell.global_batch_size}" if len(batches) > 1 else ""
        name += f" (run {line.run})" if not common else ""
        try:
            known = [
                (int(record["step"]), float(record["loss"]))
                for record in study.steps(line)
                if record["loss"] is not None
            ]
        except (ValueError, KeyError, TypeError):
            unreadable.append(f"The loss curve of {name} is missing: its steps.jsonl is damaged.")
            continue
        if known:
            steps, losses = zip(*known, strict=True)
            curves.append((name, series, list(steps), list(losses)))
    return curves, unreadable


def loss_plot(setting: Setting, curves: LossCurves, all_looks: dict[str, Look]) -> Plot:
    """Returns the plot of the losses of one run of each cell."""
    return Plot(
        slug=f"{setting.slug}_loss",
        title=f"Loss: {setting.title}",
        caption="The loss of every training step in one run of each cell. All runs have the same "
        "seed unless the legend names another run. Later curves are thinner and lie on top: equal "
        "curves look like one line with stripes.",
        draw=partial(_draw_loss, setting, curves, all_looks),
    )


def _draw_loss(setting: Setting, curves: LossCurves, all_looks: dict[str, Look]) -> Figure:
    names = [name for name, *_ in curves]
    height = max(3.4, 0.9 + 0.175 * len(curves))
    figure, axes = make_axes(setting.title, height, left=0.75, right=text_width(names) + 0.35)
    entries = []
    for index, (name, series, steps, losses) in enumerate(curves):
        look: dict[str, Any] = {
            "color": all_looks[series].color,
            "linestyle": all_looks[series].dash,
            # Later curves are thinner and lie on top: equal curves look like one line with stripes.
            "linewidth": 7.0 - 6.2 * index / max(1, len(curves) - 1),
        }
        axes.plot(steps, losses, **look)
        entries.append((name, look))
    axes.set_xlabel("training step")
    axes.set_ylabel("loss, nats")
    add_legend(axes, entries)
    return figure
