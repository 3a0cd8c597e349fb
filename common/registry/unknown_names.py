"""Errors about the names of models, data sets and strategies that a command cannot use."""

from collections.abc import Iterable

from isoscale.common.config.errors import ConfigError, shown, unknown
from isoscale.common.registry import extra


def unknown_name(kind: str, name: str, known: Iterable[str], *, own: str) -> ConfigError:
    """Returns the error for an unknown name; it says how to name one's own folder.

    Without ``--extra``, the name may be that of the user's own model, data set or strategy.

    Args:
      kind: what the name stands for.
      name: the unknown name.
      known: the known names.
      own: what an own one is called, in the plural.
    """
    error = unknown(kind, name, known)
    if extra.folder() is not None:
        return error
    return ConfigError(f"{error}. Your own {own} need --{extra.FLAG}=FOLDER")


def size_of_parity(name: str, sizes: Iterable[str]) -> ConfigError:
    """Returns the error for a small size of parity where a size for measurements is needed.

    Args:
      name: name of the size, or of a piece of it.
      sizes: the family's sizes for measurements.
    """
    return ConfigError(
        f"'{shown(name)}' is for isoscale parity, which measures no time; choose another size of "
        f"its family: {', '.join(sizes)}"
    )
