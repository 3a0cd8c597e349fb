"""Tests ``isoscale explain``: the output, the requested runs, and the errors."""

import dataclasses
import json
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands import compare, explain
from isoscale.common.commands.main import main
from isoscale.common.study.store import Store
from tests.common.analysis.test_waterfall import SECONDS, TWEAKS, failed
from tests.common.report.fake_study import grid_lines, ladder_lines, write_study

MAIN = "isoscale.common.commands.main"
LINES = ladder_lines(TWEAKS, SECONDS)


class FakeCompare:
    """Replaces ``isoscale compare``: records the calls, and writes the results of a study."""

    def __init__(self, *, owed: bool = True):
        self.calls: list[list[str]] = []
        self.owed = owed
        self.code = 0
        self.lines = LINES

    def run(self, argv: list[str]) -> int:
        self.calls.append(list(argv))
        fv = compare.define_flags()
        assert fv.parse(argv)
        folder = Path(fv.out_dir) / fv.study
        if not folder.exists():
            write_study(folder, self.lines, steps=0)
        elif self.owed:
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            (folder / "results.jsonl").write_text(text)
        return self.code


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCompare:
    found = FakeCompare()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "run", found.run)
    monkeypatch.setattr(explain, "_has_missing_runs", lambda command: found.owed)
    return found


def out(name: str = "mine") -> Path:
    return Path("runs/out") / name


def test_a_new_study_is_measured_first(fake: FakeCompare, capsys: Any) -> None:
    assert main(["explain", "mine", "--models=mlp_digits", "--runs=3"]) == 0
    assert fake.calls == [
        [
            *("--study=mine", "--strategies=bare", "--devices=1", "--tuning=ladder"),
            *("--nobase_cases", "--runs=6"),
            *("--models=mlp_digits", "--runs=3"),
        ]
    ]
    text = " ".join(capsys.readouterr().out.split())
    for said in ("+ pages", "2.50x [2.45, 2.55]", "the tweaks explain", "p corrected for"):
        assert said in text


def test_flags_of_the_user_override_the_defaults(fake: FakeCompare) -> None:
    main(
        ["explain", "mine", "--strategies=pjit", "--devices=2", "--tuning=tuned,stock", "--runs=2"]
    )
    fv = compare.define_flags()
    fv.parse(fake.calls[0])
    assert (fv.strategies, fv.devices, fv.tuning, fv.runs) == (["pjit"], [2], ["tuned", "stock"], 2)


def test_a_time_budget_replaces_the_default_number_of_runs(fake: FakeCompare) -> None:
    main(["explain", "mine", "--time_budget=2m"])
    assert not any(flag.startswith("--runs") for flag in fake.calls[0])


def test_a_complete_study_is_shown_without_new_runs(fake: FakeCompare, capsys: Any) -> None:
    fake.owed = False
    write_study(out(), LINES, steps=0)
    results = (out() / "results.jsonl").read_bytes()
    assert main(["explain", "mine"]) == 0
    assert fake.calls == []
    text = capsys.readouterr().out
    assert "+ pages" in text
    assert text.splitlines()[-1] == "Report: runs/out/mine/report.html"
    assert "Stock and tuned" in (out() / "report.html").read_text()
    assert (out() / "results.jsonl").read_bytes() == results
    (out() / "report.html").unlink()
    assert main(["explain", "mine", "--noreport"]) == 0
    assert not (out() / "report.html").exists()


def test_an_incomplete_study_resumes_with_its_own_number_of_runs(
    fake: FakeCompare, capsys: Any
) -> None:
    store = write_study(out(), grid_lines(runs=4), steps=0)
    record = store.record()
    session = dataclasses.replace(record.sessions[0], rounds=4)
    store.write_record(dataclasses.replace(record, sessions=[session]))
    assert main(["explain", "mine"]) == 0
    grid = ["--strategies=bare", "--devices=1", "--tuning=ladder", "--nobase_cases"]
    assert fake.calls == [["--study=mine", "--resume", *grid, "--runs=4"]]
    assert "+ pages" in capsys.readouterr().out


def test_open_opens_the_report_once(fake: FakeCompare, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda link: not opened.append(link))
    write_study(out(), LINES, steps=0)
    (out() / "report.html").touch()  # the fake compare writes none
    assert main(["explain", "mine", "--open"]) == 0
    assert "--open" not in fake.calls[0]
    assert opened == [(out() / "report.html").resolve().as_uri()]


def test_a_study_may_be_named_by_its_folder(fake: FakeCompare) -> None:
    write_study(Path("elsewhere/mine"), LINES, steps=0)
    assert main(["explain", "elsewhere/mine"]) == 0
    assert "--out_dir=elsewhere" in fake.calls[0]
    assert "--study=mine" in fake.calls[0]


def test_a_failed_run_is_shown_and_sets_the_exit_code(fake: FakeCompare, capsys: Any) -> None:
    fake.lines = failed(LINES, tweaks=["pages"])
    fake.code = 1
    assert main(["explain", "mine"]) == 1
    text = capsys.readouterr().out
    assert "no result: 6" in text  # the column wraps between words
    assert "6 failed" in text


@pytest.mark.parametrize("code", [2, 130])
def test_explain_stops_if_compare_exits_with_2_or_130(
    fake: FakeCompare, capsys: Any, code: int
) -> None:
    fake.code = code
    assert main(["explain", "mine"]) == code
    assert capsys.readouterr().out == ""


def test_ctrl_c_exits_with_130(
    fake: FakeCompare, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "run", interrupted)
    assert main(["explain", "mine"]) == 130
    assert capsys.readouterr().err == "isoscale: interrupted by SIGINT\n"


def test_dry_run_is_passed_to_compare_and_explains_nothing(fake: FakeCompare, capsys: Any) -> None:
    fake.owed = False
    write_study(out(), LINES, steps=0)
    assert main(["explain", "mine", "--dry_run"]) == 0
    assert "--dry_run" in fake.calls[0]
    assert capsys.readouterr().out == ""


def test_nomeasure_runs_nothing(fake: FakeCompare, capsys: Any) -> None:
    write_study(out(), LINES, steps=0)
    write_study(out("ordinary"), grid_lines(runs=1), steps=0)
    assert main(["explain", "mine", "--nomeasure"]) == 0
    assert "+ pages" in capsys.readouterr().out
    for name, said in (
        ("ordinary", "study 'ordinary' has no setting measured in several lanes"),
        ("absent", "study 'absent' does not exist"),
    ):
        assert main(["explain", name, "--nomeasure"]) == 2
        answer = capsys.readouterr()
        assert answer.out == ""
        assert answer.err == (f"isoscale: {said}; measure it first with: isoscale explain {name}\n")
    assert fake.calls == []


def test_no_runs_remain_for_a_complete_study(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Uses the real ``compare``, not ``FakeCompare``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare.lookup, "tweaks", lambda framework: ())
    flags = ["--models=mlp_digits", "--frameworks=jax", "--strategies=bare", "--devices=1"]
    new = [*flags, "--tuning=ladder", "--runs=2", "--study=mine"]
    request = compare.read_request(new)
    assert request is not None
    cells = [cell.cell().to_record() for session in request.sessions for cell in session.cells]
    assert [cell["tuning"] for cell in cells] == ["stock", "tuned"]
    assert explain._has_missing_runs(new)

    lines = [
        {**line, "cell": cell, "run": run} for cell in cells for run, line in enumerate(LINES[:2])
    ]
    store = write_study(out(), lines, steps=0)
    record = store.record()
    flags = [*flags, "--tuning=ladder", "--runs=2"]
    session = dataclasses.replace(record.sessions[0], flags=flags, rounds=2)
    store.write_record(dataclasses.replace(record, sessions=[session]))
    fv = explain.define_flags()
    fv.parse([])
    again = explain._command(fv, "mine", Store(out()).folder)
    assert not explain._has_missing_runs(again)
    fv.parse(["--runs=3"])
    assert explain._has_missing_runs(explain._command(fv, "mine", out()))


def test_a_cell_that_is_the_same_in_both_lanes_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare.lookup, "tweaks", lambda framework: ())
    flags = ["--models=mlp_digits", "--frameworks=jax"]
    assert main(["explain", "mine", *flags, "--dry_run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 tuned cell is the same configuration as stock (tuned adds no tweak): run once" in said
    assert "1 cell, 6 runs to do." in said

    recorded = [*flags, "--strategies=bare", "--devices=1", "--tuning=ladder", "--runs=6"]
    request = compare.read_request([*recorded, "--study=mine"])
    assert request is not None
    cell = request.sessions[0].cells[0].cell()
    entry = {"cell": cell.to_record(), "run_dir": "cells/none"}
    lines = [{**line, **entry, "run": run} for run, line in enumerate(LINES[:6])]
    shared = [{"cell_id": cell.id, "lane": "tuned"}]
    store = write_study(out(), lines, steps=0, shared=shared)
    record = store.record()
    session = dataclasses.replace(record.sessions[0], flags=recorded)
    store.write_record(dataclasses.replace(record, sessions=[session]))
    # All runs are there: explain shows them without a call of compare.
    monkeypatch.setattr(compare, "run", lambda argv: pytest.fail("compare was called"))
    assert main(["explain", "mine", "--noreport"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "same configuration in stock and tuned: jax bare (tuned adds no tweak)" in said
    assert main(["explain", "mine", "--nomeasure", "--noreport"]) == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "explain needs a STUDY"),
        (["mine", "other"], "explain takes one study; 'other' is a second one"),
        (["mine", "--resume"], "--resume is not a flag of explain: type 'isoscale explain STUDY'"),
        (["mine", "--study=x"], "--study is not a flag of explain: type 'isoscale explain STUDY'"),
        (["mine", "--runs=x"], "--runs=x: must be a whole number, 1 to 1000000"),
        (["mine", "--measur=false"], "did you mean '--measure', "),
        (["new", "--models=gpt_tyni"], "unknown model 'gpt_tyni': did you mean 'gpt_tiny'?"),
        (["../escape"], "--study='../escape' must be a plain name"),
        (["new", "--nomeasure"], "measure it first with: isoscale explain new"),
        (["damaged", "--nomeasure"], "study.json was not written by isoscale"),
        (["damaged"], "study.json was not written by isoscale"),
    ],
)
def test_bad_input_is_one_line(
    run_program: Callable, tmp_path: Path, arguments: list[str], said: str
) -> None:
    folder = tmp_path / out("damaged")
    folder.mkdir(parents=True)
    (folder / "study.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    answer = run_program(MAIN, "explain", *arguments)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert answer.stderr.count("\n") == 1
    assert said in answer.stderr
    assert answer.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_help_describes_the_command(run_program: Callable, tmp_path: Path) -> None:
    answer = run_program(MAIN, "explain", "--help")
    assert answer.returncode == 0
    assert "isoscale explain STUDY" in answer.stdout
    assert "explain" in run_program(MAIN).stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flags, strategies",
    [
        (["--devices=2"], "pjit,mirrored,ddp"),
        (["--devices=2", "--frameworks=torch"], "ddp"),
        (["--devices=1,2", "--frameworks=torch,jax"], "bare,ddp,pjit"),
        (["--devices=1"], "bare"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_several_devices_take_the_default_strategy_of_each_framework(
    flags: list[str], strategies: str, exists: bool, fake: FakeCompare, capsys: Any
) -> None:
    if exists:
        write_study(out(), LINES, steps=0)
    assert main(["explain", "mine", *flags]) == 0
    (call,) = fake.calls
    assert f"--strategies={strategies}" in call
    said = capsys.readouterr().err
    shown = strategies.replace(",", ", ")
    assert (f"no --strategies are given: takes {shown}\n" in said) == (strategies != "bare")


def test_the_default_strategies_are_those_of_the_studys_frameworks(
    fake: FakeCompare, tmp_path: Path
) -> None:
    write_study(out(), LINES, steps=0)
    record = json.loads((out() / "study.json").read_text())
    record["sessions"][0]["flags"] = ["--frameworks=jax"]
    (out() / "study.json").write_text(json.dumps(record))
    assert main(["explain", "mine", "--devices=2"]) == 0
    assert "--strategies=pjit" in fake.calls[0]
