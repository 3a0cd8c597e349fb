"""Texts and images: conditions of a study, explanation of the pages, the report and its plots."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from isoscale.common.config.read import MEBIBYTE, read_text
from isoscale.common.report.board import event_records as records
from isoscale.common.report.board.event_records import clean
from isoscale.common.report.board.values import study_seconds
from isoscale.common.report.study.data import REPORT, StudyData
from isoscale.common.study.store import RESULTS

_TAG = "isoscale report"
"""TensorBoard sorts the groups of texts by name, and opens the first two."""
_LARGEST_REPORT = 16 * MEBIBYTE
_PICTURE = re.compile(r"^!\[.*\n(?:\n\*.*\n)?", re.MULTILINE)
"""A picture, and its caption."""
_READING = (
    (
        "runs/CELL/run_N",
        "One run. Its steps are training steps, including the first step, which compiles.",
    ),
    ("wall time of a step", "The start of the run plus the measured seconds until the step."),
    (
        "scaling/SERIES",
        "Curves over the number of devices: the step is the number of devices. examples/s: medians "
        "over runs (groups, where they took turns); speedup and efficiency: the judged ratios.",
    ),
    (
        "hparams",
        "One line is one cell. Its metrics are means over its successful runs; the report has "
        "medians.",
    ),
    ("Smoothing", "Must be 0, because smoothing falsifies scaling curves."),
    (
        "Ignore outliers in chart scaling",
        "If on, cuts off curves at the edges of charts. The links of isoscale board switch it off.",
    ),
)


def report_events(study: StudyData, plots: Path | None) -> list[Event]:
    """Returns the events of the text and image pages; of the text of the report, if it is written.

    Args:
      study: the study.
      plots: folder of ``*.png`` to show; None or a missing folder: no images.
    """
    wall_time = study_seconds(study)
    values = [
        # Tags are part of the files on disk and must not change.
        records.markdown("manifest", _conditions(study)),
        records.markdown("reading", _table(_READING)),
        *_sections(study.folder / REPORT),
    ]
    found = sorted(plots.glob("*.png")) if plots is not None and plots.is_dir() else []
    paths = [path for path in found if path.is_file() and not path.is_symlink()]
    for path in paths:
        image = records.png(f"figures/{clean(path.stem)}", path.read_bytes())
        values += [image] if image is not None else []
    return [records.event([value], wall_time=wall_time) for value in values]


def _sections(report: Path) -> list[Summary.Value]:
    """Returns the sections of the report, without pictures, which have a page of their own.

    The table of all runs is left out: it is long, and the page of hyperparameters has the runs.
    """
    try:
        text = read_text(report, most=_LARGEST_REPORT)
        if report.stat().st_mtime < (report.parent / RESULTS).stat().st_mtime:
            return []  # it tells of fewer runs than the curves show
    except (ValueError, OSError):  # no report was written, or not by isoscale
        return []
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    titled = [section.partition("\n") for section in sections]
    return [
        records.markdown(
            f"{_TAG}/{number:02d} {clean(html.unescape(title))}", _PICTURE.sub("", content)
        )
        for number, (title, _, content) in enumerate(titled, 1)
        if title not in ("Conditions", "All runs")
    ]


def _conditions(study: StudyData) -> str:
    conditions = study.conditions()
    # Warnings come first: TensorBoard cuts long texts.
    warnings = [("WARNING", warning) for warning in conditions.warnings]
    return _table([("Study", study.name), *warnings, *conditions.facts])


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"| {_markdown_text(what)} | {_markdown_text(value)} |" for what, value in rows]
    return "\n".join(["| name | value |", "|---|---|", *lines])


def _markdown_text(text: str) -> str:
    """Returns text that Markdown and HTML show character by character."""
    return "".join(c if c.isalnum() or c in " ,;:.%/=()+-" else f"&#{ord(c)};" for c in clean(text))
