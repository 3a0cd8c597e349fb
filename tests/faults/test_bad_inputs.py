"""Bad input to every program: exit code 2 or 3, one line, no file, little time and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.common.report.fake_study import grid_lines, write_study
from tests.conftest import environment_of
from tests.faults.bad_inputs import bad_input, programs
from tests.faults.measured import Measured, measured

SHORT, ALL = 24, 500
SLOW_PACKAGES = {
    "jax", "tensorflow", "torch", "flax", "keras", "scipy", "sklearn", "pandas", "matplotlib",
    "rich", "jinja2", "tensorboard",
}  # fmt: skip
_REFUSED = [(made.module, made.base[0], made.name) for made in programs()]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    write_study(folder / "s", grid_lines(runs=1, devices=(1,)), steps=5)
    return folder


def check(answer: Measured, folder: Path, about: str) -> None:
    assert answer.code in (2, 3), about
    assert answer.stdout == "", about
    assert answer.stderr.startswith("isoscale: "), about
    assert answer.stderr.endswith("\n"), about
    assert len(answer.stderr.splitlines()) == 1, about
    assert len(answer.stderr) <= 400, about
    assert answer.stderr[:-1].isprintable(), about
    assert answer.peak_mebibytes < 200, about
    assert not list(folder.iterdir()), about


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [*range(SHORT), *(pytest.param(s, marks=pytest.mark.long) for s in range(SHORT, ALL))],
)
def test_a_bad_command_line_is_refused_in_one_line(seed: int, out: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    module, arguments = bad_input(seed, folder=tmp_path, out=out)
    answer = measured(
        module, arguments, folder=tmp_path / "here", figures=tmp_path / "figures", timeout=20
    )
    shown = [text if len(text) < 200 else f"{text[:200]}... ({len(text)})" for text in arguments]
    check(answer, tmp_path / "here", f"seed {seed}: {module} {shown}\n{answer}")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("module, first, name", _REFUSED, ids=[name for *_, name in _REFUSED])
def test_every_program_refuses_bad_input_in_a_second_of_processor_time(
    module: str, first: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    arguments = [first, "--no_such_flag=1"]
    seconds = []
    for number in range(3):  # other programs on the machine can slow a try down
        answer = measured(
            module, arguments, folder=tmp_path / "here", figures=tmp_path / str(number)
        )
        check(answer, tmp_path / "here", f"{answer}")
        seconds.append(answer.cpu_seconds)
        if min(seconds) < 1.0:
            return
    pytest.fail(f"{name} used {min(seconds):.2f} s")


@pytest.mark.slow
@pytest.mark.parametrize("module, first, name", _REFUSED, ids=[name for *_, name in _REFUSED])
def test_a_refusal_imports_no_slow_package(
    module: str, first: str, name: str, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", module, first, "--no_such_flag=1"],
        cwd=tmp_path,
        env=environment_of(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 2, answer.stderr
    lines = [line for line in answer.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "isoscale" in imported
    assert not imported & SLOW_PACKAGES


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid, cells",
    [
        ([], 33),
        (["--global_batch_size=" + ",".join(str(2 * n) for n in range(1, 76))], 2475),
    ],
)
def test_a_plan_of_a_million_runs_is_shown_within_two_seconds(
    grid: list[str], cells: int, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    arguments = ["compare", "--dry_run", "--allow_oversubscription", "--runs=1000000", *grid]
    seconds = []
    for number in range(3):  # other programs on the machine can slow a try down
        answer = measured(
            "isoscale.common.commands.main",
            arguments,
            folder=tmp_path / "here",
            figures=tmp_path / str(number),
        )
        assert answer.code == 0, answer
        assert f"{cells} cells, {cells}000000 runs to do." in answer.stdout
        assert not list((tmp_path / "here").iterdir())
        seconds.append(answer.cpu_seconds)
        if min(seconds) < 2.0:
            return
    pytest.fail(f"the plan took {min(seconds):.2f} s of processor time")
