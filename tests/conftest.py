"""Shared fixtures. Tests of whole programs run them in fresh processes, as users do."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Whole programs and parity come last: what fails fast should fail first.
_ORDER = ("common", "models", "frameworks", "architecture", "commands", "parity")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        position = _ORDER.index(folder) if folder in _ORDER else len(_ORDER)
        return (item.get_closest_marker("slow") is not None, position)

    items.sort(key=rank)


def copy_of_the_code(folder: Path) -> Path:
    """Copies what a program needs to run; the copy stands for a clone that grows."""
    for name in ("common", "models", "frameworks"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    return folder


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs ``python -m MODULE ARGUMENTS`` in an empty folder and returns what it printed."""

    def run(
        module: str,
        *arguments: str,
        code: Path = ROOT,
        timeout: float = 300,
        **environment: str,
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            # -m would put the working folder first on the path; the code is what we say it is.
            env={**os.environ, "PYTHONPATH": str(code), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


def interrupted(
    *arguments: str, signal_number: int, work: Path, folder: Path, code: Path = ROOT
) -> str:
    """Runs ``isoscale ARGUMENTS`` until a job of its is done; returns what it says at a signal.

    Args:
      work: folder of the command's workers.
      folder: where it is run.
    """
    command = subprocess.Popen(
        [sys.executable, "-m", "common.commands.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(code)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = time.time() + 60
    while not [path for path in work.glob("*/results.jsonl") if path.read_text()]:
        assert time.time() < end
        time.sleep(0.01)
    command.send_signal(signal_number)
    said, _ = command.communicate(timeout=30)
    assert command.returncode == 130, said
    return said
