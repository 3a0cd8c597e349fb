"""Disks that are full, and files that cannot be written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment_of

pytestmark = pytest.mark.slow

TORCH = "isoscale.frameworks.torch_runner"


def run_with_small_files(
    *arguments: str, kibibytes: int, folder: Path
) -> subprocess.CompletedProcess:
    """Runs a program that cannot write files above a size, as on a disk that fills up."""
    program = [sys.executable, "-P", "-m", TORCH, *arguments]
    return subprocess.run(
        ["sh", "-c", f'ulimit -f {kibibytes * 2}; exec "$@"', "sh", *program],
        cwd=folder,
        env=environment_of(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("strategy", ["bare", pytest.param("ddp", marks=pytest.mark.long)])
def test_a_run_that_saved_no_checkpoint_keeps_its_result_and_exits_with_1(
    strategy: str, tmp_path: Path
) -> None:
    answer = run_with_small_files(
        "--model=mlp_digits", "--steps=20", "--run_dir=r", "--save_checkpoint=saved",
        "--save_every=10", f"--strategy={strategy}", kibibytes=64, folder=tmp_path,
    )  # fmt: skip
    assert answer.returncode == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stderr.startswith("isoscale: no checkpoint at step 10: cannot write ")
    result = json.loads((tmp_path / "r/result.json").read_text())
    assert result["status"] == "ok"
    assert len(result["checkpoints"]["failures"]) == 3
    assert [path.name for path in (tmp_path / "saved").iterdir()] == [".lock"]
