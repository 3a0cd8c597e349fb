"""An installed wheel works anywhere, also in a folder with files named like isoscale's own."""

import csv
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from isoscale.common.machine.own_version import VERSION, commit_of
from tests.conftest import ROOT, build_wheel

pytestmark = pytest.mark.slow
OF_USER = ("models.py", "common/__init__.py", "frameworks/__init__.py", "isoscale/__init__.py")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment, with isoscale from a wheel.

    The other packages come from this environment: its folder is last on the path, and the file that
    makes the checkout importable there has no effect elsewhere.
    """
    folder = tmp_path_factory.mktemp("wheel")
    wheel = build_wheel(folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet"),
            *("--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)),
        ],
        check=True,
    )
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a user's own files."""
    for name in OF_USER:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise RuntimeError('a file of the user was imported')\n")
    return tmp_path


def run(python: Path, folder: Path, *arguments: str) -> str:
    """Runs ``isoscale`` as installed; returns its standard output."""
    hidden = ("PYTHONPATH", "ISOSCALE_COMMIT")
    answer = subprocess.run(
        [python.with_name("isoscale"), *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_it_is_the_wheel_and_names_the_commit_of_its_build(python: Path, folder: Path) -> None:
    program = "import isoscale.common; print(isoscale.common.__file__)"
    file = subprocess.run([python, "-P", "-c", program], capture_output=True, text=True).stdout
    assert Path(file).is_relative_to(python.parents[1])
    said = run(python, folder, "--version")
    assert said == f"isoscale {VERSION} (commit {commit_of(ROOT)})\n"


def test_recipes_are_part_of_the_wheel(python: Path, folder: Path) -> None:
    assert "18 runs to do" in run(
        python, folder, "compare", "--recipe=quick", "--allow_oversubscription", "--dry_run"
    )


def test_compare_runs_in_a_folder_of_the_user(python: Path, folder: Path) -> None:
    said = run(
        python, folder, "compare", "--models=mlp_medium", "--runs=1", "--strategies=bare",
        "--devices=1", "--steps=20", "--study=s",
    )  # fmt: skip
    study = folder / "runs/out/s"
    assert "Report: runs/out/s/report.html" in said
    with (study / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["framework"]: row["status"] for row in rows} == {
        "jax": "ok", "tensorflow": "ok", "torch": "ok",
    }  # fmt: skip
    program = f"{VERSION} (commit {commit_of(ROOT)})"
    assert {row["isoscale"] for row in rows} == {program}
    for row in rows:
        versions = json.loads((study / row["run_dir"] / "versions.json").read_text())
        assert versions["isoscale"] == program
    for path in study.rglob("*"):  # a study is often published
        assert not path.is_file() or str(python.parents[1]).encode() not in path.read_bytes(), path
    assert {path.name for path in folder.iterdir()} == {
        "runs", *(name.partition("/")[0] for name in OF_USER)
    }  # fmt: skip
