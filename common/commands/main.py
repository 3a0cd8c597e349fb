"""``isoscale COMMAND [--flags]``: one file per command in this folder."""

import importlib
import signal
import sys
from collections.abc import Sequence

from isoscale.common.config.errors import require_choice
from isoscale.common.processes.frame import exit_code_of, interrupt_on

COMMANDS = {
    "compare": "run models x frameworks x strategies x devices, and compare them",
    "explain": "what tuning does step by step, and what is left of the gap between frameworks",
    "parity": "show that all frameworks, strategies and device counts compute the same thing",
    "relay": "hand one training from framework to framework, and show that it makes no difference",
    "tweaks": "list what can be tuned in each framework, and what this machine can have",
    "report": "write a study's report: HTML, Markdown, CSV and plots",
    "board": "show one study or several in TensorBoard",
    "doctor": "what this machine and these frameworks are, and what is known to be wrong with them",
}
"""Command -> one line for the help page.

The file of a command's name defines ``run(argv)``, which returns the exit code and may raise
ConfigError and KeyboardInterrupt; ``main`` turns these into exit codes.
"""


def usage() -> str:
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
            "One framework by hand:  python -m isoscale.frameworks.jax_runner --help",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    SIGTERM, and SIGHUP of a terminal that closes, do what Ctrl-C does.
    """
    interrupt_on(signal.SIGTERM, signal.SIGHUP)
    return exit_code_of(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    require_choice("command", argv[0], COMMANDS)
    return importlib.import_module(f"isoscale.common.commands.{argv[0]}").run(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
