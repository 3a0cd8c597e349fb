"""Disks that fail on purpose: while a fault is on, calls that write to chosen paths fail."""

import errno
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import environment_of
from tests.faults.preload import build

_SOURCE = Path(__file__).with_name("shim.c")

FULL = {"ENOSPC": "no space left on device", "EDQUOT": "disk quota exceeded"}
"""A write fails: error -> how isoscale says it."""
BROKEN = {
    "EFBIG": "file too large",
    "EIO": "input/output error",
    "EROFS": "read-only file system",
    "EACCES": "permission denied",
}
CAUSES: Mapping[str, str] = {**FULL, **BROKEN}

_CALLS = {"EROFS": "omru", "EACCES": "omru", "EIO": "ws"}
"""Error -> letters of the calls that fail (shim.c); otherwise only writes fail."""


class Disk:
    """Faults on the disk, for programs that start with the variables of ``environment``."""

    def __init__(self, library: Path, folder: Path):
        self._library, self._switch = library, folder / "fault-is-on"

    def environment(self, *patterns: str, error: str = "ENOSPC", calls: str = "") -> dict[str, str]:
        """Returns variables for programs whose calls on matching paths shall fail.

        Args:
          *patterns: patterns of ``fnmatch`` for absolute paths. A file is first written under a
            temporary name that contains its own.
          error: name of the error.
          calls: letters of the calls (shim.c); the default depends on the error.
        """
        return {
            "LD_PRELOAD": str(self._library),
            "FAULT_WHEN": str(self._switch),
            "FAULT_ERRNO": str(getattr(errno, error)),
            "FAULT_CALLS": calls or _CALLS.get(error, "w"),
            "FAULT_PATHS": " ".join(patterns),
        }

    def fill(self) -> None:
        """Switches the fault on, for programs that run and for later ones."""
        self._switch.touch()

    def free(self) -> None:
        """Switches the fault off."""
        self._switch.unlink()


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the built shim; skips without a C compiler, or outside Linux."""
    return build(_SOURCE, tmp_path_factory.mktemp("shim"))


@pytest.fixture
def disk(shim: Path, tmp_path: Path) -> Disk:
    return Disk(shim, tmp_path)


def handed(variables: Mapping[str, str]) -> str:
    """Returns the flag that hands the preloaded library of some variables on to runs."""
    return f"--env=LD_PRELOAD={variables['LD_PRELOAD']}"


def start(folder: Path, module: str, *arguments: str, **variables: str) -> subprocess.Popen:
    """Starts ``python -m MODULE ARGUMENTS`` in a folder; its output is captured as text.

    Runs do not get LD_PRELOAD: ``quick_program`` sets it again, other programs need ``handed``.
    """
    if "LD_PRELOAD" in variables:
        variables["FAULT_LIBRARY"] = variables["LD_PRELOAD"]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        cwd=folder,
        env=environment_of(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
