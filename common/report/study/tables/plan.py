"""The plan of a study, as ``isoscale compare --dry_run`` prints it."""

import math
from collections.abc import Mapping

from isoscale.common.config.counts import counted
from isoscale.common.config.options import text_of
from isoscale.common.registry.interpreters import Program
from isoscale.common.report.formats.terminal import Column, print_paragraphs, print_tables
from isoscale.common.report.words import joined
from isoscale.common.study import plan
from isoscale.common.study.execute import Study
from isoscale.common.study.sharing import about_shared

_SHOWN_CELLS = 200
"""Most cells that ``--dry_run`` lists: the layout of a longer table takes seconds."""

_COLUMNS = (
    Column("model", wraps=12),
    Column("framework and strategy", wraps=10),
    Column("devices", "right"),
    Column("global\nbatch", "right"),
    Column("dtype", rank=1),
    Column("tuning", wraps=10),
    Column("runs", "right", rank=2),
    Column("marks", wraps=14),
)


def print_plan(
    study: Study, programs: Mapping[str, Program], *, budget_seconds: float | None
) -> None:
    """Prints the planned cells and an estimate of their duration; runs nothing."""
    rate = plan.matrix_product_rate()
    rows: list[list[str]] = []
    seconds, total, cells = 0.0, 0, 0
    shared = {found.cell_id: found.reason for found in study.shared}
    for cell, runs in study.cells():
        cells += 1
        missing = programs[cell.framework].missing
        total += runs
        each = plan.estimate_seconds(cell, rate=rate, rounds=study.rounds)
        seconds += 0 if missing else runs * each
        if cells > _SHOWN_CELLS:
            continue
        sizes = "".join(f" {name}={text_of(value)}" for name, value in cell.overrides)
        marks = ["oversubscribed"] if cell.oversubscribed else []
        marks += [f"without {name}: {why}" for name, why in cell.tweaks_left_out]
        marks += [f"also tuned: {shared[name]}"] if (name := cell.cell().id) in shared else []
        marks += ["will be skipped: not installed"] if missing else []
        rows.append(
            [
                cell.model + sizes,
                f"{cell.framework} {cell.strategy}"
                + (f", {cell.independent} independent" if cell.independent else ""),
                str(cell.devices),
                str(cell.global_batch_size),
                cell.dtype,
                " +".join([cell.tuning, *cell.tweaks]),
                str(runs),
                ", ".join(marks),
            ]
        )
    left_out = print_tables(_COLUMNS, [("", rows)])
    if left_out:
        print_paragraphs([f"Not shown, for lack of width: {joined(left_out)}."])
    if cells > _SHOWN_CELLS:
        print(f"The table shows the first {_SHOWN_CELLS} cells.")
    for program in programs.values():
        if program.missing:
            print(f"Skipped: {program.missing}")
    for sentence in about_shared(study.shared):
        print(f"{sentence}.")
    print(f"{counted(cells, 'cell')}, {counted(total, 'run')} to do.")
    print(f"Estimated, not measured: about {math.ceil(seconds / 60)} min.")
    if budget_seconds is not None:
        print(f"Then further complete rounds within {budget_seconds:.0f} s (--time_budget).")
