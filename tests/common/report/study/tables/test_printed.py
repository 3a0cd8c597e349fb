import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.analysis.scaling import summarize_cells
from isoscale.common.report.study.data import load_study
from isoscale.common.report.study.tables.printed import print_comparison, print_failures
from tests.common.analysis.test_scaling import line
from tests.common.report.fake_study import make_cell, make_line, read_lines, write_study

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
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def sentences(text: str) -> str:
    """Returns what was printed as one line, without the breaks that depend on the width."""
    return " ".join(text.split())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output a terminal of a given width."""

    def make(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return make


def widest(text: str) -> int:
    return max(len(line.rstrip()) for line in text.splitlines())


def not_shown(text: str) -> set[str]:
    """Returns the columns that the line below the tables names."""
    said = re.search(r"Not shown, for lack of width: ([^.]*)\.", sentences(text))
    return set(re.split(", | and ", said[1])) if said else set()


@pytest.mark.parametrize("columns", [40, 60, *range(78, 125, 3), 200])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(
    capsys, terminal, columns: int
) -> None:
    terminal(columns)
    entries = lines(6)
    entries[1]["disturbed"] = True
    text = printed(capsys, entries)
    assert "…" not in text
    if columns > 40:
        assert widest(text) <= columns
    figures = {
        "examples/s": "1518", "speedup": "[1.50, 1.52]", "efficiency": "[75, 76]",
        "memory": "300", "losses": "2.25000", "compile time": "1.50",
    }  # fmt: skip
    table = text.partition("Machine:")[0]
    shown = " ".join(table.split()) + " "
    found = {name for name, figure in figures.items() if f" {figure} " in shown}
    assert found == figures.keys() - not_shown(text)
    assert re.search(r"1 of 6\s", table)  # marks are always shown, wrapped
    assert "disturbed" in table


@pytest.mark.parametrize(
    "columns, left_out",
    [
        (80, {"memory", "losses", "compile time", "efficiency"}),
        (100, {"losses", "compile time"}),
        (200, set()),
    ],
)
def test_a_narrow_terminal_shows_the_most_important_columns(
    capsys, terminal, columns: int, left_out: set[str]
) -> None:
    terminal(columns)
    entries = lines(6)
    entries[1]["disturbed"] = True
    assert not_shown(printed(capsys, entries)) == left_out


def test_without_a_terminal_lines_have_at_most_120_characters(capsys, monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert 100 < widest(printed(capsys, lines(6))) <= 120
    monkeypatch.setenv("COLUMNS", "500")
    assert 100 < widest(printed(capsys, lines(6))) <= 120


def test_long_text_is_wrapped_and_long_words_stay_whole(capsys, terminal) -> None:
    terminal(80)
    mode = "max_autotune_" * 8
    entries = lines(6)
    entries += lines(6, compile_mode=mode)
    entries[0]["exit_warning"] = f"/{'x' * 100} is gone"
    text = printed(capsys, entries)
    assert mode in text
    assert f"/{'x' * 100}" in text


def test_one_run_has_no_interval_and_no_verdict(capsys) -> None:
    text = printed(capsys, lines(1))
    assert "no interval and no verdict" in text
    assert "[1" not in text


def test_conditions_that_all_cells_share_are_printed(capsys) -> None:
    text = printed(capsys, lines(1))
    for fact in ("Test CPU, 2 cores", "torch 2.13.0", "stock", "adamw", "1 core", "eager"):
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
    assert "not scaling" in text
    assert "outside load unknown" not in text


def failed(cell: dict[str, Any], run: int, **changes: Any) -> dict[str, Any]:
    line = make_line(cell, run, 0.01, sequence=run, status="failed", error="ValueError: broke")
    empty = dict.fromkeys(("step_seconds", "latency_seconds", "examples_per_second"))
    return {**line, **empty, **changes}


def test_each_reason_of_a_cell_is_printed_once_with_the_path_of_a_log(
    capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch, jax = make_cell("torch", "ddp", 2), make_cell("jax", "bare", 1)
    more = [{"error": "another"}, {"status": "diverged", "error": "loss is not finite"}]
    entries = [failed(torch, run, **changes) for run, changes in enumerate(({}, {}, *more))]
    entries += [
        failed(cell, run, status="skipped", error="jax is not installed", run_dir=None)
        for run, cell in enumerate((jax, make_cell("jax", "pjit", 2)), len(entries))
    ]
    store = write_study(tmp_path / "s", entries, steps=0)
    log = Path(entries[0]["run_dir"]) / "log.txt"
    (store.folder / log).parent.mkdir(parents=True)
    (store.folder / log).touch()
    monkeypatch.chdir(tmp_path)
    print_failures(load_study(store))
    name = "torch ddp on 2 devices (mlp_medium, global batch 64, float32)"
    expected = [
        f"! {name}: 2 runs failed: ValueError: broke (log: s/{log})",
        f"! {name}: 1 run failed: another",
        f"! {name}: 1 run diverged: loss is not finite",
        "! jax: 2 runs skipped: jax is not installed",
    ]
    assert sentences(capsys.readouterr().out) == " ".join(expected)


def test_a_log_outside_the_study_is_not_named(capsys, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/log.txt").touch()
    entries = [failed(make_cell("torch", "ddp", 2), 0, run_dir="../mine")]
    print_failures(load_study(write_study(tmp_path / "s", entries, steps=0)))
    assert "log:" not in capsys.readouterr().out


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
