"""The interpreters of the frameworks, and whether they have what a framework needs."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags
from isoscale.common.processes.launch import module_command
from isoscale.common.registry import lookup

_OURS = "isoscale.common"
_LACKS = """
import importlib.util, sys
def has(name):
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return found is not None and found.origin is not None
print(*[name for name in sys.argv[1:] if not has(name)])
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """How a framework's runs are started.

    Attributes:
      command: interpreter and module.
      missing: what is not installed, and the command that installs it; None if nothing is missing.
      install: that command.
    """

    command: list[str]
    missing: str | None
    install: str | None = None


def define_interpreter_flags(fv: Flags) -> None:
    """Defines ``--python_<framework>`` for each framework; ``find_programs`` reads them."""
    for name in lookup.frameworks():
        fv.text(f"python_{name}", None, f"interpreter for {name} (default: this one)")


def _interpreter(text: str) -> str:
    """Returns the path of an interpreter that holds in any folder.

    Links stay as they are: behind one a virtual environment is no longer itself.
    """
    return os.path.abspath(os.path.expanduser(text)) if os.sep in text else text


def _missing_packages(framework: str, path: str) -> list[str]:
    """Returns what an interpreter lacks for a framework; the framework is not imported.

    Raises:
      ConfigError: ``path`` is no Python.
    """
    info = lookup.framework_info(framework)
    if path == sys.executable:
        return lookup.missing_packages(info)
    try:
        answer = subprocess.run(
            [path, "-P", "-c", _LACKS, *info.packages, _OURS],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError):
        raise ConfigError(f"--python_{framework}={path} is not a Python") from None
    return answer.stdout.split()


def _missing(framework: str, path: str, lacks: list[str]) -> tuple[str, str]:
    """Returns (what an interpreter lacks for a framework, the command that installs it)."""
    if lacks == [_OURS]:
        here = lookup.ROOT if (lookup.ROOT / "pyproject.toml").exists() else "isoscale"
        what, install = f"isoscale is not installed in {path}", f"{path} -m pip install {here}"
    else:
        names = ", ".join(name for name in lacks if name != _OURS)
        what = f"{framework} is not installed in {path} (no {names})"
        install = lookup.framework_info(framework).install
    return f"{what}: {install}", install


def find_programs(fv: Flags, frameworks: Sequence[str]) -> dict[str, Program]:
    """Returns how each framework is started here, and whether it can be.

    Raises:
      ConfigError: a ``--python_<framework>`` is no Python.
    """
    programs = {}
    for name in frameworks:
        path = _interpreter(getattr(fv, f"python_{name}") or sys.executable)
        lacks = _missing_packages(name, path)
        missing, install = _missing(name, path, lacks) if lacks else (None, None)
        command = module_command(path, lookup.program(name))
        programs[name] = Program(command=command, missing=missing, install=install)
    return programs
