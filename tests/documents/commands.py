"""The command reference, ``docs/commands.md``: made from the help pages of all commands.

The text depends on the code only: not on the terminal, the machine or the installed frameworks.
"""

import contextlib
import importlib
import io
import re
import textwrap
from types import ModuleType

from isoscale.common.commands.main import COMMANDS
from isoscale.common.config.flags import Flags
from isoscale.common.program import main as program
from isoscale.common.registry import lookup
from tests.conftest import ROOT

PAGE = ROOT / "docs/commands.md"
WIDTH = 100
_INTRODUCTION = """\
# Commands

This page is made from the flags of each command. Do not edit it: `python -m tests.documents` writes
it again.

Type the commands after `. .venv/bin/activate`, or as `.venv/bin/isoscale`. Every command prints
this help: `isoscale COMMAND --help`. Flags look like `--name=value`. A flag that is true or false
looks like `--name` or `--noname`.
"""


def modules() -> dict[str, ModuleType]:
    """Returns what a user types -> the module that has the flags, for every command."""
    return {
        f"isoscale {name}": importlib.import_module(f"isoscale.common.commands.{name}")
        for name in COMMANDS
    }


def flags_of(typed: str) -> Flags:
    """Returns the flags of a command.

    Args:
      typed: ``isoscale compare`` or ``python -m isoscale.frameworks.jax_runner``, for example.
    """
    for framework in lookup.frameworks():
        if typed == _by_hand(framework):
            return program.define_flags(framework)
    return modules()[typed].define_flags()


def _by_hand(framework: str) -> str:
    return f"python -m {lookup.program(framework)}"


def _help(typed: str) -> tuple[str, list[str]]:
    """Returns (usage, the entry of each flag with its lines) of a command's help page."""
    with contextlib.redirect_stdout(io.StringIO()):  # without a terminal, the width is fixed
        text = flags_of(typed).help()
    usage, found, entries = text.rpartition("\n\nFlags:\n")
    assert found
    usage = getattr(modules().get(typed), "USAGE", usage)
    return "\n".join(map(_wrapped, usage.splitlines())), re.split(r"\n(?=  --)", entries)


def _wrapped(line: str) -> str:
    """Returns a line of a usage text; a long list of names continues below its first name."""
    indent = len(line) - len(line.partition(":")[2].lstrip()) if ":" in line else 2
    return textwrap.fill(
        line,
        WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def _anchor(heading: str) -> str:
    """Returns GitHub's name for a heading in links."""
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


def _link(typed: str) -> str:
    return f"[`{typed}`](#{_anchor(typed)})"


def _section(typed: str, summary: str, *, like: str | None = None) -> str:
    """Returns the section of a command.

    Args:
      typed: as ``flags_of``.
      summary: one sentence.
      like: a command whose equal flags are left out here.
    """
    usage, entries = _help(typed)
    between = "\nFlags:\n"
    if like is not None:
        known = {" ".join(entry.split()) for entry in _help(like)[1]}
        entries = [entry for entry in entries if " ".join(entry.split()) not in known]
        between = f"```\n\nThe flags are those of {_link(like)}, and:\n\n```text\n"
    flags = between + "\n".join(entries)
    return f"## {typed}\n\n{summary}\n\n```text\n{usage}\n{flags}\n```\n"


def page() -> str:
    """Returns the text of ``docs/commands.md``."""
    summaries = {f"isoscale {name}": text for name, text in COMMANDS.items()}
    programs = {_by_hand(name): f"one run of {name} by hand" for name in lookup.frameworks()}
    like = dict.fromkeys(list(programs)[1:], next(iter(programs)))
    like["isoscale explain"] = "isoscale compare"
    everything = {**summaries, **programs}
    rows = [f"| {_link(typed)} | {text} |" for typed, text in everything.items()]
    sections = [
        _section(typed, f"{text[0].upper()}{text[1:]}.", like=like.get(typed))
        for typed, text in everything.items()
    ]
    table = "\n".join(["| command | task |", "|---|---|", *rows, ""])
    return "\n".join([_INTRODUCTION, table, *sections])
