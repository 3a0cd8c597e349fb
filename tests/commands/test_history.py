"""``isoscale history`` as users call it."""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands.main import main
from isoscale.common.report.drawing.files import FORMATS
from isoscale.common.report.study.history import version_key
from tests.commands.test_diff import OLD_OPTIMIZER
from tests.common.analysis.test_factors import STRONG, lines_of
from tests.common.report.fake_study import grid_lines, write_study
from tests.common.report.page import Page
from tests.common.report.test_old_study import ARCHIVE

OLD = {"cpu_model": "Old CPU", "usable_cores": 2, "memory_bytes": 2**34, "gpus": []}
NEW = {**OLD, "cpu_model": "New CPU", "usable_cores": 4}


def write(
    folder: Path,
    name: str,
    day: str,
    *,
    version: str = "1.9.0",
    milliseconds: float = 10,
    machine: dict[str, Any] | None = OLD,
    **changes: Any,
) -> None:
    """Writes a study of all frameworks on one device."""
    changes = {"devices": (1,), **changes}
    lines = grid_lines(seconds=lambda _: milliseconds / 1e3, **changes)
    for line in lines:
        line["started"] = line["started"].replace("2026-11-21", day)
        line["versions"] = {**line["versions"], line["cell"]["framework"]: version}
        line |= {"isoscale": "0.1.0 (commit 1)", "environment": {}}
        line |= {"machine": machine} if machine else {}
    write_study(folder / name, lines, steps=0)


@pytest.fixture
def history(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Returns a function that runs the command; it returns exit code, Markdown and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        out = tmp_path / "page"
        code = main(["history", *arguments, f"--out_dir={tmp_path}", f"--out={out}"])
        text = out / "history.md"
        return code, text.read_text() if code == 0 else "", capsys.readouterr().err

    return run


def column(markdown: str, name: str) -> list[str]:
    """Returns a column of the first table."""
    rows = [re.split(r" ?\| ?", x) for x in markdown.splitlines() if x.startswith("| ")]
    end = next((i for i, row in enumerate(rows[1:], 1) if row == rows[0]), len(rows))
    return [row[rows[0].index(name)] for row in rows[1:end]]


def test_studies_stand_in_the_order_of_their_dates(tmp_path: Path, history) -> None:
    write(tmp_path, "c", "2026-03-01", milliseconds=10)
    write(tmp_path, "a", "2026-01-01", milliseconds=10)
    write(tmp_path, "b", "2026-02-01", milliseconds=12)
    code, said, errors = history("c", "a", "b")
    assert (code, errors) == (0, "")
    assert column(said, "study") == ["a", "b", "c"]
    assert column(said, "measured")[0] == "2026-01-01 10:00"
    answers = ["-", "slower by more than 5 %", "faster by more than 5 %"]
    assert column(said, "answer") == answers
    assert column(said, "ratio to the one before [95 %]")[1].startswith("0.83x [0.8")
    assert said.startswith("**Slower by more than 5 %: shown in 7 of 14 steps: jax bare on 1 dev")
    assert "drift of the machine between them is outside the intervals" in said
    assert "corrected for 14 tested cells by Holm" in said


def test_by_version_sorts_numbers_as_numbers(tmp_path: Path, history) -> None:
    for name, day, version in (
        ("a", "2026-03-01", "1.9.0"),
        ("b", "2026-01-01", "1.10.0"),
        ("c", "2026-02-01", "1.10.0rc1"),
        ("d", "2026-04-01", "1.10.0"),
    ):
        write(tmp_path, name, day, version=version, runs=3)  # fmt: skip
    code, said, _ = history("a", "b", "c", "d", "--by=version", "--cells=torch-bare")
    assert code == 0
    assert column(said, "framework") == [
        f"torch {v}" for v in ("1.9.0", "1.10.0rc1", *2 * ["1.10.0"])
    ]
    assert column(said, "study") == ["a", "c", "b", "d"]
    assert said.count("## ") == 1
    versions = ["unknown", "0.9", "0.10", "2.0rc1", "2.0", "2.0+cpu", "2.0.1"]
    assert sorted(reversed(versions), key=version_key) == versions


def test_changes_are_named_and_other_machines_are_not_connected(tmp_path: Path, history) -> None:
    write(tmp_path, "a", "2026-01-01")
    write(tmp_path, "b", "2026-02-01", version="2.0")
    write(tmp_path, "c", "2026-03-01", version="2.0", machine=NEW)
    write(tmp_path, "d", "2026-04-01", version="2.0", machine=NEW)
    code, said, _ = history("a", "b", "c", "d", "--cells=jax-bare")
    assert code == 0
    assert column(said, "changed; marks") == [
        "", "jax: 1.9.0 -&gt; 2.0", "cpu_model: Old CPU -&gt; New CPU; usable_cores: 2 -&gt; 4",
        "",
    ]  # fmt: skip
    assert column(said, "machine") == [*2 * ["Old CPU, 2 cores"], *2 * ["New CPU, 4 cores"]]
    (path,) = (tmp_path / "page/plots").glob("*jax-bare*.svg")
    svg = path.read_text()
    assert lines_between_points(svg) == 2
    for text in ("a: jax: 1.9.0", "b: cpu_model: Old CPU", "Old CPU, 2 cores", "New CPU, 4 cores"):
        assert text in re.sub(r"\s+", " ", svg).replace("&gt;", ">"), text


def lines_between_points(svg: str) -> int:
    """Returns the number of lines that connect two throughputs."""
    color = r"stroke: #0072b2; stroke-width: 1\.2"
    return len(re.findall(rf'<path d="M \S+ \S+ \nL \S+ \S+ \n" [^>]*style="[^"]*{color}', svg))


def test_the_session_of_a_study_stands_for_runs_without_a_machine(tmp_path: Path, history) -> None:
    write(tmp_path, "a", "2026-01-01")
    write(tmp_path, "b", "2026-02-01", milliseconds=12)
    write(tmp_path, "c", "2026-03-01", milliseconds=20, machine=None)
    code, said, _ = history("a", "b", "c", "--cells=torch-bare")
    assert code == 0
    ratios = re.findall(r"(. to .), (0\.\d\dx) \[\S+ \S+\]( \(not the same machine\))?", said)
    assert ratios == [("a to b", "0.83x", ""), ("b to c", "0.60x", " (not the same machine)")]
    (path,) = (tmp_path / "page/plots").glob("*.svg")
    assert path.read_text().count("Test CPU, 2 cores") == 2  # legend, and the line below


def test_page_and_plots_are_written_and_replaced(tmp_path: Path, history) -> None:
    write(tmp_path, "a", "2026-01-01", runs=3)
    write(tmp_path, "b", "2026-02-01", runs=2)
    write(tmp_path, "only", "2026-03-01", runs=1, models=("gpt_tiny",))
    code, said, _ = history("a", "b", "only")
    assert code == 0
    assert column(said, "answer") == ["-", "not decided: fewer than 3 runs"]
    assert "Not decided: 7 of 7 steps" in said
    folder = tmp_path / "page"
    text = (folder / "history.html").read_text()
    page = Page(text)
    assert page.loads == []
    assert page.tags.count("svg") == page.tags.count("table") == 7
    plots = {path.name for path in (folder / "plots").iterdir()} - {".drawn"}
    assert len(plots) == 7 * len(FORMATS)
    assert all(f'href="plots/{name}"' in text for name in plots)
    assert all((folder / link).exists() for link in re.findall(r"\]\((plots/[^)]+)\)", said))
    assert history("a", "b", "--cells=torch-bare")[0] == 0
    assert len(list((folder / "plots").glob("*.pdf"))) == 1


def test_a_study_of_an_older_version(tmp_path: Path, history) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    write(tmp_path, "new", "2026-12-01", models=("mlp_digits",), runs=3, optimizer=OLD_OPTIMIZER)
    code, said, errors = history("new", "old_study", "--cells=torch-bare-1dev-b64-float32-8")
    assert (code, errors) == (0, "")
    assert column(said, "study") == ["old_study", "new"]
    assert column(said, "isoscale") == ["unknown", "0.1.0 (commit 1)"]
    assert column(said, "machine")[0].startswith("AMD EPYC")
    assert (
        "not recorded: isoscale and environment in old_study" in column(said, "changed; marks")[1]
    )


def test_text_of_others_is_escaped(tmp_path: Path, history) -> None:
    write(tmp_path, "a", "2026-01-01", runs=1)
    write(tmp_path, "b", "2026-02-01", runs=1, version="<b>|\x1b[31m")
    code, said, _ = history("a", "b", "--cells=torch-bare")
    assert code == 0
    for text in (said, (tmp_path / "page/history.html").read_text()):
        assert "<b>|" not in text
        assert "\x1b" not in text
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {11}


@pytest.mark.parametrize("arguments, message", [
    ([], "history needs two studies or more: isoscale history A B ..."),
    (["a"], "history needs two studies or more"),
    (["a", "b", "a"], "'a' and 'a' are the same study"),
    (["a", "bb"], "unknown study 'bb'"),
    (["a", "empty"], "study 'empty' has no successful run"),
    (["a", "other"], "no two of the studies 'a', 'other' have a cell in common"),
    (["a", "b", "--cells=x-y"], "unknown cell 'x-y'"),
    (["a", "b", "--cells=torch"], "'torch' is part of the ids of 2 cells; type more of the id"),
    (["a", "b", "other", "--cells=gpt_tiny-torch-bare"], "-float32-"),
    (["a", "b", "other", "--cells=gpt_tiny-torch-bare"], " is in study 'other' only"),
    (["a", "b", "--by=day"], "unknown order 'day'"),
    (["a", "b", "--treshold=5%"], "did you mean '--threshold'"),
    (["a", "b", "--out=OUT/a"], "holds 'results.jsonl' but no history.html; choose an"),
])  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    write(tmp_path, "a", "2026-01-01", runs=1)
    write(tmp_path, "b", "2026-02-01", runs=1)
    write(tmp_path, "other", "2026-03-01", runs=1, models=("gpt_tiny",))
    write_study(tmp_path / "empty", [], steps=0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = [text.replace("OUT", str(tmp_path)) for text in arguments]
    out = [] if any(x.startswith("--out=") for x in arguments) else [f"--out={tmp_path}/page"]
    assert main(["history", *arguments, *out, f"--out_dir={tmp_path}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("isoscale: ")
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_base_cases_have_histories_and_a_cell_is_named_without_them(
    tmp_path: Path, history
) -> None:
    for name, day in (("first", "2026-11-20"), ("second", "2026-11-21")):
        lines = lines_of(STRONG, runs=4, noise=0.01)
        for line in lines:
            line["started"] = line["started"].replace("2026-11-21", day)
        write_study(tmp_path / name, lines, steps=0)
    code, text, _ = history("first", "second")
    assert code == 0
    assert "torch ddp, 2 of 2 devices independent" in text
    code, text, _ = history("first", "second", "--cells=torch-ddp-2dev")
    assert code == 0
    assert "independent" not in text
