"""All runs of a study as a CSV table: configuration of the cell, figures of the run."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoscale.common.analysis.scaling import step_seconds_of
from isoscale.common.config.run_config import TRAINING
from isoscale.common.measure.scenario import Column, figure
from isoscale.common.registry import lookup
from isoscale.common.report.formats.templates import printable
from isoscale.common.study.records import ResultLine

FILE = "results.csv"

_BEFORE = (
    Column("sequence", "sequence"),
    Column("run", "run"),
    Column("seed", "seed"),
    Column("status", "status"),
    Column("error", "error"),
    Column("started", "started_utc"),
)
_AFTER = (
    Column("parameters", "parameters"),
    Column("flops_per_step", "flops_per_step_analytic"),
    Column("peak_memory_bytes", "peak_memory_bytes"),
    Column("outside_load_share", "outside_load_share_of_one_core"),
    Column("disturbed", "disturbed"),
    Column("wall_seconds", "wall_seconds"),
    Column("exit_warning", "exit_warning"),
    Column("run_dir", "run_dir"),
    Column("isoscale", "isoscale"),
)
JUDGED = "step_seconds_judged"
"""Time per step from which ratios are made. The other figures of a run in turns are of all windows,
disturbed ones included."""
_TUNING_FIELDS = ("tuning", "tweaks")


def to_csv(lines: Sequence[ResultLine]) -> str:
    """Returns the CSV text, one row per run.

    Unknown values are empty. A spreadsheet cannot run any value as a formula.
    """
    records = [line.to_record() for line in lines]
    fields = cell_fields([record["cell"] for record in records])
    columns = [*_BEFORE, *_figures(lines), *_AFTER]
    return text(
        [*fields, *(column.name for column in columns), JUDGED],
        (
            [
                *(record["cell"].get(name) for name in fields),
                *(figure(record, column.field) for column in columns),
                step_seconds_of(line) if line.ok else None,
            ]
            for line, record in zip(lines, records, strict=True)
        ),
    )


def cell_fields(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the columns for the fields of cells; those for tweaks are always there."""
    # Cells without tweaks lack the field.
    return list(dict.fromkeys([*(name for cell in cells for name in cell), *_TUNING_FIELDS]))


def text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Returns CSV text; a spreadsheet cannot run any value as a formula.

    Args:
      header: names of the columns.
      rows: values of each row; None stands for an unknown value.
    """
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(map(_csv_value, header))
    writer.writerows(map(_csv_value, row) for row in rows)
    return output.getvalue()


def _figures(lines: Sequence[ResultLine]) -> list[Column]:
    """Returns the columns that the scenarios of the runs declare."""
    names = dict.fromkeys([TRAINING, *(line.cell.scenario for line in lines)])
    return list(dict.fromkeys(c for name in names for c in lookup.scenario(name).columns))


def _csv_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = " ".join(f"{name}={entry}" for name, entry in value.items())
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    if not isinstance(value, str):
        return value
    value = " ".join(printable(value).split())
    # Spreadsheets run text that begins with one of these (OWASP: CSV injection).
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
