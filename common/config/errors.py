"""Bad input, said in one line."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """The user's input cannot be used; one line says which value, and what is allowed."""


def unknown(kind: str, value: str, allowed: Iterable[str]) -> ConfigError:
    """Returns the error for a name that does not exist, with the nearest one that does.

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
      ConfigError: it is not; the message suggests the nearest name.
    """
    names = list(allowed)
    if value not in names:
        raise unknown(kind, value, names)
    return value


def require_positive(name: str, value: object, *, minimum: int = 1) -> int:
    """Returns ``value`` if it is a whole number of at least ``minimum``.

    Raises:
      ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name}={value} must be a whole number, {minimum} or more")
    return value
