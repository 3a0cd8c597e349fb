"""Errors about bad input and unusable folders, each in one line."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Bad user input. The message is one line: the value given and the values allowed.

    Attributes:
      exit_code: exit code of a program that ends with this error.
    """

    exit_code = 2


class FolderError(ConfigError):
    """A folder or file is unusable: another process holds its lock, it is a link, the disk is full.

    The message is one line: the path and the reason.
    """

    exit_code = 3


_LONGEST_VALUE = 80
"""Characters of a given value that a message shows."""
_LONGEST_LIST = 200
"""Characters of a list of names that a message shows; a longer list helps nobody."""
LARGEST = 10**9
"""Largest whole number, and largest number, of a setting that declares no smaller limit."""


def in_one_line(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def root_of(error: BaseException) -> BaseException:
    """Returns the error that another one was raised for; ``error`` itself if there is none.

    Frameworks turn the first error of their import into others, which say less.
    """
    seen = [error]
    while (cause := seen[-1].__cause__ or seen[-1].__context__) and cause not in seen:
        seen.append(cause)
    return seen[-1]


def shown(value: object) -> str:
    """Returns a given value as messages show it: the beginning of a long value."""
    text = str(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    return f"{text[: _LONGEST_VALUE - 20]}... ({len(text)} characters)"


def unknown(kind: str, value: str, allowed: Iterable[str], *, instead: str = "") -> ConfigError:
    """Returns the error for an unknown name.

    The message lists all known names and suggests up to three that are near; of many known names it
    has only the nearest three. Upper case does not matter for nearness. Example:
    ``unknown("model", "gpt_tinny", ["gpt_tiny"])`` reads
    ``unknown model 'gpt_tinny': did you mean 'gpt_tiny'? Known: gpt_tiny``.

    Args:
      kind: what the name stands for.
      value: the unknown name.
      allowed: the known names.
      instead: stands in the message in place of the known names.
    """
    names = sorted(allowed)
    known = instead or f"Known: {', '.join(names) or 'none'}"
    near = suggestion(value, names)
    if instead or len(known) > _LONGEST_LIST:
        # Without all names, the reader needs the nearest ones, however far they are.
        near = suggestion(value, names, least=0.0)
        known = instead or f"{len(names)} names are known"
    return ConfigError(f"unknown {kind} '{shown(value)}'{near or '.'} {known}")


def suggestion(value: str, names: Iterable[str], *, least: float = 0.5) -> str:
    """Returns ``: did you mean 'x', 'y' or 'z'?`` with the nearest names; empty if none is near.

    Args:
      value: the unknown name.
      names: the known names.
      least: the least nearness, from 0 (nothing in common) to 1 (equal).
    """
    text = str(value)[:_LONGEST_VALUE].lower()  # comparing a long text takes minutes
    by_text = {name.lower(): name for name in names}
    near = [by_text[found] for found in difflib.get_close_matches(text, by_text, 3, least)]
    if not near:
        return ""
    *first, last = [f"'{shown(name)}'" for name in near]
    return f": did you mean {', '.join(first)} or {last}?" if first else f": did you mean {last}?"


def require_choice(kind: str, value: str, allowed: Iterable[str]) -> str:
    """Returns ``value`` if it is one of ``allowed``.

    Raises:
      ConfigError: ``value`` is unknown; the message suggests the nearest names.
    """
    names = list(allowed)
    if value not in names:
        raise unknown(kind, value, names)
    return value


def range_text(kind: type, minimum: float, maximum: float) -> str:
    """Returns the allowed values in words: ``a whole number, 1 to 256``."""
    if kind is int:
        return f"a whole number, {minimum} to {maximum}"
    return f"a number, {minimum:g} to {maximum:g}"


def require_whole(name: str, value: object, *, minimum: float = 1, maximum: float = LARGEST) -> int:
    """Returns ``value`` if it is a whole number from ``minimum`` to ``maximum``.

    Raises:
      ConfigError: ``value`` has another type or is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise ConfigError(f"{name}={shown(value)} must be {range_text(int, minimum, maximum)}")
    return value


def require_number(
    name: str, value: object, *, minimum: float = 0.0, maximum: float = LARGEST
) -> float:
    """Returns ``value`` if it is a number from ``minimum`` to ``maximum``; NaN is not.

    Raises:
      ConfigError: ``value`` has another type or is out of range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not minimum <= value <= maximum:  # type: ignore[operator]
        raise ConfigError(f"{name}={shown(value)} must be {range_text(float, minimum, maximum)}")
    return float(value)  # type: ignore[arg-type]
