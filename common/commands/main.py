"""``isoscale COMMAND [--flags]``: one file per command in this folder."""

import importlib
import sys
from collections.abc import Sequence

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.flags import fail

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
"""Command -> one line for the help page; the command is ``main(argv)`` in the file of its name."""


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
    """Runs a command; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    if argv[0] not in COMMANDS:
        error: ConfigError = unknown("command", argv[0], COMMANDS)
        return fail(error)
    return importlib.import_module(f"isoscale.common.commands.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
