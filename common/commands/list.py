"""``isoscale list KIND``: lists the models, strategies, data sets, ... that flags can name."""

import itertools
import shlex
import textwrap
from collections.abc import Callable, Sequence

from isoscale.common.config.errors import ConfigError, require_choice, shown
from isoscale.common.config.flags import Flags, split_words
from isoscale.common.config.options import text_of
from isoscale.common.disk.json_files import to_json
from isoscale.common.registry import catalogue, extra
from isoscale.common.registry.catalogue import Facts

_WIDTH = 80


def define_flags() -> Flags:
    """Returns the flags of the command, with its help page."""
    kinds = "\n".join(f"  isoscale list {name:<12} {kind.what}" for name, kind in KINDS.items())
    fv = Flags(
        usage=(
            "Lists what flags can name. Starts no runs, imports no framework and writes no\n"
            f"files.\n\n{kinds}\n\n"
            "Exit code: 0 done, 2 bad input."
        )
    )
    fv.boolean("json", False, "print only one JSON document")
    extra.define_extra_flag(fv)
    return fv


def _lines(text: str, *, start: str, indent: int) -> list[str]:
    """Returns a text in lines of at most 80 characters; only a longer word makes a longer line."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{start:<{indent}}",
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _groups(found: Sequence[Facts], key: str) -> list[tuple[str, list[Facts]]]:
    grouped = itertools.groupby(found, key=lambda entry: entry[key])
    return [(name, list(entries)) for name, entries in grouped]


def flops_text(count: int) -> str:
    """Returns a number of floating-point operations with a unit: ``99.2 MFLOP``."""
    units = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"))
    # A number that would be rounded to 1000 has the next unit.
    size, unit = next((pair for pair in units if count >= 0.9995 * pair[0]), (1.0, "FLOP"))
    return f"{count / size:.3g} {unit}"


def _models(found: Sequence[Facts]) -> list[str]:
    lines: list[str] = []
    width = max(len(entry["name"]) for entry in found)
    for family, entries in _groups(found, "family"):
        lines += _lines(entries[0]["what"], start=f"{family}: ", indent=len(family) + 2)
        lines += [f"  frameworks: {', '.join(entries[0]['frameworks']) or 'none'}", ""]
        lines += [f"  {'size':<{width}} {'parameters':>12} {'batch':>7} {'a step':>12}"]
        for entry in entries:
            lines += [
                f"  {entry['name']:<{width}} {entry['parameters']:>12,} "
                f"{entry['global_batch_size']:>7} {flops_text(entry['flops_per_step']):>12}"
            ]
            sizes = (f"{name}={text_of(value)}" for name, value in entry["sizes"].items())
            lines += _lines(" ".join(sizes), start="", indent=6)
        lines += [""]
    return [
        *lines,
        "The name of a family (--models=transformer) means all of its sizes. batch: the",
        "default number of examples in a step, over all devices. a step: floating-point",
        "operations of one training step on that batch.",
    ]


def _frameworks(found: Sequence[Facts]) -> list[str]:
    lines = []
    for entry in found:
        here = f"missing: {', '.join(entry['missing'])}" if entry["missing"] else "installed"
        strategies = [
            n + " (default)" * (n == entry["default_strategy"]) for n in entry["strategies"]
        ]
        lines += [f"{entry['name']}: {here}"]
        for title, text in (
            ("strategies", ", ".join(strategies)),
            ("compile", ", ".join(entry["compile_modes"])),
            ("platforms", ", ".join(entry["platforms"])),
            ("install", entry["install"]),
        ):
            lines += _lines(text, start=f"  {title}", indent=14)
    return lines


def _strategies(found: Sequence[Facts]) -> list[str]:
    lines: list[str] = []
    width = max(len(entry["name"]) for entry in found) + 4
    for framework, entries in _groups(found, "framework"):
        lines += [framework]
        for entry in entries:
            several = "one process per device" if entry["process_model"] == "per_device" else ""
            marks = [text for text in (several, "default" if entry["default"] else "") if text]
            text = entry["what"] + (f" ({', '.join(marks)})" if marks else "")
            lines += _lines(text, start=f"  {entry['name']}", indent=width)
    return [
        *lines,
        "",
        "default: what a run on several devices takes without --strategy.",
    ]


def _plain(found: Sequence[Facts]) -> list[str]:
    width = max(len(entry["name"]) for entry in found) + 2
    return [
        line for entry in found for line in _lines(entry["what"], start=entry["name"], indent=width)
    ]


def tweak_title(entry: Facts) -> str:
    """Returns a tweak's name, its kind, and whether it is available on this machine."""
    mark = "" if entry["supported_by_vendor"] else ", not supported by the vendor of the library"
    here = f"unavailable: {entry['missing']}" if entry["missing"] else "available"
    return f"{entry['name']}  ({entry['kind']}{mark}; {here})"


def _tweaks(found: Sequence[Facts]) -> list[str]:
    lines: list[str] = []
    for framework, entries in _groups(found, "framework"):
        lines += [framework]
        for entry in entries:
            lines += _lines(tweak_title(entry), start="", indent=2)
            lines += _lines(entry["what"], start="", indent=6)
    return [*lines, "", "Reasons, sources, and the models that use each: isoscale tweaks"]


def _recipes(found: Sequence[Facts]) -> list[str]:
    lines: list[str] = []
    for entry in found:
        lines += _lines(entry["what"], start=f"{entry['name']}: ", indent=len(entry["name"]) + 2)
        lines += [f"  {shlex.join(entry['command'])}"]
    return lines


class _Kind:
    """What can be listed: its line on the help page, its facts, and how they are printed."""

    def __init__(
        self, what: str, find: Callable[[], list[Facts]], text: Callable[[list[Facts]], list[str]]
    ):
        self.what, self.find, self.text = what, find, text


KINDS = {
    "models": _Kind("families, their sizes and their cost", catalogue.models, _models),
    "frameworks": _Kind(
        "what each can do; whether it is installed", catalogue.frameworks, _frameworks
    ),
    "strategies": _Kind("ways to spread a step over devices", catalogue.strategies, _strategies),
    "datasets": _Kind("data for --dataset", catalogue.datasets, _plain),
    "tweaks": _Kind("changes that make a framework faster", catalogue.tweaks, _tweaks),
    "recipes": _Kind("complete studies: files of flags in runs/", catalogue.recipes, _recipes),
}
"""Word on the command line -> what it lists."""


def run(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
      The exit code 0: the list is printed.

    Raises:
      ConfigError: bad input.
    """
    fv = define_flags()
    words, flags = split_words(argv)
    if not fv.parse(flags):
        return 0
    if len(words) > 1:
        raise ConfigError(f"list takes one word; '{shown(words[1])}' is a second one")
    if not words:
        if fv.json:
            raise ConfigError(f"list --json needs one of: {', '.join(KINDS)}")
        print(fv.help())
        return 0
    kind = KINDS[require_choice("kind of list", words[0], KINDS)]
    found = kind.find()
    if fv.json:
        print(to_json(found))
    else:
        print("\n".join(kind.text(found)) if found else f"no {words[0]}")
    return 0
