"""Builds the small C libraries that the tests of faults preload into programs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def build(source: Path, folder: Path) -> Path:
    """Returns the library built from a C file; skips without a C compiler, or outside Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler (cc or gcc) and Linux")
    library = folder / f"{source.stem}.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, source]
    subprocess.run([*command, "-ldl"], check=True)
    return library
