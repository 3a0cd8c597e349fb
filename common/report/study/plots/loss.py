"""The plot of losses over training steps."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

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
    last = max(steps[-1] for _, _, steps, _ in curves)
    flat = max(steps[flat_from(losses)] for _, _, steps, losses in curves)
    end = math.ceil(_AFTER_FLAT * flat)
    cut = 0 < end < _WORTH_CUTTING * last
    ended = (
        f"The drawing ends at step {end} of {last}: from step {flat} on, each curve stays within "
        "2 % of its whole change. "
        if cut
        else ""
    )
    return Plot(
        slug=f"{setting.slug}_loss",
        title=f"Loss: {setting.title}",
        runs=1,
        caption=f"The loss of every training step in one run of each cell. {ended}All runs have "
        "the same seed unless the legend names another run. Later curves are thinner and lie on "
        "top: equal curves look like one line with stripes.",
        draw=partial(_draw_loss, curves, all_looks, end if cut else last),
    )


_WORTH_CUTTING = 0.8
_AFTER_FLAT = 1.25
_FLAT = 0.02


def flat_from(losses: Sequence[float]) -> int:
    """Returns the index from which a curve is flat: the level stays close to the last level.

    The level is the running median over a twentieth of the curve. Close means: within 2 % of the
    curve's largest distance from the last level, on the logarithmic axis of the plot.
    """
    from scipy import ndimage

    values = np.asarray(losses, float)
    if values.min() > 0:
        values = np.log(values)
    level = ndimage.median_filter(values, size=max(1, len(values) // 20), mode="nearest")
    distance = np.abs(level - level[-1])
    moving = np.flatnonzero(distance > _FLAT * distance.max())
    return int(min(moving[-1] + 1, len(values) - 1)) if len(moving) else 0


def _draw_loss(curves: LossCurves, all_looks: dict[str, Look], end: int, title: str) -> Figure:
    names = [name for name, *_ in curves]
    height = max(3.4, 0.9 + 0.175 * len(curves))
    figure, axes = make_axes(title, height, left=0.75, right=text_width(names) + 0.35)
    entries = []
    for index, (name, series, steps, losses) in enumerate(curves):
        look: dict[str, Any] = {
            "color": all_looks[series].color,
            "linestyle": all_looks[series].dash,
            # Later curves are thinner and lie on top: equal curves look like one line with stripes.
            "linewidth": 7.0 - 6.2 * index / max(1, len(curves) - 1),
        }
        shown = sum(step <= end for step in steps)
        axes.plot(steps[:shown], losses[:shown], **look)
        entries.append((name, look))
    low, high = (pick(pick(losses) for *_, losses in curves) for pick in (min, max))
    if low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        # Within a decade only the minor ticks can tell sizes; over several, their labels overlap.
        axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
        axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss, nats")
    add_legend(axes, entries)
    return figure
