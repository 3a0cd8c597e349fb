from typing import Any

import pytest

from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.report.study.tables.printed import print_comparison
from tests.common.analysis.test_scaling import line
from tests.common.report.fake_study import read_lines

MACHINE: dict[str, Any] = {"cpu_model": "Test CPU", "available_cores": [0, 1], "gpus": []}


def lines(runs: int, **changes: Any) -> list[dict[str, Any]]:
    extra = {
        "eval": None,
        "peak_memory_bytes": 2**20 * 300,
        "compile_seconds": 1.5,
        "loss_first": 2.25,
        "loss_last": 1.125,
        "versions": {"torch": "2.13.0"},
        "disturbed": False,
    }
    found = []
    for run in range(runs):
        found.append(line("bare", 1, 1000.0 + run, run=run, **extra))
        found.append(line("ddp", 2, 1500.0 + 7 * run, run=run, **extra))
    for entry in found:
        entry["cell"] |= {
            "tuning": "stock",
            "dataset": "synthetic",
            "input_pipeline": "placed",
            "platform": "cpu",
            "threads_per_device": 1,
            "optimizer": {"name": "adamw"},
        }
        entry["cell"] |= changes
    return found


def printed(capsys: pytest.CaptureFixture, entries: list, machines: list | None = None) -> str:
    summaries = summarize_cells(read_lines(entries), scaling="strong")
    print_comparison(summaries, scaling="strong", machines=machines or [MACHINE])
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_figure_is_cut_at_any_width(capsys, monkeypatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = printed(capsys, lines(6))
    for figure in ("1002", "1.51", "75", "300", "1.50", "2.25000", "1.12500", "[1.50, 1.53]"):
        assert figure in text
    assert "…" not in text


def test_one_run_has_no_interval_and_no_verdict(capsys) -> None:
    text = printed(capsys, lines(1))
    assert "no interval and no verdict" in text
    assert "[1" not in text


def test_conditions_that_all_cells_share_are_printed(capsys) -> None:
    text = printed(capsys, lines(1))
    for fact in ("Test CPU, 2 cores", "torch 2.13.0", "stock", "adamw", "1 core(s)", "eager"):
        assert fact in text


def test_marks_are_printed_beside_the_figures(capsys) -> None:
    entries = lines(1, oversubscribed=True)
    entries[1]["disturbed"] = True
    entries.append({**entries[0], "run": 1, "status": "failed", "error": "broke"})
    text = printed(capsys, entries)
    rows = [row for row in text.splitlines() if "torch ddp" in row]
    assert "oversubscribed" in rows[0]
    assert "1 of 1 disturbed" in text
    assert "1 failed" in text
    assert "broke" in text
    assert "not scaling" in text


def test_mixed_versions_and_machines_are_reported(capsys) -> None:
    entries = lines(2)
    entries[-1]["versions"] = {"torch": "2.14.0"}
    other = {**MACHINE, "cpu_model": "Other CPU"}
    text = printed(capsys, entries, [MACHINE, other])
    assert "runs with different versions of torch" in text
    assert "has runs from different machines" in text


def test_a_study_without_bare_says_why_there_is_no_speedup(capsys) -> None:
    text = printed(capsys, [entry for entry in lines(1) if entry["cell"]["strategy"] != "bare"])
    assert "the study has no successful run of the framework's 'bare' cell" in text
