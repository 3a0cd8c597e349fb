"""The line below each plot, with which it stands alone: machine, date, number of runs."""

import dataclasses
from collections.abc import Iterable, Sequence

from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.study.conditions import UNKNOWN, Conditions


def with_source(
    plots: Iterable[Plot], cells: Sequence[CellSummary], conditions: Conditions
) -> list[Plot]:
    """Returns the plots with the line.

    Args:
      plots: the plots.
      cells: the cells that the plots show.
      conditions: of the study.
    """
    days = sorted({run.result.started[:10] for c in cells for run in c.ok if run.result.started})
    counts = sorted({len(cell.ok) for cell in cells if cell.ok})
    date = " to ".join(dict.fromkeys([*days[:1], *days[-1:]])) or f"date {UNKNOWN}"

    def source(plot: Plot) -> str:
        least, most = (plot.runs,) * 2 if plot.runs else (counts[0], counts[-1])
        n = f"{least} to {most} runs" if least < most else f"{most} run{'s' if most > 1 else ''}"
        return f"{conditions.machine}; {date}; n = {n} of each cell"

    return [dataclasses.replace(plot, source=source(plot)) for plot in plots]
