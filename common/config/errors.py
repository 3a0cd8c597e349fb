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
