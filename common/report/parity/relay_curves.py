"""Writes the curves of ``isoscale relay`` for TensorBoard."""

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from isoscale.common.disk.writing import writing
from isoscale.common.parity.compare import LOSS
from isoscale.common.parity.documents import RelayDocument
from isoscale.common.report.board import event_records as records

TENSORBOARD = "tensorboard"


def write_event_files(folder: Path, document: RelayDocument) -> Path:
    """Writes the curves of each relay and unbroken run for TensorBoard; returns their folder."""
    board = folder / TENSORBOARD
    shutil.rmtree(board, ignore_errors=True)
    now = time.time()

    for run in document.trainings():
        curves: dict[str, Mapping[int, float | None]] = {"relay/loss": dict(enumerate(run.losses))}
        for comparison in run.comparisons:
            tag = f"relay/loss_difference_relative/{comparison.against}"
            curves[tag.replace(" ", "_").replace(":", "_")] = comparison.figures[LOSS].by_step
        name = "-".join(["relay" if len(run.legs) > 1 else "unbroken", *run.legs])
        target = board / run.model.replace("/", "-") / name.replace(":", "_")
        with writing(target):
            target.mkdir(parents=True)
        events = [
            records.event([records.scalar(tag, value)], wall_time=now, step=step)
            for tag, curve in curves.items()
            for step, value in curve.items()
            if value is not None and math.isfinite(value)
        ]
        content = records.encode(events, wall_time=now)
        records.write_event_file(target, content, records.digest(content))
    return board
