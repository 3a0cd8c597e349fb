"""All runs of a study as a CSV table: the configuration of the cell, and the figures of the run."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from isoscale.common.report.formats.templates import printable

FILE = "results.csv"

_RUN_FIELDS = (
    ("sequence", "sequence"),
    ("run", "run"),
    ("seed", "seed"),
    ("status", "status"),
    ("error", "error"),
    ("started", "started_utc"),
    ("step_seconds.median", "step_seconds_median"),
    ("step_seconds.mean", "step_seconds_mean"),
    ("step_seconds.p10", "step_seconds_p10"),
    ("step_seconds.p90", "step_seconds_p90"),
    ("step_seconds.n", "throughput_windows"),
    ("latency_seconds.median", "latency_seconds_median"),
    ("latency_seconds.p10", "latency_seconds_p10"),
    ("latency_seconds.p90", "latency_seconds_p90"),
    ("latency_seconds.n", "latency_windows"),
    ("items_per_second", "examples_per_second"),
    ("tokens_per_second", "tokens_per_second"),
    ("compile_seconds", "compile_seconds"),
    ("loss_first", "loss_first_nats"),
    ("loss_last", "loss_last_nats"),
    ("eval.accuracy", "accuracy_fraction"),
    ("eval.loss", "eval_loss_nats"),
    ("eval.n", "eval_labels"),
    ("parameters", "parameters"),
    ("flops_per_step", "flops_per_step_analytic"),
    ("peak_memory_bytes", "peak_memory_bytes"),
    ("outside_load_share", "outside_load_share_of_one_core"),
    ("disturbed", "disturbed"),
    ("wall_seconds", "wall_seconds"),
    ("exit_warning", "exit_warning"),
    ("run_dir", "run_dir"),
)


_TUNING_FIELDS = ("tuning", "tweaks")


def to_csv(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns a row for every run; unknown values are empty. No value can be run as a formula."""
    found = dict.fromkeys(name for line in lines for name in line["cell"])
    # Cells without tweaks lack the field; the column is always there.
    cell_names = list(dict.fromkeys([*found, *_TUNING_FIELDS]))
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([*map(_csv_value, cell_names), *(column for _, column in _RUN_FIELDS)])
    for line in lines:
        cell = [_csv_value(line["cell"].get(name)) for name in cell_names]
        writer.writerow([*cell, *(_csv_value(_field(line, path)) for path, _ in _RUN_FIELDS)])
    return output.getvalue()


def _field(line: Mapping[str, Any], path: str) -> Any:
    value: Any = line
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


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
