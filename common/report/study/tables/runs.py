"""The table of all runs, in order of execution."""

from collections.abc import Iterator

from isoscale.common.analysis.scaling import step_seconds_of
from isoscale.common.measure.result import Summary
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
    "p10 to p90 of all windows, ms",
    "latency, ms",
    "examples/s of all windows",
    "compile, s",
    "memory, MiB",
    "loss, first",
    "loss, last",
    "outside load, % of one core",
)


def run_rows(study: StudyData) -> Iterator[list[str]]:
    """Yields the values of each run's row, in the order of ``COLUMNS``.

    The time per step is the figure from which ratios are made: of runs that took turns, disturbed
    rounds do not count. The columns of all windows have them, too.
    """
    names = study.names()
    for line in study.lines:
        name, setting = names[line.cell]
        step = line.result.step_seconds or Summary()
        latency = line.result.latency_seconds or Summary()
        spread = NO_VALUE
        if step.p10 is not None:
            spread = f"{number(step.p10, scale=1e3)} to {number(step.p90, scale=1e3)}"
        yield [
            str(line.sequence),
            name,
            setting,
            str(line.run),
            str(line.result.seed),
            line.result.status,
            number(step_seconds_of(line) if line.ok else step.median, scale=1e3),
            spread,
            number(latency.median, scale=1e3),
            number(line.result.examples_per_second),
            number(line.result.compile_seconds, digits=2),
            number(line.result.peak_memory_bytes, scale=2**-20, digits=0),
            number(line.result.loss_first, digits=5),
            number(line.result.loss_last, digits=5),
            number(line.result.outside_load_share, scale=100, digits=1),
        ]
