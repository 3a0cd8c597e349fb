"""The layout of the scaling page: its charts, and the curves of each chart."""

import re
from collections.abc import Iterator, Sequence

from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
    MultilineChartContent,
)

from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.config.counts import counted
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.scaling import (
    QUANTITIES,
    Point,
    factors_by_cell,
    point_of,
    tags_of,
)
from isoscale.common.report.study.data import StudyData


def layout_of(studies: Sequence[StudyData]) -> Layout:
    """Returns the layout: one category for each setting, with its charts."""
    titles = dict.fromkeys(setting.title for study in studies for setting in study.settings)
    found = Layout()
    for title in titles:
        own = [(s, setting) for s in studies for setting in s.settings if setting.title == title]
        cells = [cell for _, setting in own for _, cell in setting.cells]
        listed = [
            (cell, factors.get(cell.cell))
            for study, setting in own
            for factors in [factors_by_cell(study, setting)]
            for _, cell in setting.cells
        ]
        category = Category(title=clean(title) + _warnings(cells))
        for quantity in QUANTITIES:
            points = [p for entry in listed if (p := point_of(quantity, *entry)) is not None]
            category.chart.extend(_charts(title, quantity, points))
        if category.chart:
            found.category.append(category)
    return found


def _warnings(cells: Sequence[CellSummary]) -> str:
    """Returns the warnings that follow the title of a setting; empty without warnings."""
    shared = sorted({cell.cell.devices for cell in cells if cell.cell.oversubscribed})
    disturbed = sum(cell.disturbed for cell in cells)
    warnings = []
    if shared:
        counts = ", ".join(map(str, shared))
        plural = "" if shared == [1] else "s"
        warnings.append(f"oversubscribed at {counts} device{plural}: overhead, not scaling")
    if disturbed:
        runs = sum(len(cell.ok) for cell in cells)
        warnings.append(f"{disturbed} of {counted(runs, 'run')} disturbed")
    return f" ({'; '.join(warnings)})" if warnings else ""


def _charts(title: str, quantity: str, points: Sequence[Point]) -> Iterator[Chart]:
    """Yields a chart of the cells with intervals; if a cell lacks one, also a chart of all."""
    every, value, low, high = tags_of(title, quantity)
    label = f"{QUANTITIES[quantity]}, by devices"
    measured = [point for point in points if not point.is_base]
    bounded = [point for point in measured if point.low is not None]
    missing = len(measured) - len(bounded)
    if bounded:
        only = "" if not missing else f", only the {counted(len(bounded), 'cell')} with an interval"
        yield Chart(
            title=f"{label}, 95 % interval over runs or groups{only}",
            margin=MarginChartContent(
                series=[MarginChartContent.Series(value=value, lower=low, upper=high)]
            ),
        )
    if missing:
        yield Chart(
            title=f"{label}, NO interval in {missing} of {counted(len(measured), 'cell')}: fewer "
            "than 3 runs there, or in the base",
            multiline=MultilineChartContent(tag=[f"{re.escape(every)}$"]),
        )
