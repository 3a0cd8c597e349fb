"""Tests ``isoscale diff`` as users call it."""

import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoscale.common.commands.main import main
from isoscale.common.config.cell import Cell
from tests.common.analysis.test_factors import STRONG, lines_of
from tests.common.report.fake_study import grid_lines, make_cell, turns_lines, write_study
from tests.common.report.test_old_study import ARCHIVE

MAIN = "isoscale.common.commands.main"
NOISE = {"process": 0.002, "window": 0.002}
SLOW_DDP = {"ddp": 0.012}


def seconds(by_strategy: dict[str, float]) -> Callable[[dict[str, Any]], float]:
    return lambda cell: by_strategy.get(cell["strategy"], 0.010)


def write(folder: Path, name: str, lines: list[dict[str, Any]], **changes: Any) -> None:
    write_study(folder / name, [{**line, **changes} for line in lines], steps=0)


def answers(markdown: str) -> dict[str, int]:
    """Returns answer -> number of rows of the tables that have it."""
    rows = [re.split(r" ?\| ?", line) for line in markdown.splitlines() if line.startswith("|")]
    return dict(Counter(row[5] for row in rows if row[5] not in ("answer", "---")))


@pytest.fixture
def diff(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Returns a function that runs the command; it returns exit code, output and errors.

    The output is Markdown as it is, and other texts in one line.
    """

    monkeypatch.setenv("COLUMNS", "200")  # no cell of a table is wrapped

    def run(*arguments: str) -> tuple[int, str, str]:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        code = main(["diff", *arguments, f"--out_dir={tmp_path}"])
        said = capsys.readouterr()
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        text = said.out if "--markdown" in arguments else " ".join(said.out.split())
        return code, text, said.err

    return run


def test_a_slower_cell_is_named_and_the_exit_code_is_1(tmp_path: Path, diff) -> None:
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "b", grid_lines(seconds=seconds(SLOW_DDP)))
    code, said, errors = diff("a", "b")
    assert (code, errors) == (1, "")
    assert (
        "2 of 11 cells were shown to be slower by more than 5 %: torch ddp on 1 device, 0.8" in said
    )
    assert answers(diff("a", "b", "--markdown")[1]) == {
        "slower by more than 5 %": 2,
        "the same within 5 %": 9,
    }
    assert "drift of the machine between them is outside the intervals" in said
    code, said, _ = diff("b", "a")
    assert code == 0
    assert "Nothing slower by more than 5 % was shown in 11 cells." in said
    assert answers(diff("b", "a", "--markdown")[1])["faster by more than 5 %"] == 2


@pytest.mark.parametrize("threshold, code", [("5%", 1), ("15%", 1), ("25%", 0)])
def test_the_threshold_decides_the_exit_code(
    tmp_path: Path, diff, threshold: str, code: int
) -> None:
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "b", grid_lines(seconds=seconds(SLOW_DDP)))
    assert diff("a", "b", f"--threshold={threshold}")[0] == code


def test_equal_studies_differ_in_nothing(tmp_path: Path, diff) -> None:
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "b", [*reversed(grid_lines())])
    assert diff("a", "b")[0] == 0
    code, said, errors = diff("a", "b", "--strict", "--markdown")
    assert (code, errors) == (0, "")
    assert answers(said) == {"the same within 5 %": 11}
    assert "- equal: machine, versions and measurement" in said
    assert "-&gt;" not in said.replace("Conditions, A -&gt; B", "")


def test_strict_also_fails_on_what_is_not_decided(tmp_path: Path, diff) -> None:
    write(tmp_path, "a", grid_lines(noise=0.2))
    write(tmp_path, "b", grid_lines(noise=0.2, runs=4))
    code, said, _ = diff("a", "b")
    assert code == 0
    assert (
        "Nothing slower by more than 5 % was shown in 11 cells. Not decided: 11 of 11 cells" in said
    )
    assert diff("a", "b", "--strict")[0] == 1


def test_a_cell_that_failed_in_one_study_is_not_decided(tmp_path: Path, diff) -> None:
    failed = [
        {**line, "status": "failed", "error": "broken"}
        if line["cell"]["framework"] == "jax"
        else line
        for line in grid_lines(devices=(1,))
    ]
    write(tmp_path, "a", grid_lines(devices=(1,)))
    write(tmp_path, "b", failed)
    code, said, _ = diff("a", "b")
    assert code == 0
    found = answers(diff("a", "b", "--markdown")[1])
    assert found["not decided: no successful run in B"] == 3
    assert "Not decided: 3 of 7 cells: jax bare on 1 device; jax pjit on 1 device; jax pmap" in said
    assert diff("a", "b", "--strict")[0] == 1


def test_what_differs_in_conditions_comes_first(tmp_path: Path, diff) -> None:
    machine = {"cpu_model": "Old CPU", "usable_cores": 2, "memory_bytes": 2**34, "gpus": []}
    old = {"machine": machine, "isoscale": "0.1.0 (commit 1)", "environment": {"RANK": "0"}}
    new = {
        "machine": {**machine, "cpu_model": "New CPU"},
        "isoscale": "0.1.0 (commit 2)",
        "environment": {"OMP_NUM_THREADS": "2", "MKL_CBWR": ""},
    }
    write(tmp_path, "a", grid_lines(), **old)
    lines = [{**line, "versions": {**line["versions"], "torch": "9"}} for line in grid_lines()]
    for line in lines:
        if line["cell"]["framework"] != "torch":
            del line["versions"]["torch"]
    write(tmp_path, "b", lines, **new)
    said = diff("a", "b")[1]
    first = said[: said.index("mlp_medium, global batch 64")]
    for text in (
        "- cpu_model: Old CPU -> New CPU - isoscale: 0.1.0 (commit 1) -> 0.1.0 (commit 2) ",
        "- torch: 1.2.3 -> 9 - OMP_NUM_THREADS: not set -> 2 - MKL_CBWR: not set -> (empty) -",
        "A: a, measured 2026-11-21 10:00 to 2026-11-21 10:01 UTC, 66 successful runs",
    ):
        assert text in first
    assert "RANK" not in said


def test_all_cells_that_move_alike_are_a_warning(tmp_path: Path, diff) -> None:
    """Two studies share no rounds: a slower machine looks like slower programs."""
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "slow", grid_lines(seconds=lambda cell: 0.0115))
    code, said, _ = diff("a", "slow")
    assert code == 1
    assert "! All 11 tested cells are slower in B, 0.87x to 0.87x: the speed of the machine" in said
    write(tmp_path, "b", grid_lines(seconds=seconds(SLOW_DDP)))
    assert "tested cells are" not in diff("a", "b")[1]
    other = {"bare": 0.012, "ddp": 0.012}
    some = grid_lines(seconds=lambda cell: other.get(cell["strategy"], 0.008))
    write(tmp_path, "both", some)
    assert "tested cells are" not in diff("a", "both")[1]


def test_how_runs_were_measured_is_a_condition(tmp_path: Path, diff) -> None:
    cell = make_cell("torch", "bare", 1)
    write_study(tmp_path / "a", grid_lines(), steps=5)
    write(tmp_path, "b", turns_lines([(cell, 0.010)], **NOISE))
    code, said, _ = diff("a", "b")
    assert code == 0
    assert "- interleave: runs -> windows" in said
    assert "Only in A: jax bare on 1 device (mlp_medium, global batch 64, float32), " in said
    config = next((tmp_path / "a").rglob("config.json"))
    write_study(tmp_path / "c", grid_lines(), steps=5)
    for path in (tmp_path / "c").rglob("config.json"):
        path.write_text(config.read_text().replace('"steps": 15', '"steps": 30'))
    assert "- steps: 15 -> 30 -" in diff("a", "c")[1]
    one = next((tmp_path / "c").rglob("cells/*ddp-2dev*/run_0/config.json"))
    for path in (tmp_path / "c").rglob("config.json"):
        path.write_text(config.read_text())
    one.write_text(config.read_text().replace('"steps": 15', '"steps": 99'))
    assert "- steps: 15 -> 99 | 15 (1 cell of 11)" in diff("a", "c")[1]


def test_cells_that_differ_in_tweaks_are_compared_and_say_so(tmp_path: Path, diff) -> None:
    tuned = {"tuning": "tuned", "devices": (1,)}
    write(tmp_path, "a", grid_lines(**tuned))
    write(tmp_path, "b", grid_lines(**tuned, tweaks=["huge-pages"], seconds=lambda _: 0.007))
    code, said, _ = diff("a", "b", "--markdown")
    assert code == 0
    assert answers(said) == {"faster by more than 5 %": 7}
    assert said.count("| tweaks: none -&gt; huge-pages") == 7


def test_other_losses_with_the_same_seed_are_a_warning(tmp_path: Path, diff) -> None:
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "b", [{**line, "loss_first": 5.26} for line in grid_lines()])
    assert "! With the same seed, first losses differ between A and B" in diff("a", "b")[1]
    assert "first losses" not in diff("a", str(same(tmp_path)))[1]


def same(folder: Path) -> Path:
    """Returns the path of a copy of the study ``a``."""
    write(folder / "elsewhere", "copy", grid_lines())
    return folder / "elsewhere/copy"


def test_cells_of_one_study_are_compared_within_rounds(tmp_path: Path, diff) -> None:
    """A drift of 40 % that all cells share leaves a difference of 2 % visible."""
    torch, jax, tf = (make_cell(name, "bare", 1) for name in ("torch", "jax", "tensorflow"))
    lines = turns_lines([(torch, 0.010), (jax, 0.0102), (tf, 0.013)], **NOISE, drift=0.4)
    write(tmp_path, "s", lines)
    code, said, _ = diff("s", "--cells=torch,jax")
    assert code == 0
    assert "slower, but within 5 %" in said
    assert "A: torch bare on 1 device" in said
    assert "framework: torch -> jax" in said
    assert "t over groups, on the trimmed mean of each group's log ratios by round" in said
    assert "drift" not in said
    code, said, _ = diff("s", f"--cells={Cell.from_record(torch).id},jax,tensorflow-bare")
    assert code == 1
    assert "1 of 2 cells was shown to be slower by more than 5 %: tensorflow bare" in said


def test_markdown_has_the_result_first_and_a_row_for_each_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "b", grid_lines(seconds=seconds(SLOW_DDP)), isoscale="<b>|1")
    assert main(["diff", "a", "b", "--markdown", f"--out_dir={tmp_path}"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("**2 of 11 cells were shown to be slower by more than 5 %: torch ddp")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[:2] == [
        "| cell | A examples/s | B examples/s | B / A | answer | corrected p | runs A, B | marks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    assert len(rows) == 2 + 11
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
    assert "&lt;b&gt;" not in text  # only B recorded its isoscale: unknown, not different
    assert "- not recorded: isoscale and environment (A); environment (B)" in text


def test_a_study_of_an_older_version(tmp_path: Path, diff) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    lines = grid_lines(
        models=("mlp_digits",), runs=3, seconds=lambda _: 0.01, optimizer=OLD_OPTIMIZER
    )
    write(tmp_path, "new", lines, isoscale="0.2.0", environment={}, loss_first=2.4)
    code, said, errors = diff("old_study", "new")
    assert (code, errors) == (1, "")
    assert "- not recorded: isoscale and environment (A)" in said
    assert "- cpu_model: AMD EPYC -> Test CPU" in said
    assert "jax: 0.10.2 -> 1.2.3" in said
    assert "9 of 9 cells were shown to be slower by more than 5 %: jax bare on 1 device, 0" in said
    assert "Only in A: jax bare on 1 device (mlp_digits, global batch 64, float32, tun" in said
    assert "Only in B: jax pmap on 1 device" in said
    part = "float32-"  # stock cells have their digest after the dtype
    cells = f"jax-bare-1dev-b64-{part}e,torch-ddp-2dev-b64-{part}2"
    code, said, _ = diff("old_study", f"--cells={cells}")
    assert code == 1
    assert "0.08x" in said


OLD_OPTIMIZER = {
    "name": "adamw", "learning_rate": 0.001, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999,
    "epsilon": 1e-08, "momentum": 0.9, "clip_norm": 1.0, "schedule": "constant",
    "schedule_warmup_steps": 0, "schedule_steps": 1000,
}  # fmt: skip


@pytest.mark.parametrize("arguments, message", [
    ([], "diff needs two studies: isoscale diff A B"),
    (["a"], "diff needs a second study (isoscale diff A B), or cells of the one"),
    (["a", "b", "c"], "diff takes two studies; 'c' is a third one"),
    (["a", "a"], "'a' and 'a' are the same study"),
    (["a", "aa"], "unknown study 'aa'"),
    (["a", "/etc"], "unknown study '/etc'"),
    (["a", "empty"], "study 'empty' has no results yet"),
    (["a", "other"], "studies 'a' and 'other' have no cell in common"),
    (["a", "b", "--cells=x,y"], "--cells compares cells of one study"),
    (["a", "--cells=torch-bare"], "--cells=torch-bare must name two cells or more"),
    (["a", "--cells=torch-bare,torch"], "'torch' is part of the ids of 3 cells; type more of the"),
    (["a", "--cells=torch-bare,dpd"], "unknown cell 'dpd'"),
    (["a", "--cells=torch-bare,torch-bar"], "names cell mlp_medium-torch-bare-1dev-b64-float32-"),
    (["mixed", "--cells=x-torch,y-torch"], "differ in model: their throughputs cannot be compared"),
    (["mixed", "--cells=x-torch,y-jax"], "-float32-"),
    (["a", "b", "--threshold=5"], "--threshold=5: must be a percentage like 5%"),
    (["a", "b", "--treshold=5%"], "did you mean '--threshold'"),
])  # fmt: skip
def test_bad_input_is_one_line(tmp_path: Path, diff, arguments: list[str], message: str) -> None:
    write(tmp_path, "a", grid_lines())
    write(tmp_path, "b", grid_lines(runs=1))
    write(tmp_path, "other", grid_lines(runs=1, models=("gpt_tiny",)))
    write(tmp_path, "empty", [])
    mixed = grid_lines(models=("x", "y"), devices=(1,), runs=1)
    for line in mixed:
        if line["cell"]["model"] == "y" and line["cell"]["framework"] == "jax":
            line["status"] = "failed"
    write(tmp_path, "mixed", [x for x in mixed if x["cell"]["strategy"] == "bare"])
    code, said, errors = diff(*arguments)
    assert (code, said) == (2, "")
    assert errors.startswith("isoscale: ")
    assert len(errors.splitlines()) == 1
    assert message in errors


def test_a_failed_cell_cannot_be_compared(tmp_path: Path, diff) -> None:
    lines = grid_lines(devices=(1,), runs=1)
    for line in lines:
        line["status"] = "failed" if line["cell"]["framework"] == "jax" else "ok"
    write(tmp_path, "s", lines)
    code, _, errors = diff("s", "--cells=torch-bare,jax-bare")
    assert code == 2
    assert "has no successful run" in errors


def test_in_a_process_of_its_own_the_exit_code_is_1(run_program, tmp_path: Path) -> None:
    write(tmp_path, "a", grid_lines(devices=(1,)))
    write(tmp_path, "b", grid_lines(devices=(1,), seconds=seconds(SLOW_DDP)))
    answer = run_program(MAIN, "diff", str(tmp_path / "a"), str(tmp_path / "b"), COLUMNS="80")
    assert answer.returncode == 1, answer.stderr
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert "Not shown, for lack of width:" in answer.stdout


@pytest.mark.parametrize("studies", [1, 2])
def test_what_is_not_decided_has_the_minutes_that_would_decide_it(
    tmp_path: Path, diff, studies: int
) -> None:
    cells = [(make_cell("jax", "bare", 1), 0.01), (make_cell("torch", "bare", 1), 0.0098)]
    noise = {"process": 0.05, "window": 0.002}
    write(tmp_path, "a", turns_lines(cells, groups=4, **noise), wall_seconds=60.0)
    later = turns_lines(cells, groups=4, began="2026-11-25", **noise)
    for line in later:  # other noise: else the two studies would be the same
        for entry in line["turns"]["rounds"]:
            entry["seconds_per_step"] *= 1 + 0.05 * (-1) ** line["run"]
    write(tmp_path, "b", later, wall_seconds=90.0)
    chosen = ["b"] if studies == 2 else ["--cells=jax,torch"]
    _, said, _ = diff("a", *chosen, "--markdown")
    together = ", for both studies together," if studies == 2 else ""
    found = re.search(rf"not decided; estimated: (\d+) to (\d+) more minutes{together} would", said)
    assert found, said
    low, high = map(int, found.groups())
    assert (2 if studies == 2 else 1) <= low < high


def test_base_cases_are_compared_like_other_cells(tmp_path: Path, diff) -> None:
    lines = lines_of(STRONG, runs=5, noise=0.002)
    slower = [
        {**line, "examples_per_second": line["examples_per_second"] / 1.3}
        if line["cell"].get("independent") == 2
        else line
        for line in lines
    ]
    write_study(tmp_path / "a", lines, steps=0)
    write_study(tmp_path / "b", slower, steps=0)
    code, said, _ = diff("a", "b")
    assert code == 1
    assert "torch ddp, 2 of 2 devices independent" in said
    ids = {line["cell"].get("independent", 0): line["run_dir"].split("/")[1] for line in lines
           if line["cell"]["devices"] == 2}  # fmt: skip
    code, said, _ = diff("a", f"--cells={ids[2]},{ids[0]}")
    assert code == 1
    assert "0.60x [" in said
