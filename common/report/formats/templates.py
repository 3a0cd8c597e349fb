"""Shared by all formats: the templates, and text without control characters."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def make_environment(**settings: Any) -> Environment:
    """Returns the jinja2 environment of ``report/templates``.

    Args:
      settings: further arguments of ``jinja2.Environment``.
    """
    return Environment(
        loader=PackageLoader("isoscale.common.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )


def printable(value: Any) -> Any:
    """Returns text without control characters, which the last line of a log may contain."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub("", value)
