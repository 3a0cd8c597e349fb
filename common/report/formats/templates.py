"""Shared by all formats: the templates, and text without control characters."""

import base64
import hashlib
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
    environment = Environment(
        loader=PackageLoader("isoscale.common.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )
    script = environment.get_template("page.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # A page runs its own script only, and loads nothing. Drawings have styles of their own.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{digest}'"
    )
    environment.globals |= {"script": Markup(script), "content_policy": Markup(policy)}
    return environment


def printable(value: Any) -> Any:
    """Returns text without control characters, which the last line of a log may contain."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _CONTROL.sub("", value)
