"""The interpreters of the frameworks, and whether they have what a framework needs."""

import os
import subprocess
import sys
from collections.abc import Sequence

from common.commands import lookup
from common.config.errors import ConfigError
from common.config.flags import Flags
from common.study.execute import Program


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
    code = (
        "from importlib.util import find_spec as f; import sys; "
        "print(*[n for n in sys.argv[1:] if not (f(n) and f(n).origin)])"
    )
    try:
        answer = subprocess.run(
            [path, "-c", code, *info.packages],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError):
        raise ConfigError(f"--python_{framework}={path} is not a Python") from None
    return answer.stdout.split()


def find_programs(fv: Flags, frameworks: Sequence[str]) -> dict[str, Program]:
    """Returns how each framework is started here, and whether it can be.

    Raises:
      ConfigError: a ``--python_<framework>`` is no Python.
    """
    programs = {}
    for name in frameworks:
        path = _interpreter(getattr(fv, f"python_{name}") or sys.executable)
        lacks = _missing_packages(name, path)
        install = lookup.framework_info(name).install
        programs[name] = Program(
            command=[path, "-m", lookup.program(name)],
            missing=f"{name} is not installed in {path} (no {', '.join(lacks)}): {install}"
            if lacks
            else None,
        )
    return programs
