"""The table of a setting's cells."""

from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.report.words import accuracy, estimate, marks, median_of, number, ratio

COLUMNS = (
    "cell",
    "marks",
    "processes",
    "runs",
    "time per step, ms",
    "throughput, examples/s",
    "speedup against bare",
    "efficiency, %",
    "latency of one step, ms",
    "memory, MiB",
    "compile, s",
    "loss, first",
    "loss, last",
    "accuracy, %",
)


def cell_row(name: str, summary: CellSummary) -> list[str]:
    """Returns the values of a cell's row, in the order of ``COLUMNS``."""
    ok = summary.ok
    return [
        name,
        "; ".join(marks(summary)),
        str(summary.cell.processes),
        str(len(ok)),
        estimate(summary.step_seconds, scale=1e3),
        estimate(summary.items_per_second),
        ratio(summary.speedup),
        ratio(summary.efficiency, scale=100, digits=0),
        estimate(summary.latency_seconds, scale=1e3),
        number(median_of(ok, lambda result: result.peak_memory_bytes), scale=2**-20, digits=0),
        number(median_of(ok, lambda result: result.compile_seconds), digits=2),
        number(median_of(ok, lambda result: result.loss_first), digits=5),
        number(median_of(ok, lambda result: result.loss_last), digits=5),
        number(median_of(ok, accuracy), scale=100, digits=1),
    ]
