"""Defines and reads all flags, with absl. Parsing has no side effects."""

import contextlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from isoscale.common.config.errors import LARGEST, ConfigError, require_choice, shown, unknown
from isoscale.common.config.parsers import (
    Boolean,
    Duration,
    DurationSerializer,
    List,
    ListSerializer,
    Number,
    Percent,
    PercentSerializer,
    Rows,
    RowsSerializer,
    Text,
)
from isoscale.common.config.read import MEBIBYTE, read_text


class Flags:
    """The flags of one program.

    A thin layer over ``absl.flags.FlagValues``. It reports every mistake as one line (ConfigError),
    knows which flags the user gave, and keeps the flags of several programs in one process apart.

    Args:
      usage: the text at the top of the help page.
      recipes: name -> flag file that ``--recipe=NAME`` reads; None: the program has no recipes.
    """

    def __init__(self, *, usage: str, recipes: Mapping[str, Path] | None = None):
        self._recipes = recipes
        self._values = flags.FlagValues()
        self._usage = usage
        self._order: list[str] = []
        self._switches: set[str] = set()

    def _define(
        self,
        parser: Any,
        name: str,
        default: Any,
        help_: str,
        serializer: flags.ArgumentSerializer | None = None,
    ) -> None:
        serializer = serializer or flags.ArgumentSerializer()
        flags.DEFINE(parser, name, default, help_, flag_values=self._values, serializer=serializer)
        self._order.append(name)

    def integer(
        self,
        name: str,
        default: int | None,
        help_: str,
        *,
        minimum: int = 1,
        maximum: int = LARGEST,
    ) -> None:
        """Defines a flag for a whole number from ``minimum`` to ``maximum``."""
        self._define(Number(int, minimum, maximum), name, default, help_)

    def number(
        self,
        name: str,
        default: float | None,
        help_: str,
        *,
        minimum: float = 0.0,
        maximum: float = LARGEST,
    ) -> None:
        """Defines a flag for a number from ``minimum`` to ``maximum``."""
        self._define(Number(float, minimum, maximum), name, default, help_)

    def text(self, name: str, default: str | None, help_: str) -> None:
        """Defines a flag for a text."""
        self._define(Text(), name, default, help_)

    def boolean(self, name: str, default: bool | None, help_: str) -> None:
        """Defines a flag that is true or false."""
        flags.DEFINE_boolean(name, default, help_, flag_values=self._values)
        self._values[name].parser = Boolean()
        self._order.append(name)
        self._switches.add(name)

    def duration(self, name: str, default: str, help_: str) -> None:
        """Defines a flag for a duration; its value is in seconds."""
        self._define(Duration(), name, default, help_, DurationSerializer())

    def percent(self, name: str, default: str | None, help_: str) -> None:
        """Defines a flag with a value such as 5%; the value is a fraction."""
        self._define(Percent(), name, default, help_, PercentSerializer())

    def names(
        self, name: str, default: list[str] | None, help_: str, *, unique: bool = True
    ) -> None:
        """Defines a flag for a list of names; with ``unique`` a repeated name is an error."""
        self._define(List(Text(), unique=unique), name, default, help_, ListSerializer())

    def texts(self, name: str, help_: str) -> None:
        """Defines a flag that may be repeated; its value is the list of the different texts."""
        serializer: Any = flags.ArgumentSerializer()
        flags.DEFINE_multi(Text(), serializer, name, [], help_, flag_values=self._values)
        self._values[name].help = help_  # without absl's own remark
        self._order.append(name)

    def integers(
        self,
        name: str,
        default: list[int] | None,
        help_: str,
        *,
        unique: bool = True,
        minimum: int = 1,
        maximum: int = LARGEST,
    ) -> None:
        """Defines a flag for a list of whole numbers in a range; see ``names``."""
        parser = List(Number(int, minimum, maximum), unique=unique)
        self._define(parser, name, default, help_, ListSerializer())

    def numbers(self, name: str, default: list[float] | None, help_: str) -> None:
        """Defines a flag for a list of different numbers of at least 0."""
        self._define(List(Number(float, 0.0)), name, default, help_, ListSerializer())

    def booleans(self, name: str, default: list[bool] | None, help_: str) -> None:
        """Defines a flag for a list of different truth values; ``--name`` alone means true."""
        self._define(List(Boolean()), name, default, help_, ListSerializer())
        self._switches.add(name)

    def rows(self, name: str, default: list[tuple[int, ...]] | None, help_: str) -> None:
        """Defines a flag for different values of several whole numbers each; see ``Rows``."""
        self._define(Rows(Number(int, 1)), name, default, help_, RowsSerializer())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._values[name].value

    @property
    def names_defined(self) -> tuple[str, ...]:
        """Returns the names of all flags, in the order of their definition."""
        return tuple(self._order)

    def parser(self, name: str) -> flags.ArgumentParser:
        """Returns the parser of a flag's value."""
        return self._values[name].parser

    def given(self, name: str) -> bool:
        """Returns whether the command line or a flag file contains the flag."""
        return bool(self._values[name].present)

    def values(self) -> dict[str, Any]:
        """Returns name -> value for all flags, in the order of their definition."""
        return {name: self._values[name].value for name in self._order}

    def as_flags(self, *, without: set[str]) -> list[str]:
        """Returns the given flags as command-line text, without the flags named in ``without``."""
        return [
            text
            for name in self._order
            if self.given(name) and name not in without
            for text in self._texts(name)
        ]

    def _texts(self, name: str) -> list[str]:
        # absl joins the values of a repeated flag by line ends; a single value may contain some.
        text = self._values[name].serialize()
        return text.split("\n") if isinstance(self._values[name].value, list) else [text]

    def help(self) -> str:
        """Returns the help page: usage, then every flag with its default.

        The flags fit the terminal; without one, they have lines of at most 100 characters.
        """
        lines = [self._usage.rstrip(), "", "Flags:"]
        width = max(map(len, (*self._order, "flagfile"))) + 4
        for name in self._order:
            flag = self._values[name]
            default = ""
            if flag.default not in (None, []):
                default = f" (default: {str(flag.default_as_str).strip(chr(39))})"
            lines.append(_entry(name, f"{flag.help}{default}", indent=width + 3))
        if self._recipes is not None:
            recipes = f"flags of a recipe; later flags win: {', '.join(self._recipes)}"
            lines.append(_entry("recipe", recipes, indent=width + 3))
        lines.append(_entry("flagfile", "read flags from a file, one per line", indent=width + 3))
        return "\n".join(lines)

    def parse(self, argv: Sequence[str]) -> bool:
        """Parses ``argv`` (without the program's name).

        Returns:
          False after printing the help page (``--help``), else True.

        Raises:
          ConfigError: a flag is unknown, a value is bad, or an argument is not a flag.
        """
        if any(argument in HELP for argument in argv) or list(argv) == ["help"]:
            print(self.help())
            return False
        settings = self._settings(_without_flag_files(argv, recipes=self._recipes))
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                self._values(["program", *(f"--{name}={value}" for name, value in settings)])
        except (flags.Error, ValueError) as error:
            raise ConfigError(_one_line(str(error))) from None
        for name in self._order:  # a repeated flag counts once
            if isinstance(self._values[name], flags.MultiFlag):
                texts: Any = self._values[name].value
                self._values[name].value = list(dict.fromkeys(texts))
        return True

    def _settings(self, arguments: list[str]) -> list[tuple[str, str]]:
        """Returns (flag, value) for all arguments, in order; every value has been checked.

        absl would take the next flag as the value of a flag without one (``--out_dir --dry_run``),
        ignore everything after ``--``, and know flags of its own (``--undefok``).

        Raises:
          ConfigError: as ``parse``.
        """
        found: list[tuple[str, str]] = []
        rest = iter(arguments)
        for argument in rest:
            name, separator, value = argument.removeprefix("-").removeprefix("-").partition("=")
            if not argument.startswith("-") or argument in ("-", "--"):
                raise ConfigError(f"'{shown(argument)}' is not a flag{self._hint(found, argument)}")
            negated = name not in self._order and self._is_boolean(name.removeprefix("no"))
            if name.startswith("no") and negated:
                if separator:
                    raise ConfigError(
                        f"--{name}={shown(value)}: --{name} takes no value; type --{name}, "
                        f"--{name[2:]}=true or --{name[2:]}=false"
                    )
                name, value = name[2:], "false"
            elif name == "help":
                raise ConfigError(f"--help={shown(value)}: --help takes no value")
            elif name not in self._order:
                own = ["flagfile", "help"] + (["recipe"] if self._recipes is not None else [])
                names = [f"--{name}" for name in (*self._order, *own)]
                raise unknown("flag", f"--{name}", names, instead="All flags: --help")
            elif not separator and self._is_boolean(name):
                value = "true"
            elif not separator:
                value = next(rest, "-")
                if value.startswith("-"):
                    raise ConfigError(f"--{name} needs a value: type --{name}=VALUE")
            try:
                self._values[name].parser.parse(value)
            except ValueError as error:
                raise ConfigError(_one_line(f"--{name}={shown(value)}: {error}")) from None
            found.append((name, value))
        return found

    def _is_boolean(self, name: str) -> bool:
        return name in self._switches

    def _hint(self, before: list[tuple[str, str]], argument: str) -> str:
        """Returns what to type instead of an argument that is not a flag."""
        name = before[-1][0] if before else ""
        if self._is_boolean(name) and argument.lower() in ("true", "false", "0", "1", "yes", "no"):
            return f": type --{name}=true or --{name}=false"
        return "; flags look like --name=value"


def _entry(name: str, text: str, *, indent: int) -> str:
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    return textwrap.fill(
        text,
        max(60, min(_WIDTH, columns)),
        initial_indent=f"  --{name}".ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


_WIDTH = 100
HELP = ("--help", "-help", "-h", "--helpfull")
"""Arguments that ask for the help page."""
_LONGEST_MESSAGE = 380
"""Characters of an error message: a few lines of a terminal."""
_DEEPEST = 8
"""Largest depth of flag files that name flag files."""


def split_words(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns (words, flags): words are studies, for example; all arguments after ``--`` are."""
    words: list[str] = []
    flags: list[str] = []
    for index, argument in enumerate(argv):
        if argument == "--":
            return [*words, *argv[index + 1 :]], flags
        (flags if argument.startswith("-") else words).append(argument)
    return words, flags


def flag_name(argument: str) -> str | None:
    """Returns the name of the flag in an argument, without its value; None: it is no flag."""
    return argument.lstrip("-").partition("=")[0] if argument.startswith("-") else None


def _without_flag_files(
    argv: Sequence[str], *, recipes: Mapping[str, Path] | None, inside: tuple[Path, ...] = ()
) -> list[str]:
    """Returns the arguments with the flags of each ``--flagfile`` and ``--recipe`` in its place.

    Of a flag that is given twice, the later one counts: a flag after a recipe changes the recipe.

    absl would read a device or a pipe without end. The format of a file is that of absl: one flag
    per line; lines that begin with ``#`` or ``//`` are comments.

    Args:
      argv: the arguments.
      recipes: name -> flag file; None: ``--recipe`` is no flag of the program.
      inside: the flag files that contain these arguments, the innermost last.

    Raises:
      ConfigError: a flag file is not a regular text file of at most 1 MiB, or names itself; or the
        recipe is unknown.
    """
    found: list[str] = []
    for argument in argv:
        name, value = flag_name(argument), argument.partition("=")[2]
        if name == "recipe" and recipes is not None:
            if not value:
                raise ConfigError(f"--recipe must be --recipe=NAME; known: {', '.join(recipes)}")
            require_choice("recipe", value, recipes)
            name, value = "flagfile", str(recipes[value])
        if name != "flagfile":
            found.append(argument)
            continue
        if not value:
            raise ConfigError("--flagfile must be --flagfile=PATH")
        path = Path(os.path.abspath(os.path.expanduser(value)))
        if path in inside or len(inside) >= _DEEPEST:
            raise ConfigError(f"--flagfile={value[:200]} contains itself, or files too deep")
        try:
            text = read_text(path, most=MEBIBYTE)
        except ValueError as error:  # FolderError is one; so is a NUL in the path
            raise ConfigError(f"--flagfile={value[:200]}: {error}") from None
        lines = (line.strip() for line in text.splitlines())
        chosen = [line for line in lines if line and not line.startswith(("#", "//"))]
        if any(line.lstrip("-").startswith("help") for line in chosen):
            raise ConfigError("--help must be on the command line, not in a file")
        if any(flag_name(line) == "extra" for line in chosen):  # other flags depend on it
            raise ConfigError("--extra must be on the command line, not in a file")
        found += _without_flag_files(chosen, recipes=recipes, inside=(*inside, path))
    return found


def _one_line(text: str) -> str:
    """Returns a text in one line, without control characters, which a terminal would execute."""
    plain = "".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text)
    return " ".join(plain.split())


def fail(error: ConfigError) -> int:
    """Prints the error in one line and returns its exit code."""
    text = _one_line(str(error))
    if len(text) > _LONGEST_MESSAGE:  # the ends of a message name the value, and what is allowed
        text = f"{text[: _LONGEST_MESSAGE - 150]} ... {text[-140:]}"
    print(f"isoscale: {text}", file=sys.stderr)
    return error.exit_code
