"""The plots of one setting, in the order in which a report shows them."""

import dataclasses
from collections.abc import Sequence

from isoscale.common.analysis.factors import Factors
from isoscale.common.analysis.series_laws import SeriesLaws
from isoscale.common.analysis.settings import Setting
from isoscale.common.report.drawing.plot import Plot
from isoscale.common.report.drawing.style import looks
from isoscale.common.report.study.answers.shared import shared_of
from isoscale.common.report.study.plots.factors import factor_plots
from isoscale.common.report.study.plots.loss import LossCurves, loss_plot
from isoscale.common.report.study.plots.per_cell import (
    ACCURACY,
    COMPILE_TIME,
    LATENCY,
    MEMORY,
    STEP_TIME,
    per_cell_plots,
)
from isoscale.common.report.study.plots.scaling import scaling_plots


def setting_plots(
    setting: Setting,
    frameworks: Sequence[str],
    curves: LossCurves,
    laws: Sequence[SeriesLaws],
    factors: Sequence[Factors],
) -> list[Plot]:
    """Returns the plots of a setting; [] without measured cells.

    Args:
      setting: the setting.
      frameworks: all frameworks of the report; the index of a framework gives its colour.
      curves: the losses of its cells.
      laws: the laws of scaling of its series.
      factors: what its cells on several devices lose, and to what.
    """
    all_looks = looks(setting, frameworks)
    measured = [cell for _, cell in setting.cells if cell.examples_per_second is not None]
    if not measured:
        return []
    plots = [
        *per_cell_plots(setting, STEP_TIME, all_looks),
        *scaling_plots(setting, all_looks, laws),
        *factor_plots(setting, factors, frameworks),
    ]
    plots += per_cell_plots(setting, LATENCY, all_looks)
    if curves:
        plots.append(loss_plot(setting, curves, all_looks))
    for quantity in (ACCURACY, MEMORY, COMPILE_TIME):
        plots += per_cell_plots(setting, quantity, all_looks)
    about = "".join(f" {sentence}" for sentence in shared_of(setting.cells))
    return [dataclasses.replace(plot, caption=plot.caption + about) for plot in plots]
