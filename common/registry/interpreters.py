"""Finds the interpreter of each framework and checks for the framework's packages."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from isoscale.common.config.errors import ConfigError
from isoscale.common.config.flags import Flags
from isoscale.common.machine.private import Private, prefix_of
from isoscale.common.processes.launch import module_command
from isoscale.common.registry import lookup

_OURS = "isoscale.common"
_LACKS = """
import importlib.util, sys
print(*sys.version_info[:2])
def has(name):
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return False
    return found is not None and found.origin is not None
print(*[name for name in sys.argv[1:] if not has(name)])
"""


_VERSIONS = """
import sys
from importlib import metadata
for name in sys.argv[1:]:
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        print(name, "unknown")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """Describes how a framework's runs are started.

    Attributes:
      command: interpreter and module.
      missing: missing packages and the command that installs them; None: all are installed.
      install: the command that installs the missing packages, or another remedy.
    """

    command: list[str]
    missing: str | None
    install: str | None = None

    @property
    def missing_in_public(self) -> str:
        """``missing`` without paths: documents are often published."""
        python = self.command[0]
        text = (self.missing or "").replace(python, Path(python).name)
        return Private({str(lookup.ROOT): "isoscale", prefix_of(python): "python"}).clean(text)


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


def _missing_packages(framework: str, path: str) -> tuple[tuple[int, ...], list[str]]:
    """Returns an interpreter's version, and the packages of a framework that it lacks.

    Imports none of the packages.

    Raises:
      ConfigError: ``path`` is not a Python interpreter.
    """
    info = lookup.framework_info(framework)
    if path == sys.executable:
        return sys.version_info[:2], lookup.missing_packages(info)
    version, _, lacks = _ask(framework, path, _LACKS, *info.packages, _OURS).partition("\n")
    try:
        return tuple(map(int, version.split())), lacks.split()
    except ValueError:
        raise _no_interpreter(framework, path) from None


def _ask(framework: str, path: str, code: str, *words: str) -> str:
    """Returns what an interpreter prints when it runs some code.

    Raises:
      ConfigError: it is no interpreter, or it failed.
    """
    try:
        return subprocess.run(
            [path, "-P", "-c", code, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            cwd="/",
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        raise _no_interpreter(framework, path) from None


def _no_interpreter(framework: str, path: str) -> ConfigError:
    return ConfigError(
        f"--python_{framework}={path} is not a Python interpreter, or does not start"
    )


def package_versions(framework: str, path: str) -> dict[str, str]:
    """Returns package -> version, of a framework's packages in an interpreter; imports none.

    Args:
      framework: name of the framework.
      path: an interpreter that ``find_programs`` has accepted.

    Raises:
      ConfigError: the interpreter does not answer.
    """
    answer = _ask(framework, path, _VERSIONS, *lookup.framework_info(framework).packages)
    return dict(line.split(maxsplit=1) for line in answer.splitlines())


def how_to_install(
    framework: str, path: str, lacks: list[str], *, version: tuple[int, ...]
) -> tuple[str, str]:
    """Returns (a message on missing packages, the command that installs them).

    Args:
      framework: name of the framework.
      path: the interpreter.
      lacks: the packages that the interpreter lacks.
      version: major and minor version of the interpreter.
    """
    info = lookup.framework_info(framework)
    names = ", ".join(name for name in lacks if name != _OURS)
    here = lookup.ROOT if (lookup.ROOT / "pyproject.toml").exists() else "isoscale"
    if names and info.newest_python is not None and version > info.newest_python:
        newest = ".".join(map(str, info.newest_python))
        what = f"{framework} has no packages for Python {'.'.join(map(str, version))} ({path})"
        install = f"add --python_{framework}=PATH, a Python {newest} with isoscale[{framework}]"
    elif not names:
        what, install = f"isoscale is not installed in {path}", f"{path} -m pip install {here}"
    else:
        what = f"{framework} is not installed in {path} (no {names})"
        install = f"{path} -m {info.install}"
        if _OURS in lacks:  # pip would look for isoscale in an index
            install = install.replace("isoscale[", f"{here}[")
    return f"{what}: {install}", install


def find_programs(fv: Flags, frameworks: Sequence[str]) -> dict[str, Program]:
    """Returns framework -> how its runs are started, and which packages are missing.

    Raises:
      ConfigError: a ``--python_<framework>`` is not a Python interpreter.
    """
    programs = {}
    for name in frameworks:
        path = _interpreter(getattr(fv, f"python_{name}") or sys.executable)
        version, lacks = _missing_packages(name, path)
        missing, install = None, None
        if lacks:
            missing, install = how_to_install(name, path, lacks, version=version)
        command = module_command(path, lookup.program(name))
        programs[name] = Program(command=command, missing=missing, install=install)
    return programs
