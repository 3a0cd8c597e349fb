"""Tables on a terminal."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table


def make_table(title: str) -> Table:
    """Returns a table without columns; its title is left-aligned."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def terminal_width(default: int) -> int:
    """Returns the number of columns of the terminal; ``default`` if the output is no terminal."""
    return Console().width if sys.stdout.isatty() else default


def print_table(table: Table) -> None:
    """Prints a table in its full width, because a wrapped line is better than a cut figure."""
    needed = Console(width=500).measure(table).maximum
    terminal = Console().width if sys.stdout.isatty() else 0
    Console(width=max(terminal, needed)).print(table)
