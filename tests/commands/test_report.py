"""Tests ``isoscale report`` as users call it."""

from pathlib import Path

import pytest

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
        assert answer.stdout.startswith("Report: ")
        path = tmp_path / answer.stdout.removeprefix("Report: ").strip()
        assert path.name == "report.html"
        assert path.exists()
        path.unlink()


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
