"""Tests which version and commit of isoscale every result names."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from isoscale.common.machine import own_version
from isoscale.common.machine.own_version import UNKNOWN, VERSION, commit_of
from tests.conftest import ROOT

PLAIN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        env={**os.environ, **PLAIN},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with two folders of code, one commit and nothing changed."""
    root = tmp_path / "checkout"
    for name in ("common", "models", "frameworks", "docs"):
        (root / name).mkdir(parents=True)
        (root / name / "a.py").write_text("1\n")
    (root / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message=first")
    return root


def test_a_checkout_has_the_commit_of_git(checkout: Path) -> None:
    assert commit_of(checkout) == git(checkout, "rev-parse", "HEAD")[:12]


@pytest.mark.parametrize(
    "path, modified",
    [
        ("common/a.py", True),
        ("models/new/spec.py", True),  # a new file is a new model
        ("docs/a.py", False),
        ("runs/out/study/results.jsonl", False),
        ("common/__pycache__/a.pyc", False),
    ],
)
def test_only_changes_of_code_make_it_modified(checkout: Path, path: str, modified: bool) -> None:
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text("2\n")
    assert commit_of(checkout).endswith(" modified") == modified
    assert UNKNOWN not in commit_of(checkout)


def test_the_answer_is_about_this_code(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a repository around the code nor a git hook's variables change the answer."""
    (checkout / "site-packages/isoscale/common").mkdir(parents=True)
    assert commit_of(checkout / "site-packages/isoscale") == UNKNOWN
    (checkout / "site-packages/isoscale/.git").mkdir()  # damaged
    assert commit_of(checkout / "site-packages/isoscale") == UNKNOWN
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert re.fullmatch("[0-9a-f]{12}", commit_of(checkout))


def test_no_git_no_commit_and_a_slow_git_are_unknown(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    git(tmp_path, "init", "--quiet", str(tmp_path / "empty"))
    assert commit_of(tmp_path / "empty") == UNKNOWN
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert commit_of(checkout) == UNKNOWN
    program = tmp_path / "bin/git"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(own_version, "_GIT_SECONDS", 0.2)
    assert commit_of(checkout) == UNKNOWN


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0123456789ab\n", "0123456789ab"),
        ("0123456789ab modified\n", "0123456789ab modified"),
        ("/home/somebody", UNKNOWN),
        ("", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_a_wheel_has_the_commit_of_its_build(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    (tmp_path / "common").mkdir()
    if text is not None:
        (tmp_path / "common" / own_version.COMMIT_FILE).write_text(text)
    assert commit_of(tmp_path) == expected


def told(**environment: str) -> list[str]:
    """Returns what a process and its child say, and how often they asked git."""
    program = """
import subprocess, sys
from isoscale.common.machine import own_version as module
asked = []
ask = module.commit_of
module.commit_of = lambda root: asked.append(root) or ask(root)
print(module.own_version(), module.own_version(), len(asked), sep="|")
if "child" not in sys.argv:
    sys.stdout.flush()
    subprocess.run([sys.executable, "-P", "-c", sys.argv[1], sys.argv[1], "child"], check=True)
"""
    answer = subprocess.run(
        [sys.executable, "-P", "-c", program, program],
        env={**os.environ, "ISOSCALE_COMMIT": "", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.split("\n")[:2]


def test_one_command_asks_git_once() -> None:
    expected = f"{VERSION} (commit {commit_of(ROOT)})"
    assert told() == [f"{expected}|{expected}|1", f"{expected}|{expected}|0"]


def test_another_copy_of_the_code_asks_for_itself() -> None:
    """A framework's own interpreter may have another isoscale."""
    expected = f"{VERSION} (commit {commit_of(ROOT)})"
    for handed in ("/elsewhere:0123456789ab", f"{ROOT}:not a commit"):
        assert told(ISOSCALE_COMMIT=handed)[0] == f"{expected}|{expected}|1"


def test_the_version_is_written_three_times_and_equal() -> None:
    """setup.py, pip and people who cite isoscale read different files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_command_prints_version_and_commit(run_program) -> None:
    answer = run_program("isoscale.common.commands.main", "--version")
    assert answer.stdout == f"isoscale {VERSION} (commit {commit_of(ROOT)})\n"
    assert answer.returncode == 0
