"""The verdicts, figures and cells of a report, without the words around them.

Two reports of one study have equal structures if only their wording differs.
"""

import csv
import dataclasses
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import get_args

from isoscale.common.analysis.verdicts import Outcome

NAMING_COLUMNS = ("model", "framework", "strategy", "dtype", "tuning", "tweaks", "status")
"""Columns of ``results.csv`` with names that reports repeat."""
_NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+)*(?:e[-+]?\d+)?"

Tokens = tuple[str, ...]
Row = tuple[Tokens, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
    """The structure of ``report.md`` and ``results.csv``.

    Attributes:
      tables: the tables of the Markdown report in order: numbers, names and outcomes of each cell.
      conditions: the same of tables with two columns, sorted; these tables hold phrases.
      sentences: numbers, names and outcomes in the bullet points between two headings, sorted.
      plots: the linked pictures, in order.
      runs: rows of ``results.csv``: column -> value.
    """

    tables: list[list[Row]]
    conditions: list[Tokens]
    sentences: list[Tokens]
    plots: list[str]
    runs: list[dict[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageStructure:
    """The structure of ``report.html``.

    Attributes:
      cells: numbers, names and outcomes of each table cell, in order.
      sentences: number of bullet points.
      words: numbers, names and outcomes of all bullet points, sorted.
      links: the linked pictures, in order.
    """

    cells: list[Tokens]
    sentences: int
    words: Tokens
    links: list[str]


def read_structure(markdown: str, table: str) -> Structure:
    """Returns the structure of a report.

    Args:
      markdown: content of ``report.md``.
      table: content of ``results.csv``.
    """
    runs = list(csv.DictReader(io.StringIO(table)))
    pattern = _pattern(runs)
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


def read_page(page: str, table: str) -> PageStructure:
    """Returns the structure of a HTML report.

    Args:
      page: content of ``report.html``.
      table: content of ``results.csv``.
    """
    pattern = _pattern(list(csv.DictReader(io.StringIO(table))))

    def texts(tag: str) -> list[str]:
        found = re.findall(rf"<{tag}(?: [^>]*)?>(.*?)</{tag}>", page, flags=re.DOTALL)
        return [html.unescape(re.sub(r"<[^>]+>", "", text)) for text in found]

    return PageStructure(
        cells=[tuple(pattern.findall(text)) for text in texts("td")],
        sentences=len(texts("li")),
        words=tuple(sorted(pattern.findall(" ".join(texts("li"))))),
        links=re.findall(r'href="(plots/[^"]+)"', page),
    )


def _pattern(runs: Sequence[Mapping[str, str]]) -> re.Pattern[str]:
    """Returns the pattern of numbers, names and outcomes; the longest possible match wins."""
    names = {part for run in runs for column in NAMING_COLUMNS for part in run[column].split(",")}
    words = sorted({*names, *get_args(Outcome)} - {""}, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b|{_NUMBER}")
