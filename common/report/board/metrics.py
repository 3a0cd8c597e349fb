"""The metrics of a run: the figures on the page of hyperparameters."""

from collections.abc import Iterable

from isoscale.common.config.run_config import TRAINING
from isoscale.common.measure.scenario import Metric, figure
from isoscale.common.registry import lookup
from isoscale.common.report.board.values import finite, scaled
from isoscale.common.study.records import ResultLine


def metrics_of_study(lines: Iterable[ResultLine]) -> list[Metric]:
    """Returns the metrics that the scenarios of the runs declare."""
    names = dict.fromkeys([TRAINING, *(line.cell.scenario for line in lines)])
    return list(dict.fromkeys(m for name in names for m in lookup.scenario(name).metrics))


def metrics_of(line: ResultLine) -> dict[str, float]:
    """Returns tag -> value of a successful run; {} for any other run."""
    if not line.ok:
        return {}
    record = line.to_record()
    found: dict[str, float] = {}
    for metric in lookup.scenario(line.cell.scenario).metrics:
        value = figure(record, metric.field)
        number = scaled(finite(float(value) if isinstance(value, bool) else value), metric.scale)
        if number is not None:
            found[metric.tag] = number
    return found
