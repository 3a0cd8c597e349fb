"""The table that ``isoscale compare`` prints: every column with its unit, every mark explained."""

import sys

from rich.console import Console
from rich.table import Table

from common.analysis.scaling import CellSummary
from common.analysis.statistics import Estimate, Ratio

NO_VALUE = "-"


def _interval(estimate: Estimate, *, scale: float, digits: int) -> str:
    text = f"{scale * estimate.median:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    low, high = scale * estimate.low, scale * estimate.high
    mark = " t" if estimate.method == "t on log time" else ""
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]{mark}"


def _ratio(ratio: Ratio | None, *, scale: float = 1, digits: int = 2) -> str:
    if ratio is None:
        return NO_VALUE
    text = f"{scale * ratio.value:.{digits}f}"
    if ratio.low is None or ratio.high is None:
        return text
    return f"{text} [{scale * ratio.low:.{digits}f}, {scale * ratio.high:.{digits}f}]"


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _marks(summary: CellSummary) -> str:
    marks = []
    if summary.cell["oversubscribed"]:
        marks.append("oversubscribed")
    disturbed = sum(bool(line.get("disturbed")) for line in summary.ok)
    if disturbed:
        marks.append(f"{disturbed} disturbed")
    marks += [f"{count} {status}" for status, count in summary.statuses.items() if status != "ok"]
    return ", ".join(marks)


def _row(summary: CellSummary) -> list[str]:
    cell, ok = summary.cell, summary.ok
    sizes = "".join(f" {name}={value}" for name, value in cell["overrides"].items())
    row = [
        cell["model"] + sizes,
        f"{cell['framework']} {cell['strategy']}",
        f"{cell['compile_mode']}, {cell['dtype']}",
        str(cell["devices"]),
        str(cell["processes"]),
        str(cell["global_batch_size"]),
        str(len(ok)),
    ]
    if not ok or summary.step_seconds is None or summary.items_per_second is None:
        return [*row, *[NO_VALUE] * 7, _marks(summary)]
    evaluation = [line["eval"]["accuracy"] for line in ok if line.get("eval")]
    first, last = (_median([line[key] for line in ok]) for key in ("loss_first", "loss_last"))
    loss = f"{first:.5f} > {last:.5f}"
    if evaluation:
        loss += f", accuracy {100 * _median(evaluation):.1f} %"
    return [
        *row,
        _interval(summary.step_seconds, scale=1e3, digits=2),
        f"{summary.items_per_second.median:.0f}",
        _ratio(summary.speedup),
        _ratio(summary.efficiency, scale=100, digits=0),
        f"{_median([line['peak_memory_bytes'] for line in ok]) / 2**20:.0f}",
        f"{_median([line['compile_seconds'] for line in ok]):.2f}",
        loss,
        _marks(summary),
    ]


def print_comparison(summaries: list[CellSummary], *, scaling: str) -> None:
    """Prints the cells, ordered by model, framework, strategy and devices, and how to read them."""
    table = Table(
        "model",
        "strategy",
        "mode",
        "devices",
        "processes",
        "global batch",
        "runs",
        "ms/step",
        "examples/s",
        "speedup",
        "efficiency %",
        "memory MiB",
        "compile s",
        "loss first > last",
        "marks",
    )

    def order(summary: CellSummary) -> tuple:
        cell = summary.cell
        names = ("model", "framework", "strategy", "dtype")
        return (*(cell[n] for n in names), cell["global_batch_size"], cell["devices"])

    previous = None
    for summary in sorted(summaries, key=order):
        if previous not in (None, summary.cell["model"]):
            table.add_section()
        previous = summary.cell["model"]
        table.add_row(*_row(summary))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print("\n".join(_notes(summaries, scaling)))


def _notes(summaries: list[CellSummary], scaling: str) -> list[str]:
    notes = [
        "All figures measured. ms/step and examples/s: median over runs of whole windows of steps; "
        "compile: first step less a median step.",
        "memory: peak resident memory summed over processes, the framework included (on GPUs: "
        "largest device).",
    ]
    counts = {len(summary.ok) for summary in summaries if summary.ok}
    if counts and max(counts) < 3:
        notes.append(
            "Fewer than 3 runs per cell: no interval, and no verdict on differences. --resume "
            "--runs=6 adds runs."
        )
    elif counts:
        notes.append(
            "[low, high]: 95 % interval over runs; ratios by Welch on logarithms; 't': fewer than "
            "6 runs, t interval on log time. '-': fewer than 3 runs or not measured."
        )
    if any(summary.speedup is not None for summary in summaries):
        batch = "the same global batch" if scaling == "strong" else "the batch of one device"
        notes.append(
            f"speedup: {scaling} scaling, throughput against the same framework's 'bare' (one "
            f"device, no distribution wrapper) at {batch}; efficiency: speedup / devices."
        )
    else:
        notes.append("speedup: needs the 'bare' strategy of the same framework in the study.")
    platforms = {summary.cell["platform"] for summary in summaries}
    if "cpu" in platforms:
        notes.append(
            "CPU devices are cores: they share caches and memory bandwidth. Processes per cell "
            "differ (see column): in-process strategies drive all devices from one process."
        )
    if any(summary.cell["oversubscribed"] for summary in summaries):
        notes.append(
            "oversubscribed: devices shared cores; such figures show overhead and correctness, "
            "not scaling."
        )
    if any(line.get("disturbed") for summary in summaries for line in summary.ok):
        notes.append("disturbed: other programs used more than 10 % of the run's cores.")
    if any(summary.cell["strategy"] == "pmap" for summary in summaries):
        notes.append(
            "pmap is built on jit and shard_map in current JAX: a gap to pjit is API overhead."
        )
    for summary in summaries:
        cell = summary.cell
        for error in summary.errors:
            notes.append(
                f"! {cell['model']} {cell['framework']} {cell['strategy']} "
                f"devices={cell['devices']}: {error}"
            )
    return list(dict.fromkeys(notes))
