"""The table of a setting's cells."""

from collections.abc import Sequence

from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.verdicts import Named
from isoscale.common.report.words import (
    JUDGED,
    accuracy,
    estimate,
    marks,
    median_of,
    number,
    ratio,
)

TOKENS = "tokens/s"
COLUMNS = (
    "cell",
    "marks",
    "processes",
    "runs",
    "time per step, ms",
    "throughput, examples/s",
    TOKENS,
    "GFLOP/s, computed",
    f"speedup against bare ({JUDGED})",
    "efficiency, % (speedup / devices)",
    "latency of one step, ms",
    "memory, MiB",
    "compile, s",
    "loss, first",
    "loss, last",
    "accuracy, %",
)


def table(cells: Sequence[Named]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and the rows of a setting's table; tokens only for a model with tokens.

    Args:
      cells: (name, cell) of the setting.
    """
    tokens = any(cell.tokens_per_second is not None for _, cell in cells)
    kept = [i for i, name in enumerate(COLUMNS) if tokens or name != TOKENS]
    rows = [_row(name, cell) for name, cell in cells]
    return [COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _row(name: str, summary: CellSummary) -> list[str]:
    """Returns the values of a cell's row, in the order of ``COLUMNS``."""
    ok = summary.ok
    return [
        name,
        "; ".join(marks(summary)),
        str(summary.cell.processes),
        str(len(ok)),
        estimate(summary.step_seconds, scale=1e3),
        estimate(summary.examples_per_second),
        estimate(summary.tokens_per_second),
        estimate(summary.flops_per_second, scale=1e-9),
        ratio(summary.speedup),
        ratio(summary.efficiency, scale=100, digits=0),
        estimate(summary.latency_seconds, scale=1e3),
        number(median_of(ok, lambda result: result.peak_memory_bytes), scale=2**-20, digits=0),
        number(median_of(ok, lambda result: result.compile_seconds), digits=2),
        number(median_of(ok, lambda result: result.loss_first), digits=5),
        number(median_of(ok, lambda result: result.loss_last), digits=5),
        number(median_of(ok, accuracy), scale=100, digits=1),
    ]
