"""The plan of a study, as ``isoscale compare --dry_run`` prints it."""

import math
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from isoscale.common.registry.interpreters import Program
from isoscale.common.study import plan
from isoscale.common.study.execute import Study

_SHOWN_CELLS = 200
"""Most cells that ``--dry_run`` lists: the layout of a longer table takes seconds."""


def print_plan(
    study: Study, programs: Mapping[str, Program], *, budget_seconds: float | None
) -> None:
    """Prints the planned cells and an estimate of their duration; runs nothing."""
    rate = plan.matrix_product_rate()
    table = Table(
        "model",
        "framework",
        "strategy",
        "devices",
        "global batch",
        "dtype",
        "tuning",
        "runs",
        "marks",
    )
    seconds, total, cells = 0.0, 0, 0
    for cell, runs in study.cells():
        cells += 1
        missing = programs[cell.framework].missing
        total += runs
        seconds += 0 if missing else runs * plan.estimate_seconds(cell, rate=rate)
        if cells > _SHOWN_CELLS:
            continue
        sizes = "".join(f" {name}={value}" for name, value in cell.overrides)
        marks = ["oversubscribed"] if cell.oversubscribed else []
        marks += [f"without {name}: {why}" for name, why in cell.tweaks_left_out]
        marks += ["will be skipped: not installed"] if missing else []
        table.add_row(
            cell.model + sizes,
            cell.framework,
            cell.strategy,
            str(cell.devices),
            str(cell.global_batch_size),
            cell.dtype,
            " +".join([cell.tuning, *cell.tweaks]),
            str(runs),
            ", ".join(marks),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if cells > _SHOWN_CELLS:
        print(f"The table shows the first {_SHOWN_CELLS} cells.")
    for program in programs.values():
        if program.missing:
            print(f"Skipped: {program.missing}")
    print(f"{cells} cells, {total} runs to do.")
    print(f"Estimated, not measured: about {math.ceil(seconds / 60)} min.")
    if budget_seconds is not None:
        print(f"Then further complete rounds within {budget_seconds:.0f} s (--time_budget).")
