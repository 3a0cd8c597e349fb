"""The parsers of flag values: each has limits, and states the allowed values in its error."""

import re
from typing import Any

from absl import flags

from isoscale.common.config.errors import LARGEST, range_text

LONGEST_TEXT = 4096
"""Most characters of a text: the longest path of Linux."""
MOST_ENTRIES = 1000
"""Most entries of a list."""
LONGEST_DURATION = 366 * 24 * 3600
"""Longest duration, in seconds: a year."""


class Number(flags.ArgumentParser):
    """Parses a number in a range, in ASCII digits."""

    def __init__(self, kind: type, minimum: float, maximum: float = LARGEST):
        self._kind, self._minimum, self._maximum = kind, minimum, maximum
        self.syntactic_help = range_text(kind, minimum, maximum)

    @property
    def bounds(self) -> tuple[float, float]:
        """Returns (least value, largest value)."""
        return self._minimum, self._maximum

    def flag_type(self) -> str:
        return self._kind.__name__

    def parse(self, argument: Any) -> Any:
        text = str(argument)
        try:
            # Python also reads 1_000, the digits of other scripts, and spaces around a number.
            plain = text.isascii() and not re.search(r"[_\s]", text)
            value = self._kind(text) if plain else None
        except ValueError:
            value = None
        if value is None or not self._minimum <= value <= self._maximum:  # NaN fails both
            raise ValueError(f"must be {self.syntactic_help}")
        return value


class Text(flags.ArgumentParser):
    """Parses a text that is not empty and can be printed and stored."""

    syntactic_help = "a text"

    def parse(self, argument: Any) -> str:
        text = str(argument)
        if not text:
            raise ValueError("must not be empty")
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"must have at most {LONGEST_TEXT} characters")
        if "\0" in text:
            raise ValueError("must not contain a null byte")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must be UTF-8 text") from None
        return text


class Boolean(flags.BooleanParser):
    """Parses true or false."""

    def parse(self, argument: Any) -> bool:
        try:
            return super().parse(argument)
        except (TypeError, ValueError):
            raise ValueError("must be true or false") from None


class List(flags.ArgumentParser):
    """Parses comma-separated values, each with the parser ``item``.

    An empty value is an error; with ``unique`` a repeated value is an error, too.
    """

    def __init__(self, item: flags.ArgumentParser, *, unique: bool = True):
        self._item, self._unique = item, unique
        self.syntactic_help = "values separated by commas"

    def flag_type(self) -> str:
        return "list"

    def parse(self, argument: Any) -> list[Any]:
        if isinstance(argument, list | tuple):
            return list(argument)
        texts = [text.strip() for text in str(argument).split(",")]
        if len(texts) > MOST_ENTRIES:
            raise ValueError(f"must be at most {MOST_ENTRIES} values separated by commas")
        if not all(texts):
            raise ValueError("must be values separated by commas, without empty values")
        values = [self._item.parse(text) for text in texts]
        if self._unique and len(set(values)) < len(values):
            raise ValueError("must not contain a value twice")
        return values


class ListSerializer(flags.ArgumentSerializer):
    """Writes a list as ``List`` reads it."""

    def serialize(self, value: list[Any]) -> str:
        return ",".join(str(v).lower() if isinstance(v, bool) else str(v) for v in value)


class Rows(flags.ArgumentParser):
    """Parses values that have several numbers each.

    Commas alone separate the numbers of one value: ``256,128``. If ``x`` joins numbers, commas
    separate values: ``256x128,64`` are (256, 128) and (64,). A value of one number may end with
    ``x``: ``256x,128x`` are (256,) and (128,).
    """

    syntactic_help = (
        "whole numbers of one value, separated by commas (256,128), or values with their numbers "
        "joined by x (256x128,64x64)"
    )

    def __init__(self, item: flags.ArgumentParser):
        self._value = List(item, unique=False)

    def flag_type(self) -> str:
        return "list"

    def parse(self, argument: Any) -> list[tuple[Any, ...]]:
        if isinstance(argument, list | tuple):
            return list(argument)
        text = str(argument)
        texts = text.split(",") if "x" in text else [text.replace(",", "x")]
        if len(texts) > MOST_ENTRIES:
            raise ValueError(f"must be at most {MOST_ENTRIES} values separated by commas")
        try:
            values = [
                tuple(self._value.parse(text.strip().removesuffix("x").replace("x", ",")))
                for text in texts
            ]
        except ValueError as error:
            raise ValueError(f"must be {self.syntactic_help}; a number {error}") from None
        if len(set(values)) < len(values):
            raise ValueError("must not contain a value twice")
        return values


class RowsSerializer(flags.ArgumentSerializer):
    """Writes values as ``Rows`` reads them; one value stands without ``x``."""

    def serialize(self, value: list[tuple[Any, ...]]) -> str:
        if len(value) == 1:
            return ",".join(map(str, value[0]))
        return ",".join("x".join(map(str, v)) + ("x" if len(v) == 1 else "") for v in value)


class Duration(flags.ArgumentParser):
    """Parses a duration (``90s``, ``5m``, ``1h30m``) into seconds."""

    syntactic_help = "a duration like 90s, 5m or 1h30m, at most 8784h (366 days)"

    def flag_type(self) -> str:
        return "duration"

    def parse(self, argument: Any) -> float:
        # Nine digits: Python refuses to read a number of thousands of digits.
        pattern = r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?"
        match = re.fullmatch(pattern, str(argument), re.ASCII)
        if not match or not any(match.groups()):
            raise ValueError(f"must be {self.syntactic_help}")
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        total = 3600 * hours + 60 * minutes + seconds
        if not 0 < total <= LONGEST_DURATION:
            raise ValueError(f"must be {self.syntactic_help}, more than 0")
        return float(total)


class DurationSerializer(flags.ArgumentSerializer):
    """Writes a duration in seconds as ``Duration`` reads it."""

    def serialize(self, value: float) -> str:
        return f"{value:.0f}s"


class Percent(flags.ArgumentParser):
    """Parses a percentage (``5%``, ``0.5%``) into a fraction."""

    syntactic_help = "a percentage like 5% or 0.5%, more than 0% and at most 99%"

    def flag_type(self) -> str:
        return "percent"

    def parse(self, argument: Any) -> float:
        match = re.fullmatch(r"(\d{1,2}(?:\.\d{1,6})?)%", str(argument), re.ASCII)
        found = float(match[1]) / 100 if match else 0.0
        if not 0 < found <= 0.99:
            raise ValueError(f"must be {self.syntactic_help}")
        return found


class PercentSerializer(flags.ArgumentSerializer):
    """Writes a fraction as ``Percent`` reads it."""

    def serialize(self, value: float) -> str:
        return f"{100 * value:.6g}%"
