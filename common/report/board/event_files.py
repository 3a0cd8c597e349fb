"""Writes the TensorBoard event files of a study; they are always made from its results.

``<study>/tensorboard/`` contains a folder for each TensorBoard run::

  .                     hyperparameters of all runs, and the layout of the scaling charts
  report/               conditions, the report and its plots
  runs/<cell>/run_<n>/  loss and time per step, one session of the hparams page
  scaling/<series>/     scaling curves; the step of a point is its number of devices
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.writing import writing
from isoscale.common.report.board import event_records as records
from isoscale.common.report.board.differences import diff_events
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.hparams import experiment_of
from isoscale.common.report.board.layout import layout_of
from isoscale.common.report.board.report_page import report_events
from isoscale.common.report.board.runs import run_events
from isoscale.common.report.board.scaling import scaling_events
from isoscale.common.report.board.values import DIFF, seconds_of, study_seconds
from isoscale.common.report.study.data import StudyData
from isoscale.common.study.records import ResultLine

FOLDER = "tensorboard"
PARTS = ("report", "runs", "scaling")
_FORMAT = "4"
"""Raise when the content of a run's event file changes: old files are then written again."""


def write_event_files(study: StudyData, *, plots: Path | None) -> Path:
    """Writes a study's event files; keeps current files; removes files of deleted runs.

    Args:
      study: the study.
      plots: folder of ``*.png`` to show; None or a missing folder: no images.

    Returns:
      The folder, for ``tensorboard --logdir``.

    Raises:
      ConfigError: the records of a run are unreadable.
      FolderError: the disk is full, or the folder of the study cannot be written.
    """
    with writing(study.folder / FOLDER):
        folder = records.make_plain_folder(study.folder / FOLDER)
        parts = {name: records.make_plain_folder(folder / name) for name in PARTS}
        wall_time = study_seconds(study)
        _write_runs(study, parts["runs"])
        scaling = {plain_name(series): events for series, events in scaling_events(study).items()}
        for name, events in scaling.items():
            _write(records.make_plain_folder(parts["scaling"] / name), events, wall_time=wall_time)
        records.keep_only(parts["scaling"], scaling)
        _write(parts["report"], report_events(study, plots), wall_time=wall_time)
        _write_root([study], folder)
        records.keep_only(folder, PARTS)
    return folder


def join_event_files(studies: Mapping[str, StudyData], folder: Path) -> None:
    """Fills a folder that shows several studies side by side; their event files must exist.

    Writes one description of all studies for the pages of hyperparameters and scaling. Otherwise
    TensorBoard takes the hyperparameters of any one study, and loses charts when merging layouts.

    Args:
      studies: shown name -> study.
      folder: an existing folder; receives links to the event files of the studies.
    """
    for name, study in studies.items():
        shown = records.make_plain_folder(folder / name)
        for part in PARTS:
            link = shown / part
            if not link.is_symlink():
                link.symlink_to((study.folder / FOLDER / part).resolve(), target_is_directory=True)
    _write_root(list(studies.values()), folder)
    if differences := diff_events(studies):
        wall_time = max(map(study_seconds, studies.values()))
        _write(records.make_plain_folder(folder / DIFF), differences, wall_time=wall_time)


def most_points(folder: Path) -> int:
    """Returns an upper bound of the points of any curve below a folder, from file sizes."""
    sizes = [
        (Path(path) / name).stat().st_size
        for path, _, names in os.walk(folder, followlinks=True)
        for name in names
    ]
    return max(sizes, default=0) // records.RECORD_OVERHEAD_BYTES + 1


def plain_name(text: str) -> str:
    """Returns a file name for any text; different texts give different names."""
    plain = re.sub(r"[^A-Za-z0-9._ -]+", "_", text).lstrip(". ")
    if plain == text and 0 < len(text) <= 150:
        return plain
    return f"{plain[:120]}-{records.digest(text.encode('utf-8', 'replace'))[:8]}"


def _write_runs(study: StudyData, folder: Path) -> None:
    # Studies with the same name in different folders are different studies.
    place = records.digest(str(study.folder.resolve()).encode("utf-8", "replace"))[:6]
    default_start = study_seconds(study)
    kept: dict[str, set[str]] = {}
    for line in study.lines:
        cell = plain_name(line.cell.id)
        run = plain_name(f"run_{line.run}")
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
        started = seconds_of(line.result.started)
        start = default_start if started is None else started
        events = run_events(
            line, steps=steps, windows=windows, group=group, study=clean(study.name), start=start
        )
        records.write_event_file(target, records.encode(events, wall_time=start), key)
    records.keep_only(folder, kept)
    for cell, runs in kept.items():
        records.keep_only(folder / cell, runs)


def _run_key(study: StudyData, line: ResultLine, group: str) -> str:
    """Returns a key that changes when any input of a run's event file changes."""
    parts = [_FORMAT, study.name, group, json.dumps(line.to_record(), sort_keys=True)]
    for name in ("steps.jsonl", "windows.jsonl"):
        try:
            status = os.stat(study.folder / str(line.result.run_dir) / name)
            parts.append(f"{status.st_mtime_ns} {status.st_size}")
        except (OSError, ValueError):
            parts.append("none")
    return records.digest(*(part.encode("utf-8", "replace") for part in parts))


def _dicts(entries: Iterable[Any]) -> list[dict[str, Any]]:
    return [entry for entry in entries if isinstance(entry, dict)]


def _write(folder: Path, events: Iterable[Event], *, wall_time: float) -> None:
    content = records.encode(events, wall_time=wall_time)
    key = records.digest(content)
    if not records.is_written(folder, key):
        records.write_event_file(folder, content, key)


def _write_root(studies: Sequence[StudyData], folder: Path) -> None:
    wall_time = max(map(study_seconds, studies))
    experiment = HParamsPluginData(experiment=experiment_of(studies))
    values = [
        records.hparams(hparams_metadata.EXPERIMENT_TAG, experiment),
        records.layout(layout_of(studies)),
    ]
    _write(folder, [records.event(values, wall_time=wall_time)], wall_time=wall_time)
