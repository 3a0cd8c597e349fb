"""``isoscale COMMAND [--flags]``: one file per command in this folder."""

import importlib
import sys
from collections.abc import Sequence

from isoscale.common.config.errors import require_choice
from isoscale.common.processes.frame import INTERRUPTING, exit_code_of, interrupt_on

COMMANDS = {
    "compare": "run models x frameworks x strategies x devices, and compare them",
    "explain": "measure the effect of each tweak, and the remaining gap between frameworks",
    "parity": "show that all frameworks, strategies and device counts compute the same results",
    "relay": "train one model in several frameworks in turn, and show that results are equal",
    "tweaks": "list the tweaks of each framework, and which are available on this machine",
    "report": "write a study's report: HTML, Markdown, CSV and plots",
    "repair": "rebuild a study's results.jsonl from the folders of its runs",
    "board": "show one or several studies in TensorBoard",
    "doctor": "describe this machine and the installed frameworks, and list their known problems",
}
"""Command -> its line on the help page.

The file with the command's name defines ``run(argv)``. ``run`` returns the exit code and may raise
ConfigError or KeyboardInterrupt; ``main`` turns these into exit codes.
"""


def usage() -> str:
    """Returns the help page of ``isoscale``."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "isoscale: the same models in JAX, TensorFlow and PyTorch, compared fairly.",
            "",
            "  isoscale COMMAND [--flags]      isoscale COMMAND --help",
            "",
            "Commands:",
            *lines,
            "",
            "One run by hand:  python -m isoscale.frameworks.jax_runner --help",
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
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    require_choice("command", argv[0], COMMANDS)
    return importlib.import_module(f"isoscale.common.commands.{argv[0]}").run(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
