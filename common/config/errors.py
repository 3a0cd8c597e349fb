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


def unknown(kind: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """Returns the error for an unknown name; the message suggests the nearest known name.

    Example: ``unknown("model", "gpt_tinny", ["gpt_tiny"])`` reads
    ``unknown model 'gpt_tinny': did you mean 'gpt_tiny'? Known: gpt_tiny``.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    suggestion = f": did you mean '{near[0]}'?" if near else "."
    return ConfigError(f"unknown {kind} '{value}'{suggestion} Known: {', '.join(names) or 'none'}")


def require_choice(kind: str, value: str, allowed: Iterable[str]) -> str:
    """Returns ``value`` if it is one of ``allowed``.

    Raises:
      ConfigError: ``value`` is unknown; the message suggests the nearest name.
    """
    names = list(allowed)
    if value not in names:
        raise unknown(kind, value, names)
    return value


def require_positive(name: str, value: object, *, minimum: int = 1) -> int:
    """Returns ``value`` if it is a whole number of at least ``minimum``.

    Raises:
      ConfigError: ``value`` has another type or is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name}={value} must be a whole number, {minimum} or more")
    return value
