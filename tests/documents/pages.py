"""Reads the documents: their headings, links, and the commands that they show."""

import re
from pathlib import Path

from tests.conftest import ROOT

PAGES = (ROOT / "README.md", ROOT / "WORKSPACE.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(\.venv/bin/)?(isoscale|python -m \w[\w.]+|make)( |$)")
_END = re.compile(r" #|; | \\?\| | > ")  # a comment, or what only the shell reads
# Stands for a name that the reader chooses: <model>, COMMAND, ...
_OPEN = re.compile(r"<|\bCOMMAND\b|\bKIND\b|\.\.\.")


def prose(page: Path) -> str:
    """Returns the text of a page without its blocks of code."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Returns the targets of all links and pictures of a page."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Returns GitHub's names of all headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def commands(page: Path) -> list[str]:
    """Returns the commands that a page shows, in blocks and in its text, without open names."""
    text = page.read_text(encoding="utf-8")
    lines: list[str] = []
    for _, language, block in _BLOCK.findall(text):
        if language in ("", "sh", "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    lines += [" ".join(code.split()) for code in _INLINE.findall(_BLOCK.sub("", text))]
    plain = (_END.split(line)[0].strip() for line in lines)
    return [line for line in plain if _COMMAND.match(line) and not _OPEN.search(line)]
