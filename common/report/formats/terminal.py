"""Tables and paragraphs on a terminal, no wider than the terminal."""

import dataclasses
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDEST_WITHOUT_TERMINAL = 120
"""Most columns of output into a file or a pipe."""
_GAP = 2
"""Blanks between two columns of a table."""
_UNIT = re.compile(r"\[[^\]]*\]|\S+")
"""Text that a table never wraps: a word, or an interval in brackets."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table that fits the terminal.

    Attributes:
      name: its heading; may have several lines.
      justify: side on which the text stands.
      rank: a narrow terminal leaves out the columns with the highest ranks; 0: never left out.
      wraps: least width, if text may be wrapped between words; None: lines stay whole.
      called: name in the line that lists the columns left out; "": the heading.
    """

    name: str
    justify: Literal["left", "right"] = "left"
    rank: int = 0
    wraps: int | None = None
    called: str = ""


def make_table(title: str) -> Table:
    """Returns a table without columns; its title is left-aligned."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def terminal_width(default: int) -> int:
    """Returns the number of columns of the terminal; ``default`` if the output is no terminal."""
    return Console().width if sys.stdout.isatty() else default


def page_width() -> int:
    """Returns the width to which tables and paragraphs are fitted.

    Without a terminal it is that of the variable ``COLUMNS``, at most 120.
    """
    columns = os.environ.get("COLUMNS", "")
    without = int(columns) if columns.isascii() and columns.isdigit() else WIDEST_WITHOUT_TERMINAL
    return max(1, terminal_width(min(without, WIDEST_WITHOUT_TERMINAL)))


def print_table(table: Table) -> None:
    """Prints a table in its full width, because a wrapped line is better than a cut figure."""
    needed = Console(width=500).measure(table).maximum
    terminal = Console().width if sys.stdout.isatty() else 0
    Console(width=max(terminal, needed)).print(table)


def print_tables(
    columns: Sequence[Column], tables: Sequence[tuple[str, Sequence[Sequence[str]]]]
) -> list[str]:
    """Prints tables no wider than the terminal; a number is never cut.

    First, text is wrapped between words. If that does not suffice, the columns with the highest
    ranks are left out of all tables. If the others need more than the terminal has, the tables are
    wider than it. A table leaves out a column without any text.

    Args:
      columns: the columns of every table.
      tables: (title, rows) of each table; a row has one text for each column.

    Returns:
      The names of the columns that were left out although they have text.
    """
    width = page_width()
    fits = [_Fit(columns, rows) for _, rows in tables]
    known = [i for i in range(len(columns)) if any(i in fit.natural for fit in fits)]
    kept = list(known)
    while any(fit.needed(kept) > width for fit in fits) and any(columns[i].rank for i in kept):
        kept.remove(max(kept, key=lambda i: columns[i].rank))
    for (title, rows), fit in zip(tables, fits, strict=True):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        shown = fit.widths(kept, width)
        for i, found in shown.items():
            table.add_column(Text(columns[i].name), justify=columns[i].justify, width=found)
        for row in rows:
            table.add_row(*(Text(row[i]) for i in shown))
        console = Console(width=max(width, fit.needed(kept)))
        if title:
            console.print(Text(f"{_wrapped(title, width)}\n", style="bold"), soft_wrap=True)
        console.print(table)
        print()
    return [columns[i].called or " ".join(columns[i].name.split()) for i in known if i not in kept]


class _Fit:
    """The widths of a table's columns.

    Attributes:
      natural: index of a column with text -> width of its longest line.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]):
        self.natural: dict[int, int] = {}
        self._least: dict[int, int] = {}
        for i, column in enumerate(columns):
            texts = [row[i] for row in rows]
            if not any(texts):
                continue
            lines = [line for text in (column.name, *texts) for line in text.split("\n")]
            self.natural[i] = self._least[i] = _widest(lines)
            if column.wraps is not None:
                units = _widest(unit for line in lines for unit in _UNIT.findall(line))
                self._least[i] = max(units, min(self.natural[i], column.wraps))

    def needed(self, kept: Sequence[int]) -> int:
        """Returns the least width of a table with some of the columns."""
        found = [self._least[i] for i in kept if i in self._least]
        return sum(found) + _GAP * max(0, len(found) - 1)

    def widths(self, kept: Sequence[int], width: int) -> dict[int, int]:
        """Returns index -> width of the columns shown; columns that wrap share the free space."""
        found = {i: self._least[i] for i in kept if i in self._least}
        for _ in range(width - self.needed(kept)):
            tightest = max(found, key=lambda i: self.natural[i] - found[i], default=None)
            if tightest is None or found[tightest] == self.natural[tightest]:
                break
            found[tightest] += 1
        return found


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def print_paragraphs(lines: Iterable[str], *, hanging: bool = False) -> None:
    """Prints lines of text, wrapped to the terminal between words; long words stay whole.

    Args:
      lines: the paragraphs. The further lines of a list entry, which begins with a dash, are
        indented.
      hanging: whether this holds for all paragraphs.
    """
    width = page_width()
    for line in lines:
        entry = hanging or line.startswith("- ")
        print(_wrapped(line, width, indent="  " if entry else ""))


def _wrapped(text: str, width: int, *, indent: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
