"""``isoscale COMMAND [--flags]``: one file per command in this folder."""

import importlib
import sys
from collections.abc import Sequence

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.flags import HELP
from isoscale.common.machine.own_version import own_version
from isoscale.common.processes.frame import INTERRUPTING, exit_code_of, interrupt_on
from isoscale.common.registry import extra

COMMANDS = {
    "compare": "run models x frameworks x strategies x devices, and compare them",
    "explain": "measure the effect of each tweak, and the remaining gap between frameworks",
    "parity": "show that all frameworks, strategies and device counts compute the same results",
    "relay": "train one model in several frameworks in turn, and show that results are equal",
    "new": "write a small model of your own, as a start: isoscale new model NAME",
    "list": "list models, frameworks, strategies, data sets, tweaks, recipes",
    "tweaks": "list the tweaks of each framework, and which are available on this machine",
    "report": "write a study's report: HTML, Markdown, CSV and plots",
    "diff": "compare the same cells in two studies: what is slower, faster or the same",
    "history": "draw cells over several studies: over dates, or over versions of a framework",
    "repair": "rebuild a study's results.jsonl from the folders of its runs",
    "board": "show one or several studies in TensorBoard",
    "selftest": "check isoscale on this machine's GPUs, and pack the results into a file to send",
    "doctor": "describe this machine and the installed frameworks, and list their known problems",
}
"""Command -> its line on the help page.

The file with the command's name defines ``run(argv)``. ``run`` returns the exit code and may raise
ConfigError or KeyboardInterrupt; ``main`` turns these into exit codes.
"""


_VERSION = ("version", "--version", "-version", "-v", "-V")


def usage() -> str:
    """Returns the help page of ``isoscale``."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "isoscale: the same models in JAX, TensorFlow and PyTorch, compared fairly.",
            "",
            "  isoscale COMMAND [--flags]      isoscale COMMAND --help      isoscale --version",
            "",
            "Commands:",
            *lines,
            "",
            "Version and commit:  isoscale --version",
            "One run by hand:     python -m isoscale.frameworks.jax_runner --help",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    SIGTERM and SIGHUP (from a closing terminal) act like Ctrl-C, with their own exit codes.

    Args:
      argv: the command's name and its flags; None: those of the process.
    """
    return exit_code_of(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


def _run(argv: list[str]) -> int:
    interrupt_on(*INTERRUPTING)
    command, arguments = _command(argv)
    if command is None:
        print(usage())
        return 0
    if command in _VERSION and not arguments:
        print(f"isoscale {own_version()}")
        return 0
    if command not in COMMANDS:
        from isoscale.common.commands.list import KINDS

        if command in KINDS:
            raise ConfigError(f"unknown command '{command}': type 'isoscale list {command}'")
        raise unknown("command", command, COMMANDS)
    extra.take(arguments, create=command == "new")
    own_version()  # now: child processes then inherit git's answer
    return importlib.import_module(f"isoscale.common.commands.{command}").run(arguments)


def _command(argv: list[str]) -> tuple[str | None, list[str]]:
    """Returns (command, arguments); in any order, the word or flag for help means ``--help``.

    The command is None for the help page of ``isoscale`` itself.
    """
    asked = [argument in (*HELP, "help") for argument in argv[:2]]
    if not argv or all(asked):
        return None, []
    if any(asked) and len(argv) == 2:
        return argv[asked.index(False)], [HELP[0]]
    return argv[0], argv[1:]


if __name__ == "__main__":
    sys.exit(main())
