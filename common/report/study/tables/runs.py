"""The table of all runs, in order of execution."""

from collections.abc import Iterator

from isoscale.common.analysis.scaling import cell_key
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import NO_VALUE, number

COLUMNS = (
    "order",
    "cell",
    "setting",
    "run",
    "seed",
    "status",
    "time per step, ms",
    "p10 to p90 of windows, ms",
    "latency, ms",
    "examples/s",
    "compile, s",
    "memory, MiB",
    "loss, first",
    "loss, last",
    "load from outside, %",
)


def run_rows(study: StudyData) -> Iterator[list[str]]:
    """Yields the row of each run, under ``COLUMNS``."""
    names = study.names()
    for line in study.lines:
        name, setting = names[cell_key(line["cell"])]
        step = line.get("step_seconds") or {}
        latency = line.get("latency_seconds") or {}
        spread = NO_VALUE
        if step.get("p10") is not None:
            spread = f"{number(step['p10'], scale=1e3)} to {number(step['p90'], scale=1e3)}"
        yield [
            str(line["sequence"]),
            name,
            setting,
            str(line["run"]),
            str(line.get("seed", NO_VALUE)),
            line["status"],
            number(step.get("median"), scale=1e3),
            spread,
            number(latency.get("median"), scale=1e3),
            number(line.get("items_per_second")),
            number(line.get("compile_seconds"), digits=2),
            number(line.get("peak_memory_bytes"), scale=2**-20, digits=0),
            number(line.get("loss_first"), digits=5),
            number(line.get("loss_last"), digits=5),
            number(line.get("outside_load_share"), scale=100, digits=1),
        ]
