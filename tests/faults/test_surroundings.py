"""Surroundings that a program does not expect: no home, no terminal, odd names, no reader."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.disks import Disk, disk, shim

__all__ = ["disk", "shim"]  # fixtures

pytestmark = pytest.mark.slow

MAIN = "isoscale.common.commands.main"
NO_FOLDER = "/dev/null/none"
"""Nobody can create this folder, not even root."""
OUT = "aus gäbe 中 é"
SMALL = ("--models=mlp_digits", "--steps=5", "--runs=1", f"--out_dir={OUT}")
NO_TENSORBOARD = "raise ImportError('not here')"


def run(
    *arguments: str, folder: Path, shell: str = '"$@"', umask: int = 0o077, **variables: str
) -> subprocess.CompletedProcess:
    """Runs ``isoscale`` behind a line of shell in which ``$@`` stands for it.

    It has no terminal, no home, no ``TMPDIR``, no locale, and a standard output without Unicode.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": NO_FOLDER,
        "TMPDIR": NO_FOLDER,
        "PYTHONIOENCODING": "ascii",
        "COLUMNS": "80",
        "LC_ALL": "C",
        **variables,
    }
    folder.mkdir(exist_ok=True)
    program = [sys.executable, "-P", "-m", MAIN, *arguments]
    answer = subprocess.run(
        ["bash", "-c", f"set -o pipefail; umask {umask:o}; {shell}", "bash", *program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    for word in ("Traceback", "Exception ignored", "Warning", "codec can't"):
        assert word not in answer.stdout + answer.stderr, answer.stdout + answer.stderr
    return answer


def check_complete(study: Path) -> None:
    """Checks that a study has its whole report, and nothing of matplotlib's cache."""
    for name in ("report.html", "report.md", "results.csv", "cells.csv", "verdicts.json", "plots"):
        assert (study / name).exists(), name
    assert list((study / "plots").glob("*.png"))
    # A list of fonts names files of this machine.
    assert not [p for p in study.rglob("*") if p.name.startswith((".writing.", "fontlist"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder whose study was made in such surroundings, for ``head``."""
    place = tmp_path_factory.mktemp("wörk") / "mit blank ü"
    answer = run(
        "compare", *SMALL, "--study=s", "--frameworks=torch", "--strategies=bare", folder=place,
        shell='"$@" | head -n 1',
    )  # fmt: skip
    assert answer.returncode == 141, answer.stderr
    assert len(answer.stdout.splitlines()) == 1
    return place


def test_a_study_survives_its_surroundings_with_its_whole_report(place: Path) -> None:
    study = place / OUT / "s"
    (line,) = [json.loads(text) for text in (study / "results.jsonl").read_text().splitlines()]
    assert line["status"] == "ok"
    assert "exit_warning" not in line or line["exit_warning"] is None
    check_complete(study)
    assert list((study / "tensorboard").rglob("events.*"))
    for path in (place / OUT).rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_nothing_is_written_into_the_home(place: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    answer = run("report", "s", f"--out_dir={OUT}", folder=place, umask=0o002, HOME=str(home))
    assert answer.returncode == 0
    last = answer.stdout.splitlines()[-1]
    assert last == "Report: aus g\\xe4be \\u4e2d \\xe9/s/report.html"
    assert answer.stderr == ""
    assert not list(home.iterdir())
    check_complete(place / OUT / "s")
    assert stat.S_IMODE((place / OUT / "s/report.html").stat().st_mode) == 0o664


@pytest.mark.parametrize(
    "shell, code, said",
    [
        ('"$@" <&- >&- 2>&-', 0, ""),
        (
            '"$@" >/dev/full',
            3,
            "isoscale: cannot write to standard output: no space left on device",
        ),
    ],
)
def test_without_tensorboard_and_output_only_the_event_files_are_missing(
    shell: str, code: int, said: str, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "tensorboard.py").write_text(NO_TENSORBOARD)
    study = place / OUT / "s"
    (study / "report.html").unlink()
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    again = ("compare", "--study=s", "--resume", f"--out_dir={OUT}")
    answer = run(*again, folder=place, shell=shell, PYTHONPATH=path)
    assert answer.returncode == code, answer.stderr
    assert answer.stdout == ""
    lines = answer.stderr.splitlines()
    assert lines[-1:] == ([said] if said else [])
    missing = "no event files: TensorBoard cannot be imported (ImportError: not here); install it:"
    assert (missing in answer.stderr) == bool(said)
    check_complete(study)


def test_board_without_tensorboard_is_one_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorboard.py").write_text(NO_TENSORBOARD)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    answer = run("board", "s", "--port=0", f"--out_dir={OUT}", folder=place, PYTHONPATH=path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "TensorBoard cannot be imported (ImportError: not here)" in answer.stderr
    assert answer.stderr.count("\n") == 1


LONG: dict[str, tuple[Sequence[str], int]] = {
    "compare": (
        (
            "compare",
            *SMALL,
            "--study=all",
            "--devices=2",
            "--tuning=tuned",
            "--nobase_cases",
            "--allow_oversubscription",
        ),
        0,
    ),
    "explain": (("explain", "e", *SMALL, "--frameworks=jax"), 0),
    "parity": (
        ("parity", "--models=mlp_digits", "--devices=1,2", "--dtype=float64", f"--out_dir={OUT}/p"),
        0,
    ),
    "relay": (("relay", "--model=mlp_digits", "--steps=9", f"--out_dir={OUT}/r"), 0),
    "doctor": (("doctor", "--sgemm_size=256"), 0),
    "tweaks": (("tweaks",), 0),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_every_command_works_in_such_surroundings(name: str, disk: Disk, tmp_path: Path) -> None:
    """All folders for temporary files are read-only, too; Python then takes the working folder."""
    arguments, code = LONG[name]
    faults = disk.environment("/tmp/????????", "/var/tmp/????????", error="EROFS")
    disk.fill()
    work = tmp_path / "wörk é"
    answer = run(*arguments, folder=work, **faults)
    assert answer.returncode == code, answer.stdout + answer.stderr
    assert answer.stdout.isascii()
    if name in ("compare", "explain"):
        study = work / OUT / ("all" if name == "compare" else "e")
        check_complete(study)
        lines = [json.loads(line) for line in (study / "results.jsonl").read_text().splitlines()]
        assert {line["status"] for line in lines} == {"ok"}
