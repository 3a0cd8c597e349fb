"""A study -> TensorBoard event files: a view, made anew from the results whenever it is wanted.

``<study>/tensorboard/`` holds a folder for each TensorBoard run::

  .                     what the pages need: hyperparameters, and the layout of the scaling charts
  report/               manifest and figures
  runs/<cell>/run_<n>/  loss and time per step, one session of the hparams page
  scaling/<series>/     scaling curves: their step is the number of devices
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
    MultilineChartContent,
)
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from isoscale.common.analysis.estimates import Estimate, Ratio
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.waterfall import tweaks_of
from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError
from isoscale.common.report.board import event_records as records
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.study.data import StudyData

FOLDER = "tensorboard"
PARTS = ("report", "runs", "scaling")
_FORMAT = "2"
"""Changes when a run's event file gets other content, so that old ones are written again."""
_STATUS = {
    "ok": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
    "diverged": api_pb2.STATUS_FAILURE,
    # Neither a success nor a failure: it was never started.
    "skipped": api_pb2.STATUS_UNKNOWN,
}
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
)
_LARGEST_STEP = 2**62


def number(value: Any) -> float | None:
    """Returns a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # TensorBoard keeps float32: what is larger would be shown as infinite.
    return float(value) if abs(value) < 3.4e38 else None


def _median(line: dict[str, Any], name: str) -> float | None:
    found = line.get(name)
    return number(found.get("median")) if isinstance(found, dict) else None


def _accuracy(line: dict[str, Any]) -> float | None:
    found = line.get("eval")
    return number(found.get("accuracy")) if isinstance(found, dict) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Metric:
    tag: str
    name: str
    about: str


METRICS = (
    _Metric(
        tag="run/step_ms",
        name="ms/step",
        about="median over throughput windows",
    ),
    _Metric(tag="run/examples_per_s", name="examples/s", about="all measured examples / seconds"),
    _Metric(tag="run/latency_ms", name="latency ms", about="median of single-step windows"),
    _Metric(tag="run/compile_s", name="compile s", about="first step less a median step"),
    _Metric(tag="run/peak_memory_MiB", name="memory MiB", about="peak, as the study's table"),
    _Metric(tag="run/loss_last", name="last loss", about="of the last training step"),
    _Metric(tag="run/accuracy_percent", name="accuracy %", about="on the evaluation set"),
    _Metric(
        tag="run/disturbed",
        name="disturbed",
        about="1: other programs used more than 10 % of one of the run's cores",
    ),
)


def _metrics(line: dict[str, Any]) -> dict[str, float]:
    """Returns what is compared between runs; nothing of a run that is not ok."""
    if line.get("status") != "ok":
        return {}
    disturbed = line.get("disturbed")
    values = {
        "run/step_ms": _scaled(_median(line, "step_seconds"), 1e3),
        "run/examples_per_s": number(line.get("items_per_second")),
        "run/latency_ms": _scaled(_median(line, "latency_seconds"), 1e3),
        "run/compile_s": number(line.get("compile_seconds")),
        "run/peak_memory_MiB": _scaled(number(line.get("peak_memory_bytes")), 2**-20),
        "run/loss_last": number(line.get("loss_last")),
        "run/accuracy_percent": _scaled(_accuracy(line), 100),
        "run/disturbed": None if disturbed is None else float(bool(disturbed)),
    }
    return {tag: value for tag, value in values.items() if value is not None}


def plain_name(text: str) -> str:
    """Returns a file name for any text; different texts get different names."""
    plain = re.sub(r"[^A-Za-z0-9._ -]+", "_", text).lstrip(". ")
    if plain == text and 0 < len(text) <= 150:
        return plain
    return f"{plain[:120]}-{records.digest(text.encode('utf-8', 'replace'))[:8]}"


def _seconds(text: Any) -> float | None:
    """Returns an ISO date as seconds since 1970; None if it is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None


def _study_seconds(study: StudyData) -> float:
    """Returns when the study's last run was started: the time of what is made from all runs."""
    texts = [line.get("started") for line in study.lines]
    texts += [session.get("started") for session in study.record["sessions"]]
    return max((s for s in map(_seconds, texts) if s is not None), default=0.0)


def hparams_of(cell: dict[str, Any]) -> dict[str, bool | float | str]:
    """Returns everything that makes a cell what it is, flat, numbers as numbers."""
    flat: dict[str, bool | float | str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, bool):
            flat[clean(name)] = value
        elif isinstance(value, int | float):
            if number(value) is not None:
                flat[clean(name)] = float(value)
        elif value is not None:
            flat[clean(name)] = clean(value)

    # Said where there are none, too: that is a value to choose by.
    add("tweaks", ", ".join(tweaks_of(cell)) or "none")
    for name, value in cell.items():
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


def _experiment(studies: Sequence[StudyData]) -> api_pb2.Experiment:
    values: dict[str, list[bool | float | str]] = {}
    for study in studies:
        for summary in (*study.summaries, *study.ladder):
            found = hparams_of(summary.cell) | {"study": clean(study.name)}
            for name, value in found.items():
                values.setdefault(name, []).append(value)
    infos = {name: _hparam_info(name, found) for name, found in values.items()}
    # TensorBoard shows five columns by itself, those that differ first, and in the order of the
    # alphabet: only the most telling ones are said to differ.
    varying = [name for name, found in values.items() if len(set(found)) > 1]
    varying.sort(key=lambda name: _TELLING.index(name) if name in _TELLING else len(_TELLING))
    for name in varying[:_SHOWN_COLUMNS]:
        infos[name].differs = True
    return api_pb2.Experiment(
        description="A session group is a cell; its metrics are means over its successful runs.",
        time_created_secs=max(map(_study_seconds, studies)),
        hparam_infos=infos.values(),
        metric_infos=[
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(tag=metric.tag),
                display_name=metric.name,
                description=metric.about,
            )
            for metric in METRICS
        ],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Point:
    devices: int
    value: float
    low: float | None
    high: float | None
    is_base: bool


def _point(quantity: str, cell: CellSummary) -> _Point | None:
    """Returns one figure of a cell with its interval; None where there is none."""
    found: Estimate | Ratio | None
    if quantity == "examples_per_s":
        found = cell.items_per_second
    else:
        found = cell.speedup if quantity == "speedup" else cell.efficiency
    devices = _step(cell.cell["devices"])
    if found is None or devices is None:
        return None
    value = number(found.median if isinstance(found, Estimate) else found.value)
    if value is None:
        return None
    factor = 100 if quantity == "efficiency_percent" else 1
    low, high = (_scaled(number(end), factor) for end in (found.low, found.high))
    return _Point(
        devices=devices,
        value=factor * value,
        low=None if high is None else low,
        high=None if low is None else high,
        # One by definition: it needs no interval.
        is_base=quantity != "examples_per_s" and cell.cell["strategy"] == "bare",
    )


QUANTITIES = {
    "speedup": "speedup (bare = 1)",
    "efficiency_percent": "efficiency % (speedup / devices)",
    "examples_per_s": "examples/s",
}


def _tags(title: str, quantity: str) -> tuple[str, str, str, str]:
    """Returns the tags of a setting's figure: of all cells, and (value, low, high) of an interval.

    TensorBoard draws an interval only if value, low and high have the same steps, so that cells
    without an interval have their figure under a tag of their own.
    """
    stem = f"{clean(title)}/{quantity}"
    return stem, f"{stem}_with_interval", f"{stem}_low", f"{stem}_high"


def _layout(studies: Sequence[StudyData]) -> Layout:
    titles = dict.fromkeys(setting.title for study in studies for setting in study.settings)
    found = Layout()
    for title in titles:
        cells = [
            cell
            for study in studies
            for setting in study.settings
            if setting.title == title
            for _, cell in setting.cells
        ]
        category = Category(title=clean(title) + _marks(cells))
        for quantity in QUANTITIES:
            points = [p for cell in cells if (p := _point(quantity, cell)) is not None]
            category.chart.extend(_charts(title, quantity, points))
        if category.chart:
            found.category.append(category)
    return found


def _marks(cells: Sequence[CellSummary]) -> str:
    """Returns what a reader must know of a setting's figures, to stand behind its title."""
    shared = sorted({cell.cell["devices"] for cell in cells if cell.cell.get("oversubscribed")})
    disturbed = sum(cell.disturbed for cell in cells)
    marks = []
    if shared:
        counts = ", ".join(map(str, shared))
        marks.append(f"oversubscribed at {counts} devices: overhead, not scaling")
    if disturbed:
        marks.append(f"{disturbed} of {sum(len(cell.ok) for cell in cells)} runs disturbed")
    return f" ({'; '.join(marks)})" if marks else ""


def _charts(title: str, quantity: str, points: Sequence[_Point]) -> Iterator[Chart]:
    every, value, low, high = _tags(title, quantity)
    label = f"{QUANTITIES[quantity]}, by devices"
    measured = [point for point in points if not point.is_base]
    bounded = [point for point in measured if point.low is not None]
    missing = len(measured) - len(bounded)
    if bounded:
        only = "" if not missing else f", only the {len(bounded)} cells that have one"
        yield Chart(
            title=f"{label}, 95 % interval over runs{only}",
            margin=MarginChartContent(
                series=[MarginChartContent.Series(value=value, lower=low, upper=high)]
            ),
        )
    if missing:
        yield Chart(
            title=f"{label}, NO interval in {missing} of {len(measured)} cells: these, or their "
            "base, have fewer than 3 runs",
            multiline=MultilineChartContent(tag=[f"{re.escape(every)}$"]),
        )


def _scaling_events(study: StudyData) -> dict[str, list[Event]]:
    """Returns series -> events; two cells of a series never share a step."""
    wall_time = _study_seconds(study)
    found: dict[str, list[Event]] = {}
    for setting in study.settings:
        for series, cells in setting.series.items():
            seen: dict[int, int] = {}
            for cell in cells:
                devices = cell.cell["devices"]
                seen[devices] = seen.get(devices, 0) + 1
                name = series if seen[devices] == 1 else f"{series} ({seen[devices]})"
                values = []
                for quantity in QUANTITIES:
                    point = _point(quantity, cell)
                    if point is None:
                        continue
                    every, value, low, high = _tags(setting.title, quantity)
                    values.append(records.scalar(every, point.value))
                    if point.low is not None and point.high is not None:
                        values += [
                            records.scalar(value, point.value),
                            records.scalar(low, point.low),
                            records.scalar(high, point.high),
                        ]
                if values:
                    event = records.event(values, wall_time=wall_time, step=devices)
                    found.setdefault(name, []).append(event)
    return found


def _markdown_text(text: str) -> str:
    """Returns text of which Markdown and HTML read every character as itself."""
    return "".join(c if c.isalnum() or c in " ,;:.%/=()+-" else f"&#{ord(c)};" for c in clean(text))


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"| {_markdown_text(what)} | {_markdown_text(value)} |" for what, value in rows]
    return "\n".join(["| what | value |", "|---|---|", *lines])


_READING = (
    (
        "runs/CELL/run_N",
        "One run. Its steps are training steps, from the first (compiling) one on.",
    ),
    ("wall time of a step", "The start of the run, and the measured seconds since."),
    (
        "scaling/SERIES",
        "Curves over the number of devices: that is their step. examples/s: medians over runs; "
        "speedup and efficiency: ratios of geometric means.",
    ),
    (
        "hparams",
        "One line is one cell; its metrics are means over its successful runs, where the report "
        "has medians.",
    ),
    ("Smoothing", "Must be 0: it would falsify a scaling curve."),
    ("Ignore outliers in chart scaling", "On, it may cut off curves at the edge of a chart."),
)


def _conditions(study: StudyData) -> str:
    conditions = study.conditions()
    # Warnings come first: TensorBoard cuts long texts.
    warnings = [("WARNING", warning) for warning in conditions.warnings]
    return _table([("Study", study.name), *warnings, *conditions.facts])


def _report_events(study: StudyData, figures: Path | None) -> list[Event]:
    wall_time = _study_seconds(study)
    values = [
        records.markdown("manifest", _conditions(study)),
        records.markdown("reading", _table(_READING)),
    ]
    found = sorted(figures.glob("*.png")) if figures is not None and figures.is_dir() else []
    paths = [path for path in found if path.is_file() and not path.is_symlink()]
    for path in paths:
        image = records.png(f"figures/{clean(path.stem)}", path.read_bytes())
        values += [image] if image is not None else []
    return [records.event([value], wall_time=wall_time) for value in values]


def _dicts(entries: Iterable[Any]) -> list[dict[str, Any]]:
    return [entry for entry in entries if isinstance(entry, dict)]


def _step(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < _LARGEST_STEP else None


def _run_events(
    line: dict[str, Any],
    *,
    steps: Sequence[dict[str, Any]],
    windows: Sequence[dict[str, Any]],
    group: str,
    study: str,
    start: float,
) -> list[Event]:
    """Returns the events of one run.

    Args:
      line: of ``results.jsonl``.
      steps, windows: its records.
      group: session group, equal for all runs of a cell and for no others.
      study: its name.
      start: in seconds since 1970.
    """
    begin = SessionStartInfo(group_name=group, start_time_secs=start)
    found = hparams_of(line["cell"]) | {"study": study}
    for name, value in found.items():
        if isinstance(value, bool):
            begin.hparams[name].bool_value = value
        elif isinstance(value, float):
            begin.hparams[name].number_value = value
        else:
            begin.hparams[name].string_value = value
    values = [
        records.hparams(
            hparams_metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=begin)
        )
    ]
    values += [records.scalar(tag, value) for tag, value in _metrics(line).items()]
    events = [records.event(values, wall_time=start)]
    # The clocks of windows do not see what lies between them: the wall time of a step is the start
    # of training and the measured seconds up to it.
    startup = line.get("startup_seconds")
    now = start + sum(
        number(s) or 0 for s in (startup.values() if isinstance(startup, dict) else ())
    )
    spans: dict[Any, tuple[float, float, int]] = {}
    for window in windows:
        seconds, count, first = (
            number(window.get("seconds")),
            _step(window.get("steps")),
            _step(window.get("first_step")),
        )
        if seconds is None or not count or first is None:
            continue
        if window.get("phase") in ("throughput", "latency"):
            tag = f"window/{window['phase']}_ms_per_step"
            point = records.scalar(tag, 1e3 * seconds / count)
            events.append(records.event([point], wall_time=now, step=first))
        spans[window.get("window")] = (now, seconds / count, first)
        now += seconds
    for entry in steps:
        step = _step(entry.get("step"))
        if step is None:
            continue
        begun, each, first = spans.get(entry.get("window"), (start, 0.0, step))
        values = [
            records.scalar("loss" if name == "loss" else f"loss_parts/{clean(name)}", loss)
            for name, entered in entry.items()
            if name not in ("step", "phase", "window") and (loss := number(entered)) is not None
        ]
        if values:  # a loss that is not finite is null, and has no point
            wall_time = begun + each * (step - first + 1)
            events.append(records.event(values, wall_time=wall_time, step=step))
    end = SessionEndInfo(
        status=_STATUS.get(str(line.get("status")), api_pb2.STATUS_UNKNOWN),
        end_time_secs=start + (number(line.get("wall_seconds")) or 0.0),
    )
    closing = records.hparams(
        hparams_metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)
    )
    return [*events, records.event([closing], wall_time=now)]


def _run_key(study: StudyData, line: dict[str, Any], group: str) -> str:
    """Returns a name for all that a run's event file is made from."""
    parts = [_FORMAT, study.name, group, json.dumps(line, sort_keys=True)]
    for name in ("steps.jsonl", "windows.jsonl"):
        try:
            status = os.stat(study.folder / str(line.get("run_dir")) / name)
            parts.append(f"{status.st_mtime_ns} {status.st_size}")
        except (OSError, ValueError):
            parts.append("none")
    return records.digest(*(part.encode("utf-8", "replace") for part in parts))


def _write_runs(study: StudyData, folder: Path) -> None:
    # Studies of one name in different places are different studies.
    place = records.digest(str(study.folder.resolve()).encode("utf-8", "replace"))[:6]
    default_start = _study_seconds(study)
    kept: dict[str, set[str]] = {}
    for line in study.lines:
        cell = plain_name(Cell.from_record(line["cell"]).id)
        run = plain_name(f"run_{line['run']}")
        if cell not in kept:
            kept[cell] = set()
            records.make_plain_folder(folder / cell)
        kept[cell].add(run)
        target = records.make_plain_folder(folder / cell / run)
        group = f"{clean(study.name)}/{cell}/{place}"
        key = _run_key(study, line, group)
        if records.is_written(target, key):
            continue
        try:
            steps, windows = _dicts(study.steps(line)), _dicts(study.windows(line))
        except (ValueError, OSError) as error:
            raise ConfigError(f"{study.folder}: records of {cell}/{run}: {error}") from None
        started = _seconds(line.get("started"))
        start = default_start if started is None else started
        events = _run_events(
            line, steps=steps, windows=windows, group=group, study=clean(study.name), start=start
        )
        records.write_event_file(target, records.encode(events, wall_time=start), key)
    records.keep_only(folder, kept)
    for cell, runs in kept.items():
        records.keep_only(folder / cell, runs)


def _write(folder: Path, events: Iterable[Event], *, wall_time: float) -> None:
    content = records.encode(events, wall_time=wall_time)
    key = records.digest(content)
    if not records.is_written(folder, key):
        records.write_event_file(folder, content, key)


def _write_root(studies: Sequence[StudyData], folder: Path) -> None:
    wall_time = max(map(_study_seconds, studies))
    experiment = HParamsPluginData(experiment=_experiment(studies))
    values = [
        records.hparams(hparams_metadata.EXPERIMENT_TAG, experiment),
        records.layout(_layout(studies)),
    ]
    _write(folder, [records.event(values, wall_time=wall_time)], wall_time=wall_time)


def write_event_files(study: StudyData, *, figures: Path | None) -> Path:
    """Writes a study's event files; what is up to date stays, what has gone is removed.

    Args:
      study: the study.
      figures: folder of ``*.png`` to show; None, or not there: none.

    Returns:
      The folder, for ``tensorboard --logdir``.

    Raises:
      ConfigError: a run's records cannot be read.
      OSError: the study's folder cannot be written to.
    """
    folder = records.make_plain_folder(study.folder / FOLDER)
    parts = {name: records.make_plain_folder(folder / name) for name in PARTS}
    wall_time = _study_seconds(study)
    _write_runs(study, parts["runs"])
    scaling = {plain_name(series): events for series, events in _scaling_events(study).items()}
    for name, events in scaling.items():
        _write(records.make_plain_folder(parts["scaling"] / name), events, wall_time=wall_time)
    records.keep_only(parts["scaling"], scaling)
    _write(parts["report"], _report_events(study, figures), wall_time=wall_time)
    _write_root([study], folder)
    records.keep_only(folder, PARTS)
    return folder


def join_event_files(studies: Mapping[str, StudyData], folder: Path) -> None:
    """Makes a folder that shows several studies, whose event files are written, side by side.

    The pages of hyperparameters and scaling need one description of everything: TensorBoard takes
    the hyperparameters of any one study, and loses charts when it merges layouts.

    Args:
      studies: by the name under which they are shown.
      folder: an existing folder; takes links to the studies' event files.
    """
    for name, study in studies.items():
        shown = records.make_plain_folder(folder / name)
        for part in PARTS:
            link = shown / part
            if not link.is_symlink():
                link.symlink_to((study.folder / FOLDER / part).resolve(), target_is_directory=True)
    _write_root(list(studies.values()), folder)


def most_points(folder: Path) -> int:
    """Returns a number of points that no curve below a folder exceeds, from the files' sizes."""
    sizes = [
        (Path(path) / name).stat().st_size
        for path, _, names in os.walk(folder, followlinks=True)
        for name in names
    ]
    return max(sizes, default=0) // records.RECORD_OVERHEAD_BYTES + 1
