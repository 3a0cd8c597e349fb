"""Text that Markdown shows unchanged."""

import re

from isoscale.common.report.formats.templates import printable

_SPECIAL = re.compile(r"([\\`*|~$])")
_EDGE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def escape_markdown(text: str) -> str:
    """Returns text that Markdown shows unchanged, in a line or in a table cell."""
    text = (
        " ".join(printable(text).split())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    text = _SPECIAL.sub(r"\\\1", text)
    # Underscores inside words and brackets outside links are harmless, and common in names.
    text = _EDGE_UNDERSCORE.sub(r"\\_", text)
    return text.replace("](", "]\\(").replace("][", "]\\[")
