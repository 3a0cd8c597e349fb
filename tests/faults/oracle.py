"""What must hold after any fault of a study or a program, in one place.

A test injects its fault, and passes what the program said to these functions.
"""

import dataclasses
import json
import os
import subprocess
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from isoscale.common.disk.writing import is_leftover

Key = tuple[str, int]
"""(the record of a cell as JSON, number of the run)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that has ended.

    Attributes:
      code: its exit code.
      out, err: what it said.
    """

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard error that isoscale printed.

        Without the line that names the library of a test, which runs do not get.
        """
        lines = [line for line in self.err.splitlines() if line.startswith("isoscale: ")]
        return [line for line in lines if "runs do not get these variables" not in line]


def ended(answer: subprocess.CompletedProcess) -> Ended:
    """Returns the facts of a completed process whose output was captured as text."""
    return Ended(code=answer.returncode, out=answer.stdout, err=answer.stderr)


def check_said(
    found: Ended, *, code: int, words: Sequence[str], folders: Collection[Path] = ()
) -> None:
    """Checks the exit code, the one line that says why, and that nothing printed a traceback.

    Args:
      found: the program.
      code: expected exit code.
      words: texts that the line contains: the path, and the cause.
      folders: all text files below these folders are searched for tracebacks too.
    """
    said = f"exit code {found.code}\n{found.out}\n{found.err}"
    assert found.code == code, said
    assert len(found.lines) == (1 if words else 0), said
    for word in words:
        assert word in found.lines[0], said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.suffix in (".txt", ".json", ".jsonl", ".log"):
            assert "Traceback" not in path.read_text(errors="replace"), path


def check_no_process(folder: Path) -> None:
    """Checks that no living process names ``folder`` in its command or works in it."""
    left = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        facts = process.info
        words = [*(facts["cmdline"] or []), facts["cwd"] or ""]
        ours = process.pid in (os.getpid(), os.getppid())
        if not ours and facts["status"] != psutil.STATUS_ZOMBIE:
            left += [words for word in words if str(folder) in word]
    assert not left, left


def check_no_leftovers(folder: Path) -> None:
    """Checks that no temporary file of isoscale is left below a folder."""
    left = [path for path in folder.rglob("*") if is_leftover(path.name)]
    assert not left, left


def results(study: Path) -> dict[Key, dict[str, Any]]:
    """Returns (cell, run) -> result of a study; {} before its first result."""
    path = study / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return {(json.dumps(line["cell"], sort_keys=True), line["run"]): line for line in found}


def successful(study: Path) -> dict[Key, dict[str, Any]]:
    """Returns the successful results of ``results``."""
    return {key: line for key, line in results(study).items() if line["status"] == "ok"}


def check_kept(before: dict[Key, dict[str, Any]], study: Path) -> None:
    """Checks that all earlier results are still there, unchanged."""
    now = results(study)
    for key, line in before.items():
        assert now.get(key) == line


def whole_runs(study: Path) -> dict[Path, int]:
    """Returns result file of a successful run -> time of its writing, in nanoseconds."""
    paths = study.glob("cells/*/run_*/result.json")
    return {
        path: path.stat().st_mtime_ns
        for path in paths
        if json.loads(path.read_text())["status"] == "ok"
    }


def check_not_repeated(before: dict[Path, int]) -> None:
    """Checks that no run that was successful (``whole_runs``) ran again."""
    assert {path: path.stat().st_mtime_ns for path in before} == before


TRAINED = (
    "status", "error", "seed", "run_dir", "parameters", "first_step", "steps_trained", "loss_first",
    "loss_last", "losses_last", "eval",
)  # fmt: skip
"""Entries of a result that do not depend on time."""


def check_as_control(study: Path, control: Path, *, besides: Iterable[Key] = ()) -> None:
    """Checks that a study trained the same runs as an unfaulted study, with the same results.

    Args:
      study, control: folders of two studies with the same flags.
      besides: runs that the fault struck.
    """

    def plain(folder: Path) -> dict[Key, dict[str, Any]]:
        return {
            key: {name: line.get(name) for name in TRAINED}
            for key, line in results(folder).items()
            if key not in set(besides)
        }

    assert plain(study) == plain(control)
