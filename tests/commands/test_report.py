"""Tests ``isoscale report`` as users call it."""

import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands.main import main
from isoscale.common.commands.report import print_place
from tests.common.report.fake_study import grid_lines, write_study

MAIN = "isoscale.common.commands.main"


def out_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs/out"


def test_the_study_is_given_by_name_by_folder_or_by_default(run_program, tmp_path: Path) -> None:
    lines = grid_lines(runs=1)
    write_study(out_dir(tmp_path) / "mine", lines, steps=5)
    for arguments in (["mine"], [str(out_dir(tmp_path) / "mine")], ["runs/out/mine"], []):
        answer = run_program(MAIN, "report", *arguments)
        assert answer.returncode == 0, answer.stderr
        head, *answers, last = answer.stdout.splitlines()
        assert head == "In short: the fastest; how certain; whether more devices help:"
        assert answers[0].startswith("- mlp_medium, global batch 64, float32: ")
        path = tmp_path / last.removeprefix("Report: ")
        assert path.name == "report.html"
        assert path.exists()
        path.unlink()


def test_the_last_lines_are_the_fastest_of_each_setting_and_the_report(
    run_program, tmp_path: Path
) -> None:
    lines = grid_lines(
        models=("a", "b"),
        seconds=lambda cell: {"jax": 3.0, "tensorflow": 2.0, "torch": 1.0}[cell["framework"]],
    )
    write_study(out_dir(tmp_path) / "mine", lines, steps=0)
    answer = run_program(MAIN, "report", "mine", "--plots=0", COLUMNS="120")
    said = answer.stdout.splitlines()
    entries = [line for line in said if line.startswith("- ")]
    assert len(entries) == 2 + 2 * 3  # the fastest; then a recommendation for each framework
    for name, entry in zip("ab", entries[:2], strict=True):
        assert entry.startswith(f"- {name}, global batch 64, float32: torch ")
    assert "2.00x [1.9" in answer.stdout
    assert "corrected p < 0.001" in " ".join(said)
    assert said[-1] == "Report: runs/out/mine/report.html"
    assert max(map(len, said)) <= 120


def test_open_starts_the_browser_with_the_report(run_program, tmp_path: Path) -> None:
    write_study(out_dir(tmp_path) / "mine", grid_lines(runs=1), steps=0)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    for flags in ((), ("--open",)):
        answer = run_program(MAIN, "report", "mine", *flags, BROWSER=str(browser))
        assert answer.returncode == 0
        assert answer.stderr == ""
    page = out_dir(tmp_path) / "mine/report.html"
    assert (tmp_path / "opened").read_text() == f"{page.resolve().as_uri()}\n"


@pytest.mark.parametrize("fault", [False, webbrowser.Error("none"), OSError("broke")])
def test_without_a_browser_open_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fault: Any
) -> None:
    def no_browser(link: str) -> bool:
        if fault:
            raise fault
        return False

    monkeypatch.setattr(webbrowser, "open", no_browser)
    write_study(out_dir(tmp_path) / "mine", grid_lines(runs=1), steps=0)
    assert main(["report", str(out_dir(tmp_path) / "mine"), "--open", "--plots=0"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("Report: ")
    assert said.err == "isoscale: --open: no browser could be started\n"


def test_on_a_terminal_the_report_is_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_place(tmp_path / "a b/report.html", open_=False)
    assert capsys.readouterr().out == f"Report: file://{tmp_path}/a%20b/report.html\n"


def test_a_study_without_results_has_no_report(run_program, tmp_path: Path) -> None:
    write_study(out_dir(tmp_path) / "empty", [])
    answer = run_program(MAIN, "report", "empty")
    assert answer.returncode == 2
    assert answer.stderr == "isoscale: study 'empty' has no results yet\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["minne"], "unknown study 'minne': did you mean 'mine'? Known: mine"),
        (["mine", "other"], "report takes one study; 'other' is a second one"),
        (["mine", "--plots=many"], "--plots=many must be a whole number, 0 to 999999999, or 'all'"),
        (["mine", "--plots=-1"], "--plots=-1 must be"),
        (["mine", "--plot=1"], "did you mean '--plots'"),
        (["../out/mine/cells"], "unknown study"),
        ([""], "unknown study"),
        (["x" * 5000], "unknown study"),
        (["/etc"], "unknown study"),
    ],
)
def test_bad_input_is_one_line(run_program, tmp_path: Path, arguments: list, said: str) -> None:
    write_study(out_dir(tmp_path) / "mine", grid_lines(runs=1), steps=5)
    before = sorted(tmp_path.rglob("*"))
    answer = run_program(MAIN, "report", *arguments)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert said in answer.stderr
    assert answer.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name, text",
    [
        ("results.jsonl", "no json"),
        ("results.jsonl", '{"cell": 3}'),
        ("results.jsonl", '{"cell": {"model": "m"}, "run": 0}'),
        ("results.jsonl", '{"cell": [], "run": 0, "status": "ok"}'),
        ("study.json", "[]"),
        ("study.json", '{"sessions": []}'),
        ("study.json", '{"scaling": "both", "order_seed": 0, "sessions": []}'),
    ],
)
def test_invalid_study_files_are_refused_in_one_line(
    run_program, tmp_path: Path, name: str, text: str
) -> None:
    store = write_study(out_dir(tmp_path) / "mine", grid_lines(runs=1), steps=0)
    (store.folder / name).write_text(text + "\n")
    answer = run_program(MAIN, "report", "mine")
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert name in answer.stderr
