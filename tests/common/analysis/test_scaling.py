from typing import Any

import pytest

from isoscale.common.analysis.scaling import CellSummary, summarize_cells
from tests.common.report.fake_study import make_cell, read_lines


def line(strategy: str, devices: int, throughput: float, **changes: Any) -> dict[str, Any]:
    cell = make_cell(
        "torch",
        strategy,
        devices,
        model="m",
        global_batch_size=changes.pop("batch", 64),
        compile_mode=changes.pop("mode", "eager"),
        oversubscribed=False,
    )
    record = {
        "cell": cell,
        "run": 0,
        "status": "ok",
        "error": None,
        "examples_per_second": throughput,
        "step_seconds": {"median": 64 / throughput},
    }
    return {**record, **changes}


def only(summaries: list[CellSummary], strategy: str, devices: int) -> CellSummary:
    (found,) = (s for s in summaries if s.cell.strategy == strategy and s.cell.devices == devices)
    return found


def test_strong_scaling_compares_with_bare_at_the_same_batch() -> None:
    lines = [line("bare", 1, 100.0), line("ddp", 1, 80.0), line("ddp", 2, 150.0)]
    summaries = summarize_cells(read_lines(lines), scaling="strong")
    two = only(summaries, "ddp", 2)
    assert two.speedup.value == pytest.approx(1.5)
    assert two.efficiency.value == pytest.approx(0.75)
    assert only(summaries, "ddp", 1).speedup.value == pytest.approx(0.8)
    assert only(summaries, "bare", 1).speedup.value == 1.0


def test_weak_scaling_compares_with_bare_at_the_batch_of_one_device() -> None:
    lines = [line("bare", 1, 100.0), line("ddp", 2, 150.0, batch=128)]
    assert only(summarize_cells(read_lines(lines), scaling="weak"), "ddp", 2).speedup.value == 1.5
    assert only(summarize_cells(read_lines(lines), scaling="strong"), "ddp", 2).speedup is None


def test_bare_in_another_mode_or_without_success_gives_no_speedup() -> None:
    lines = [line("bare", 1, 100.0, mode="compile"), line("ddp", 2, 150.0)]
    assert only(summarize_cells(read_lines(lines), scaling="strong"), "ddp", 2).speedup is None
    lines = [line("bare", 1, 100.0, status="failed", error="x"), line("ddp", 2, 150.0)]
    summaries = summarize_cells(read_lines(lines), scaling="strong")
    assert only(summaries, "ddp", 2).speedup is None
    assert only(summaries, "bare", 1).step_seconds is None


def test_runs_of_a_cell_are_one_summary() -> None:
    lines = [line("bare", 1, 100.0 + run, run=run) for run in range(4)]
    lines.append(line("bare", 1, 1.0, run=4, status="diverged", error="loss"))
    (summary,) = summarize_cells(read_lines(lines), scaling="strong")
    assert summary.statuses == {"ok": 4, "diverged": 1}
    assert summary.examples_per_second.n == 4


def test_outliers_are_flagged_but_not_removed() -> None:
    speeds = [100.0, 101.0, 99.0, 102.0, 98.0, 300.0]
    lines = [line("bare", 1, speed, run=run) for run, speed in enumerate(speeds)]
    (summary,) = summarize_cells(read_lines(lines), scaling="strong")
    assert summary.outliers == [5]
    assert (summary.examples_per_second.n, summary.examples_per_second.high) == (6, 300.0)
    assert summary.examples_per_second.median == 100.5
    assert summary.examples_per_second_without_outliers == 100.0
