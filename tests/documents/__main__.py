"""Writes ``docs/commands.md`` from the flags of all commands: ``python -m tests.documents``."""

import os

from isoscale.common.registry.extra import VARIABLE

os.environ.pop(VARIABLE, None)  # the page has no models of a user's own

from tests.documents.commands import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
print(f"wrote {PAGE}")
