"""Tables on a terminal."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table


def make_table(title: str) -> Table:
    """Returns a table without columns, with its title at the left."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def print_table(table: Table) -> None:
    """Prints a table in its full width: a cut figure is worse than a wrapped line."""
    needed = Console(width=500).measure(table).maximum
    terminal = Console().width if sys.stdout.isatty() else 0
    Console(width=max(terminal, needed)).print(table)
