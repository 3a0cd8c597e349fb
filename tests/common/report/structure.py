"""The verdicts, figures and cells of a report, whatever the words around them are.

Two reports of one study have equal structures if they differ in wording only.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Collection
from typing import get_args

from isoscale.common.analysis.verdicts import Outcome

NAMING_COLUMNS = ("model", "framework", "strategy", "dtype", "tuning", "tweaks", "status")
"""Columns of ``results.csv`` whose values name something; reports repeat these names."""
_NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+)*(?:e[-+]?\d+)?"

Tokens = tuple[str, ...]
Row = tuple[Tokens, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
    """What a report says, without its words.

    Attributes:
      tables: the tables of the Markdown report in order: numbers, names and outcomes of each cell.
      conditions: likewise of tables with two columns, sorted; these hold phrases, not figures.
      sentences: numbers, names and outcomes in the bullet points between two headings, sorted.
      plots: the linked pictures, in order.
      runs: rows of ``results.csv``: column -> value.
    """

    tables: list[list[Row]]
    conditions: list[Tokens]
    sentences: list[Tokens]
    plots: list[str]
    runs: list[dict[str, str]]


def read_structure(markdown: str, table: str) -> Structure:
    """Returns the structure of a report.

    Args:
      markdown: content of ``report.md``.
      table: content of ``results.csv``.
    """
    runs = list(csv.DictReader(io.StringIO(table)))
    names = {part for run in runs for column in NAMING_COLUMNS for part in run[column].split(",")}
    pattern = _pattern(names - {""})
    tables, conditions, sentences = [], [], []
    for section in re.split(r"^#+ .*$", markdown, flags=re.MULTILINE):
        bullets = re.findall(r"^- .*$", section, re.MULTILINE)
        if bullets:
            sentences.append(tuple(sorted(pattern.findall(" ".join(bullets)))))
        # A table: a row of names, a row of dashes, and rows of values.
        for rows in re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)+)", section, re.MULTILINE):
            cells = [
                tuple(tuple(pattern.findall(cell)) for cell in re.split(r"(?<!\\)\|", row)[1:-1])
                for row in rows.splitlines()
            ]
            if len(cells[0]) == 2:
                conditions.append(tuple(sorted({word for row in cells for word in sum(row, ())})))
            else:
                tables.append(cells)
    return Structure(
        tables=tables,
        conditions=conditions,
        sentences=sentences,
        plots=re.findall(r"\]\((plots/[^)]+)\)", markdown),
        runs=runs,
    )


def _pattern(names: Collection[str]) -> re.Pattern[str]:
    """Returns what finds numbers, names and outcomes; of two that fit, the longer one."""
    words = sorted({*names, *get_args(Outcome)}, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b|{_NUMBER}")
