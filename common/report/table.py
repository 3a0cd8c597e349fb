"""The table that ``isoscale compare`` prints: every column with its unit, every mark explained."""

import statistics
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.analysis.estimates import Estimate, Ratio
from common.analysis.scaling import CellSummary
from common.report.manifest import make_manifest

NO_VALUE = "-"


def _interval(low: float | None, high: float | None, *, scale: float, digits: int) -> str:
    """Returns a second line with the interval, so that columns stay narrow."""
    if low is None or high is None:
        return ""
    return f"\n[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _estimate(estimate: Estimate, *, scale: float, digits: int) -> str:
    text = f"{scale * estimate.median:.{digits}f}"
    mark = " t" if estimate.method == "t on log time" else ""
    return text + _interval(estimate.low, estimate.high, scale=scale, digits=digits) + mark


def _ratio(ratio: Ratio | None, *, scale: float = 1, digits: int = 2) -> str:
    if ratio is None:
        return NO_VALUE
    text = f"{scale * ratio.value:.{digits}f}"
    return text + _interval(ratio.low, ratio.high, scale=scale, digits=digits)


def _marks(summary: CellSummary) -> str:
    marks = []
    if summary.cell["oversubscribed"]:
        marks.append("oversubscribed")
    disturbed = sum(bool(line.get("disturbed")) for line in summary.ok)
    if disturbed:
        marks.append(f"{disturbed} of {len(summary.ok)} disturbed")
    marks += [f"{count} {status}" for status, count in summary.statuses.items() if status != "ok"]
    return "\n".join(marks)


def _row(summary: CellSummary) -> list[str]:
    cell, ok = summary.cell, summary.ok
    row = [
        f"{cell['framework']} {cell['strategy']}",
        f"{cell['devices']} / {cell['processes']}",
        str(len(ok)),
    ]
    if not ok or summary.step_seconds is None or summary.items_per_second is None:
        return [*row, *[NO_VALUE] * 7, _marks(summary)]

    def median(key: str) -> float:
        return statistics.median(line[key] for line in ok)

    loss = f"{median('loss_first'):.5f}\n{median('loss_last'):.5f}"
    accuracies = [line["eval"]["accuracy"] for line in ok if line.get("eval")]
    if accuracies:
        loss += f"\n{100 * statistics.median(accuracies):.1f} % right"
    return [
        *row,
        _estimate(summary.step_seconds, scale=1e3, digits=2),
        f"{summary.items_per_second.median:.0f}",
        _ratio(summary.speedup),
        _ratio(summary.efficiency, scale=100, digits=0),
        f"{median('peak_memory_bytes') / 2**20:.0f}",
        f"{median('compile_seconds'):.2f}",
        loss,
        _marks(summary),
    ]


COLUMNS = (
    ("strategy", "left"),
    ("devices /\nprocesses", "right"),
    ("runs", "right"),
    ("ms/step", "right"),
    ("examples/s", "right"),
    ("speedup", "right"),
    ("efficiency\n%", "right"),
    ("memory\nMiB", "right"),
    ("compile\ns", "right"),
    ("loss first\nand last", "right"),
    ("marks", "left"),
)
_TITLE_FIELDS = ("model", "overrides", "global_batch_size", "dtype")


def _title(cell: dict[str, Any]) -> str:
    sizes = "".join(f", {name}={value}" for name, value in cell["overrides"].items())
    return f"{cell['model']}{sizes}, global batch {cell['global_batch_size']}, {cell['dtype']}"


def print_comparison(
    summaries: list[CellSummary], *, scaling: str, machines: list[dict[str, Any]]
) -> None:
    """Prints a table for each model, batch and dtype, what was equal, and how to read it.

    Args:
      summaries: the cells.
      scaling: ``strong`` or ``weak``.
      machines: of the study's sessions, in order.
    """
    groups: dict[str, list[CellSummary]] = {}
    for summary in sorted(summaries, key=lambda s: [str(s.cell[name]) for name in _TITLE_FIELDS]):
        groups.setdefault(_title(summary.cell), []).append(summary)
    console = Console()
    for title, group in groups.items():
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        marked = any(_marks(summary) for summary in group)
        columns = COLUMNS if marked else COLUMNS[:-1]
        for name, justify in columns:
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        group.sort(key=lambda s: (s.cell["framework"], s.cell["strategy"], s.cell["devices"]))
        for summary in group:
            table.add_row(*(Text(text) for text in _row(summary)[: len(columns)]))
        # Never narrower than the table: a cut figure is worse than a wrapped line.
        wide = Console(width=500)
        needed = wide.measure(table).maximum
        terminal = console.width if sys.stdout.isatty() else 0
        Console(width=max(terminal, needed)).print(table)
    manifest = make_manifest(summaries, machines, scaling=scaling)
    print("\n".join([*manifest.lines(), "", *_notes(summaries, scaling)]))


def _notes(summaries: list[CellSummary], scaling: str) -> list[str]:
    notes = [
        "Measured: ms/step, examples/s (medians over runs; within a run over windows of steps), "
        "memory (peak",
        "resident, summed over processes, the framework included; on GPUs the largest device), "
        "compile (first",
        "step less a median step), loss. Derived from them: speedup and efficiency.",
    ]
    counts = [len(summary.ok) for summary in summaries if summary.ok]
    if counts and min(counts) < 3:
        notes.append(
            "Fewer than 3 runs of a cell: no interval, and no verdict on differences "
            "(--resume --runs=6 adds runs)."
        )
    if counts and max(counts) >= 3:
        notes.append(
            "[low, high]: 95 % interval over runs; ratios by Welch on logarithms; 't': fewer than "
            "6 runs, t interval on log time."
        )
    if any(summary.speedup is not None for summary in summaries):
        batch = "the same global batch" if scaling == "strong" else "the batch of one device"
        notes.append(
            f"speedup: {scaling} scaling, throughput against the same framework's 'bare' (one "
            f"device, no distribution wrapper) at {batch}; efficiency: speedup / devices."
        )
    if any(summary.speedup is None and summary.ok for summary in summaries):
        notes.append("speedup '-': 'bare' of the same framework is not in the study.")
    if any(summary.cell["platform"] == "cpu" for summary in summaries):
        notes.append(
            "CPU devices are cores that share caches and memory bandwidth. In-process strategies "
            "drive all devices from one process, ddp has one per device."
        )
    if any(summary.cell["oversubscribed"] for summary in summaries):
        notes.append(
            "oversubscribed: devices shared cores; such figures show overhead and correctness, "
            "not scaling."
        )
    if any(line.get("disturbed") for summary in summaries for line in summary.ok):
        notes.append("disturbed: other programs used more than 10 % of one of the run's cores.")
    if any(summary.cell["strategy"] == "pmap" for summary in summaries):
        notes.append(
            "pmap is built on jit and shard_map in current JAX: a gap to pjit is API overhead."
        )
    for summary in summaries:
        cell = summary.cell
        for line in summary.ok:
            if line.get("exit_warning"):
                notes.append(
                    f"! {cell['model']} {cell['framework']} {cell['strategy']} "
                    f"devices={cell['devices']} run {line['run']} (result complete): "
                    f"{line['exit_warning']}"
                )
        for error in summary.errors:
            notes.append(
                f"! {cell['model']} {cell['framework']} {cell['strategy']} "
                f"devices={cell['devices']}: {error}"
            )
    return list(dict.fromkeys(notes))
