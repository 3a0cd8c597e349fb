"""``make compare`` installs what it needs and no tools of tests; ``make test`` adds the tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FRAMEWORKS, TOOLS, NEW = (
    "--editable '.[all,digits]'",
    "--editable '.[dev]'",
    "-m venv --clear .venv",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs make on its own: this test may run below another make."""
    hidden = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON")
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
    )


def plan(folder: Path, target: str) -> str:
    answer = make(folder, "--dry-run", f"PYTHON={sys.executable}", target)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def done(folder: Path, *stamps: str) -> None:
    (folder / ".venv").mkdir(exist_ok=True)
    for stamp in stamps:
        (folder / ".venv" / stamp).touch()


@pytest.mark.parametrize("target", ["compare", "board", "doctor", "parity", "setup"])
def test_targets_of_users_need_no_tools(folder: Path, target: str) -> None:
    text = plan(folder, target)
    assert (FRAMEWORKS in text, TOOLS in text, NEW in text) == (True, False, True)
    assert "--quiet" not in text


@pytest.mark.parametrize(
    "target",
    ["test", "test-fast", "lint", "types", "mutations", "faults", "benchmark", "coverage"],
)
def test_targets_of_developers_add_only_the_tools(folder: Path, target: str) -> None:
    text = plan(folder, target)
    assert (FRAMEWORKS in text, TOOLS in text, NEW in text) == (True, True, True)
    done(folder, ".installed")
    text = plan(folder, target)
    assert (FRAMEWORKS in text, TOOLS in text, NEW in text) == (False, True, False)
    done(folder, ".tools_installed")
    assert "pip install" not in plan(folder, target)


def test_a_half_made_environment_is_made_again(folder: Path) -> None:
    done(folder)
    (folder / ".venv/bin").mkdir()
    assert NEW in plan(folder, "compare")
    done(folder, ".installed", ".tools_installed")
    new = (folder / ".venv/.installed").stat().st_mtime + 10
    os.utime(folder / "pyproject.toml", (new, new))
    text = plan(folder, "test")
    assert (FRAMEWORKS in text, TOOLS in text, NEW in text) == (True, True, True)


@pytest.mark.parametrize("version, allowed", [
    ((3, 10), False), ((3, 11), True), ((3, 14), True), ((3, 15), False),
])  # fmt: skip
def test_the_version_of_python_is_checked_first(
    folder: Path, version: tuple[int, int], allowed: bool
) -> None:
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && echo Python {version[0]}.{version[1]}.0 && exit\n'
        f"exec {sys.executable} -c \"import sys; sys.version_info = {version}; exec('''$2''')\"\n"
    )
    python.chmod(0o755)
    answer = make(folder, "--dry-run", f"PYTHON={python}", "compare")
    assert (answer.returncode == 0) == allowed, answer.stderr
    if not allowed:
        assert answer.stderr.count("\n") == 1
        assert f"needs Python 3.11 to 3.14; '{python}' is Python 3.1" in answer.stderr


def test_a_failure_of_pip_is_a_failure_of_make(folder: Path) -> None:
    """The shown lines are filtered, and the exit code of a filter says nothing about pip."""
    python = folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = -c ] && exec {sys.executable} "$@"\n'
        'case "$*" in *" venv "*) mkdir -p .venv/bin; cp python .venv/bin/python;; esac\n'
        'case "$*" in *" pip "*) echo "Collecting jax>=1 (from x)"; echo "no disk" >&2; exit 7;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    answer = make(folder, f"PYTHON={python}", "setup")
    assert answer.returncode == 2
    assert "Collecting jax>=1\n" in answer.stdout
    assert "no disk" in answer.stderr
    assert not (folder / ".venv/.installed").exists()
