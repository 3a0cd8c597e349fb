"""The curves of one run (losses and times of its steps), and its session of hyperparameters."""

from collections.abc import Sequence
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from isoscale.common.report.board import event_records as records
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.hparams import hparams_of, program_of
from isoscale.common.report.board.metrics import metrics_of
from isoscale.common.report.board.values import finite, whole_step
from isoscale.common.study.records import ResultLine

_STATUS = {
    "ok": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
    "diverged": api_pb2.STATUS_FAILURE,
    "interrupted": api_pb2.STATUS_FAILURE,
    # A skipped run never started: neither a success nor a failure.
    "skipped": api_pb2.STATUS_UNKNOWN,
}


def run_events(
    line: ResultLine,
    *,
    steps: Sequence[dict[str, Any]],
    windows: Sequence[dict[str, Any]],
    group: str,
    study: str,
    start: float,
) -> list[Event]:
    """Returns the events of one run.

    Args:
      line: the run's line of ``results.jsonl``.
      steps, windows: the run's records of ``steps.jsonl`` and ``windows.jsonl``.
      group: session group; shared by all runs of a cell.
      study: name of the study.
      start: start of the run, in seconds since 1970.
    """
    begin = SessionStartInfo(group_name=group, start_time_secs=start)
    found = hparams_of(line.cell) | {"study": study, "isoscale": program_of(line)}
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
    values += [records.scalar(tag, value) for tag, value in metrics_of(line).items()]
    events = [records.event(values, wall_time=start)]
    # Pauses between windows are not measured: the wall time of a step is the start of training plus
    # the measured seconds up to the step.
    startup = line.result.startup_seconds or {}
    now = start + sum(finite(seconds) or 0 for seconds in startup.values())
    spans: dict[Any, tuple[float, float, int]] = {}
    for window in windows:
        seconds, count, first = (
            finite(window.get("seconds")),
            whole_step(window.get("steps")),
            whole_step(window.get("first_step")),
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
        step = whole_step(entry.get("step"))
        if step is None:
            continue
        begun, each, first = spans.get(entry.get("window"), (start, 0.0, step))
        values = [
            records.scalar("loss" if name == "loss" else f"loss_parts/{clean(name)}", loss)
            for name, entered in entry.items()
            if name not in ("step", "phase", "window") and (loss := finite(entered)) is not None
        ]
        if values:  # a non-finite loss is null in the record and gives no point
            wall_time = begun + each * (step - first + 1)
            events.append(records.event(values, wall_time=wall_time, step=step))
    end = SessionEndInfo(
        status=_STATUS.get(str(line.result.status), api_pb2.STATUS_UNKNOWN),
        end_time_secs=start + (finite(line.wall_seconds) or 0.0),
    )
    closing = records.hparams(
        hparams_metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)
    )
    return [*events, records.event([closing], wall_time=now)]
