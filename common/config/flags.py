"""Defines and reads all flags, with absl. Parsing has no side effects."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from isoscale.common.config.errors import ConfigError, unknown
from isoscale.common.config.optimizer_config import OptimizerConfig
from isoscale.common.config.options import FIELD, flag_default, options_of
from isoscale.common.config.read import MEBIBYTE, read_text
from isoscale.common.config.run_config import PLATFORMS, RunConfig


class _Number(flags.ArgumentParser):
    """Parses a number with a lower bound; the error message states the allowed values."""

    def __init__(self, kind: type, minimum: float | None):
        self._kind, self._minimum = kind, minimum
        self.syntactic_help = "a whole number" if kind is int else "a number"
        if minimum is not None:
            self.syntactic_help += f", {minimum} or more"

    def flag_type(self) -> str:
        return self._kind.__name__

    def parse(self, argument: Any) -> Any:
        try:
            value = self._kind(argument)
        except (TypeError, ValueError):
            value = None
        low = self._minimum
        if (
            value is None
            or value != value  # NaN
            or (low is not None and value < low)
        ):
            raise ValueError(f"must be {self.syntactic_help}")
        return value


class _Boolean(flags.BooleanParser):
    def parse(self, argument: Any) -> bool:
        try:
            return super().parse(argument)
        except (TypeError, ValueError):
            raise ValueError("must be true or false") from None


class _List(flags.ArgumentParser):
    """Parses comma-separated values, each with the parser ``item``.

    An empty value is an error; with ``unique`` a repeated value is an error, too.
    """

    def __init__(self, item: flags.ArgumentParser | None = None, *, unique: bool = True):
        self._item, self._unique = item, unique
        self.syntactic_help = "values separated by commas"

    def flag_type(self) -> str:
        return "list"

    def parse(self, argument: Any) -> list[Any]:
        if isinstance(argument, list | tuple):
            return list(argument)
        texts = [text.strip() for text in str(argument).split(",")]
        if not all(texts):
            raise ValueError("must be values separated by commas, without empty values")
        values = [self._item.parse(text) if self._item else text for text in texts]
        if self._unique and len(set(values)) < len(values):
            raise ValueError("must not contain a value twice")
        return values


class _ListSerializer(flags.ArgumentSerializer):
    def serialize(self, value: list[Any]) -> str:
        return ",".join(map(str, value))


class Duration(flags.ArgumentParser):
    """Parses a duration (``90s``, ``5m``, ``1h30m``) into seconds."""

    syntactic_help = "a duration like 90s, 5m or 1h30m"

    def flag_type(self) -> str:
        return "duration"

    def parse(self, argument: Any) -> float:
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", str(argument))
        if not match or not any(match.groups()):
            raise ValueError(f"must be {self.syntactic_help}")
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        total = 3600 * hours + 60 * minutes + seconds
        if not total:
            raise ValueError(f"must be {self.syntactic_help}, more than 0")
        return float(total)


class _DurationSerializer(flags.ArgumentSerializer):
    def serialize(self, value: float) -> str:
        return f"{value:.0f}s"


class Flags:
    """The flags of one program.

    A thin layer over ``absl.flags.FlagValues``. It reports every mistake as one line (ConfigError),
    knows which flags the user gave, and keeps the flags of several programs in one process apart.

    Args:
      usage: the text at the top of the help page.
    """

    def __init__(self, *, usage: str):
        self._values = flags.FlagValues()
        self._usage = usage
        self._order: list[str] = []

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

    def integer(self, name: str, default: int | None, help_: str, *, minimum: int = 1) -> None:
        """Defines a flag for a whole number of at least ``minimum``."""
        self._define(_Number(int, minimum), name, default, help_)

    def number(
        self, name: str, default: float | None, help_: str, *, minimum: float | None = None
    ) -> None:
        """Defines a flag for a number of at least ``minimum``; None: any number."""
        self._define(_Number(float, minimum), name, default, help_)

    def text(self, name: str, default: str | None, help_: str) -> None:
        """Defines a flag for a text."""
        self._define(flags.ArgumentParser(), name, default, help_)

    def boolean(self, name: str, default: bool | None, help_: str) -> None:
        """Defines a flag that is true or false."""
        flags.DEFINE_boolean(name, default, help_, flag_values=self._values)
        self._values[name].parser = _Boolean()
        self._order.append(name)

    def duration(self, name: str, default: str, help_: str) -> None:
        """Defines a flag for a duration; its value is in seconds."""
        self._define(Duration(), name, default, help_, _DurationSerializer())

    def names(
        self, name: str, default: list[str] | None, help_: str, *, unique: bool = True
    ) -> None:
        """Defines a flag for a list of names; with ``unique`` a repeated name is an error."""
        self._define(_List(unique=unique), name, default, help_, _ListSerializer())

    def integers(
        self, name: str, default: list[int] | None, help_: str, *, unique: bool = True
    ) -> None:
        """Defines a flag for a list of positive whole numbers; ``unique`` as in ``names``."""
        parser = _List(_Number(int, 1), unique=unique)
        self._define(parser, name, default, help_, _ListSerializer())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._values[name].value

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
        """Returns the help page: usage, then every flag with its default."""
        lines = [self._usage.rstrip(), "", "Flags:"]
        width = max(len(name) for name in self._order) + 4
        for name in self._order:
            flag = self._values[name]
            default = ""
            if flag.default is not None:
                default = f" (default: {str(flag.default_as_str).strip(chr(39))})"
            lines.append(f"  {'--' + name:<{width}} {flag.help}{default}")
        lines.append(f"  {'--flagfile':<{width}} read flags from a file, one per line")
        return "\n".join(lines)

    def parse(self, argv: Sequence[str]) -> bool:
        """Parses ``argv`` (without the program's name).

        Returns:
          False after printing the help page (``--help``), else True.

        Raises:
          ConfigError: a flag is unknown, a value is bad, or an argument is not a flag.
        """
        if any(argument in ("--help", "-help", "-h", "--helpfull") for argument in argv):
            print(self.help())
            return False
        arguments = _without_flag_files(argv)
        if any(flag_name(argument) == "undefok" for argument in arguments):
            raise unknown("flag", "--undefok", [f"--{name}" for name in self._order])
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                rest = self._values(["program", *arguments])[1:]
        except flags.UnrecognizedFlagError as error:
            names = [f"--{name}" for name in (*self._order, "flagfile", "help")]
            raise unknown("flag", f"--{error.flagname}", names) from None
        except flags.IllegalFlagValueError as error:
            raise ConfigError(_one_line(str(error).removeprefix("flag "))) from None
        except (flags.Error, OSError, ValueError) as error:
            raise ConfigError(_one_line(str(error))) from None
        if rest:
            raise ConfigError(f"'{rest[0]}' is not a flag; flags look like --name=value")
        return True


_DEEPEST = 8
"""Largest depth of flag files that name flag files."""


def flag_name(argument: str) -> str | None:
    """Returns the name of the flag in an argument, without its value; None: it is no flag."""
    return argument.lstrip("-").partition("=")[0] if argument.startswith("-") else None


def _without_flag_files(argv: Sequence[str], *, inside: tuple[Path, ...] = ()) -> list[str]:
    """Returns the arguments with the flags of each ``--flagfile`` in its place.

    absl would read a device or a pipe without end. The format of a file is that of absl: one flag
    per line; lines that begin with ``#`` or ``//`` are comments.

    Args:
      argv: the arguments.
      inside: the flag files that contain these arguments, the innermost last.

    Raises:
      ConfigError: a flag file is not a regular text file of at most 1 MiB, or names itself.
    """
    found: list[str] = []
    for argument in argv:
        if flag_name(argument) != "flagfile":
            found.append(argument)
            continue
        value = argument.partition("=")[2]
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
        found += _without_flag_files(chosen, inside=(*inside, path))
    return found


def _one_line(text: str) -> str:
    """Returns a text in one line, without control characters, which a terminal would execute."""
    plain = "".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text)
    return " ".join(plain.split())


CELL_FLAGS = (
    "strategy",
    "model",
    "devices",
    "global_batch_size",
    "dtype",
    "compile_mode",
    "tuning",
)
"""Settings whose flags each command defines itself: as one value, or as a list for a grid."""


def define_flag(
    fv: Flags, name: str, *, default: Any = FIELD, help_: str | None = None, several: bool = False
) -> None:
    """Defines the flag of a setting as ``RunConfig`` declares the setting.

    Args:
      fv: receives the flag.
      name: name of the field.
      default: replaces the declared default.
      help_: replaces the declared help.
      several: the flag takes a list of values.
    """
    _define(fv, RunConfig, name, default=default, help_=help_, several=several)


def _define(
    fv: Flags,
    kind: type,
    name: str,
    *,
    default: Any = FIELD,
    help_: str | None = None,
    several: bool = False,
) -> None:
    declared = options_of(kind)[name]
    assert declared.flag is not None
    value = flag_default(kind, name) if default is FIELD else default
    text = declared.help if help_ is None else help_
    if several:
        text = text if text.startswith("[list]") else f"[list] {text}"
        define = fv.integers if declared.kind == "integer" else fv.names
        define(declared.flag, value, text)
    elif declared.kind == "integer":
        least = 1 if declared.minimum is None else int(declared.minimum)
        fv.integer(declared.flag, value, text, minimum=least)
    elif declared.kind == "number":
        fv.number(declared.flag, value, text, minimum=declared.minimum)
    elif declared.kind == "names":
        fv.names(declared.flag, list(value), text)
    elif declared.kind == "boolean":
        fv.boolean(declared.flag, value, text)
    else:
        fv.text(declared.flag, value, text)


def define_training_flags(fv: Flags, *, platforms: Sequence[str] = PLATFORMS) -> None:
    """Defines the flags of training and measuring: every setting except ``CELL_FLAGS``.

    Args:
      fv: receives the flags.
      platforms: platforms that the help text names.
    """
    for kind in (RunConfig, OptimizerConfig):
        for name, declared in options_of(kind).items():
            if declared.flag is not None and name not in CELL_FLAGS:
                _define(fv, kind, name, help_="|".join(platforms) if name == "platform" else None)


def read_settings(fv: Flags) -> dict[str, Any]:
    """Returns field name -> value, for every flag of ``define_training_flags``.

    Raises:
      ConfigError: a setting of the optimizer is outside its range.
    """
    values = {
        name: getattr(fv, declared.flag)
        for name, declared in options_of(RunConfig).items()
        if declared.flag is not None and name not in CELL_FLAGS
    }
    optimizer = options_of(OptimizerConfig).items()
    values["optimizer"] = OptimizerConfig(**{n: getattr(fv, str(o.flag)) for n, o in optimizer})
    return values


def define_size_flags(fv: Flags, sizes: dict[str, tuple[Any, list[str]]]) -> None:
    """Defines one flag for each size of any model.

    ``read_overrides`` checks that the model has the size.

    Args:
      fv: receives the flags.
      sizes: name -> (an example value, the model families that have this size).
    """
    for name, (example, families) in sorted(sizes.items()):
        help_ = f"setting of {', '.join(families)} (default: the preset's)"
        if isinstance(example, bool):
            fv.boolean(name, None, help_)
        elif isinstance(example, int):
            fv.integer(name, None, help_, minimum=0)
        elif isinstance(example, float):
            fv.number(name, None, help_)
        elif isinstance(example, str):
            fv.text(name, None, help_)
        else:
            fv.integers(name, None, help_, unique=False)


def read_overrides(
    fv: Flags, sizes: Iterable[str], *, model: str, spec: Any
) -> tuple[tuple[str, Any], ...]:
    """Returns (size, value) pairs: the sizes given by flag that differ from the preset.

    Args:
      fv: the parsed flags.
      sizes: names of the sizes of all models.
      model: name of the model, for error messages.
      spec: the specification of the model's preset.

    Raises:
      ConfigError: the model lacks a given size.
    """
    overrides = []
    for name in sorted(sizes):
        if not fv.given(name):
            continue
        if name not in spec.size_names():
            raise ConfigError(
                f"--{name}={getattr(fv, name)}: model '{model}' lacks this size; its sizes are "
                f"{', '.join(spec.size_names())}"
            )
        value = getattr(fv, name)
        value = tuple(value) if isinstance(value, list) else value
        if value != getattr(spec, name):
            overrides.append((name, value))
    return tuple(overrides)


def fail(error: ConfigError) -> int:
    """Prints the error in one line and returns its exit code."""
    print(f"isoscale: {_one_line(str(error))}", file=sys.stderr)
    return error.exit_code
