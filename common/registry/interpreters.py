"""Finds the interpreter of each framework and checks for the framework's packages."""

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
    """Describes how a framework's runs are started.

    Attributes:
      command: interpreter and module.
      missing: missing packages and the command that installs them; None: all are installed.
      install: the command that installs the missing packages.
    """

    command: list[str]
    missing: str | None
    install: str | None = None


def define_interpreter_flags(fv: Flags) -> None:
    """Defines ``--python_<framework>`` for each framework; ``find_programs`` reads them."""
    for flag, name in interpreter_flags().items():
        fv.text(flag, None, f"interpreter for {name} (default: this one)")


def interpreter_flags() -> dict[str, str]:
    """Returns the flags that name programs to start: flag -> framework."""
    return {f"python_{name}": name for name in lookup.frameworks()}


def _interpreter(text: str) -> str:
    """Returns the absolute path of an interpreter; keeps a plain name such as ``python3``.

    Links are not resolved: the target of a link would not use its virtual environment.
    """
    return os.path.abspath(os.path.expanduser(text)) if os.sep in text else text


def _missing_packages(framework: str, path: str) -> list[str]:
    """Returns the packages of a framework that an interpreter lacks; imports none of them.

    Raises:
      ConfigError: ``path`` is not a Python interpreter.
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
        raise ConfigError(
            f"--python_{framework}={path} is not a Python interpreter, or does not start"
        ) from None
    return answer.stdout.split()


def _missing(framework: str, path: str, lacks: list[str]) -> tuple[str, str]:
    """Returns (a message on missing packages, the command that installs them)."""
    if lacks == [_OURS]:
        here = lookup.ROOT if (lookup.ROOT / "pyproject.toml").exists() else "isoscale"
        what, install = f"isoscale is not installed in {path}", f"{path} -m pip install {here}"
    else:
        names = ", ".join(name for name in lacks if name != _OURS)
        what = f"{framework} is not installed in {path} (no {names})"
        install = lookup.framework_info(framework).install
    return f"{what}: {install}", install


def find_programs(fv: Flags, frameworks: Sequence[str]) -> dict[str, Program]:
    """Returns framework -> how its runs are started, and which packages are missing.

    Raises:
      ConfigError: a ``--python_<framework>`` is not a Python interpreter.
    """
    programs = {}
    for name in frameworks:
        path = _interpreter(getattr(fv, f"python_{name}") or sys.executable)
        lacks = _missing_packages(name, path)
        missing, install = _missing(name, path, lacks) if lacks else (None, None)
        command = module_command(path, lookup.program(name))
        programs[name] = Program(command=command, missing=missing, install=install)
    return programs
