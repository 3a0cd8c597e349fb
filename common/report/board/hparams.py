"""The page of hyperparameters: all fields of a cell, and the choice of shown columns."""

from collections.abc import Sequence
from typing import Any

from tensorboard.plugins.hparams import api_pb2

from isoscale.common.config.cell import Cell
from isoscale.common.machine.own_version import UNKNOWN
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.metrics import metrics_of_study
from isoscale.common.report.board.values import finite, study_seconds
from isoscale.common.report.study.data import StudyData
from isoscale.common.study.records import ResultLine

_LARGEST_DISCRETE = 12
_SHOWN_COLUMNS = 5
_TELLING = (
    "study",
    "model",
    "framework",
    "strategy",
    "devices",
    "global_batch_size",
    "dtype",
    "sizes",
    "compile_mode",
    "tuning",
    "tweaks",
    "independent",
)


def hparams_of(cell: Cell) -> dict[str, bool | float | str]:
    """Returns all fields of a cell in one flat dict of floats, booleans and texts."""
    flat: dict[str, bool | float | str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, bool):
            flat[clean(name)] = value
        elif isinstance(value, int | float):
            if finite(value) is not None:
                flat[clean(name)] = float(value)
        elif value is not None:
            flat[clean(name)] = clean(value)

    # "none" is a value, so that users can filter by it.
    add("tweaks", ", ".join(cell.tweaks) or "none")
    for name, value in cell.to_record().items():
        if name == "tweaks":
            continue
        if name == "optimizer" and isinstance(value, dict):
            for part, entry in value.items():
                add("optimizer" if part == "name" else part, entry)
        elif isinstance(value, dict):
            text = " ".join(f"{part}={entry}" for part, entry in value.items())
            add("sizes" if name == "overrides" else name, text or "preset")
        else:
            add(name, value)
    return flat


def program_of(line: ResultLine) -> str:
    """Returns the version and commit of the isoscale that ran a run."""
    return clean(line.result.isoscale or UNKNOWN)


def _hparam_info(name: str, values: Sequence[bool | float | str]) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=name)
    kinds = {type(value) for value in values}
    if kinds == {float}:
        info.type = api_pb2.DATA_TYPE_FLOAT64
    elif kinds == {bool}:
        info.type = api_pb2.DATA_TYPE_BOOL
    else:
        info.type = api_pb2.DATA_TYPE_STRING
    distinct = sorted(set(values), key=lambda value: (str(type(value)), value))
    if len(kinds) == 1 and len(distinct) <= _LARGEST_DISCRETE:
        info.domain_discrete.extend(distinct)
    elif kinds == {float}:
        info.domain_interval.min_value, info.domain_interval.max_value = distinct[0], distinct[-1]
    return info


def experiment_of(studies: Sequence[StudyData]) -> api_pb2.Experiment:
    """Returns the description of all hyperparameters and metrics of some studies."""
    values: dict[str, list[bool | float | str]] = {}
    for study in studies:
        for summary in study.measured:
            found = hparams_of(summary.cell) | {"study": clean(study.name)}
            for name, value in found.items():
                values.setdefault(name, []).append(value)
        values.setdefault("isoscale", []).extend(map(program_of, study.lines))
    infos = {name: _hparam_info(name, found) for name, found in values.items()}
    # TensorBoard shows five columns by default: first the marked columns, in alphabetical order.
    # Only the most informative columns get the mark.
    varying = [name for name, found in values.items() if len(set(found)) > 1]
    varying.sort(key=lambda name: _TELLING.index(name) if name in _TELLING else len(_TELLING))
    for name in varying[:_SHOWN_COLUMNS]:
        infos[name].differs = True
    return api_pb2.Experiment(
        description="A session group is a cell. Its metrics are means over its successful runs.",
        time_created_secs=max(map(study_seconds, studies)),
        hparam_infos=infos.values(),
        metric_infos=[
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(tag=metric.tag),
                display_name=metric.name,
                description=metric.about,
            )
            for metric in metrics_of_study(line for study in studies for line in study.lines)
        ],
    )
