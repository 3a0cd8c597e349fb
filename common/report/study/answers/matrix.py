"""The answer as a small table: a row for each model and framework, a column for each device count.

It is made from verdicts only, as the sentences are.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from isoscale.common.analysis.estimates import Ratio
from isoscale.common.analysis.scaling import CellSummary
from isoscale.common.analysis.settings import Setting
from isoscale.common.analysis.verdicts import (
    Verdict,
    champions,
    comparable,
    device_counts,
    ratio_text,
    undecided,
)
from isoscale.common.report.study.answers.setting import devices_text
from isoscale.common.report.study.data import StudyData
from isoscale.common.report.words import NO_VALUE, NOT_THE_QUOTIENT, estimate

EXPLANATION = (
    "Examples per second of each framework's fastest strategy: median over runs (groups, where "
    "they took turns), with the 95 % interval. Below it: the ratio to the highest on as many "
    f"devices, and the speedup against bare on one device. {NOT_THE_QUOTIENT}. FASTEST marks a "
    "cell that verdicts put before all others of its column. Pale lines show no difference, or "
    "have no verdict."
)

Shade = Literal["plain", "fastest", "pale"]
Line = tuple[str, Shade]
"""(text, how the text stands on the page)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """The rows of a setting.

    Attributes:
      setting: its title.
      anchor: its place on the page.
      rows: framework (with one framework in the setting: strategy) -> the lines of each column.
    """

    setting: str
    anchor: str
    rows: dict[str, list[list[Line]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """The table; ``devices`` are the device counts of the columns."""

    devices: list[int]
    blocks: list[Block]

    @property
    def columns(self) -> list[str]:
        return ["model", "framework", *map(devices_text, self.devices)]

    def texts(self) -> list[list[str]]:
        """Returns the rows as plain text, without shades: the words say the same."""
        return [
            [block.setting, name, *("; ".join(text for text, _ in lines) for lines in entries)]
            for block in self.blocks
            for name, entries in block.rows.items()
        ]


def make_matrix(study: StudyData, settings: Sequence[tuple[str, Setting]]) -> Matrix:
    """Returns the table of some settings; leaves out settings that must not be compared.

    Args:
      study: the study.
      settings: (place on the page, setting).
    """
    shown = [(a, s) for a, s in settings if not study.losses[s.title].alarm]
    shown = [(a, s) for a, s in shown if device_counts(s)]
    counts = sorted({count for _, setting in shown for count in device_counts(setting)})
    return Matrix(
        devices=counts,
        blocks=[
            Block(
                setting=setting.title,
                anchor=anchor,
                rows=_rows(setting, study.verdicts[setting.title], counts),
            )
            for anchor, setting in shown
        ],
    )


def _rows(
    setting: Setting, verdicts: Sequence[Verdict], counts: Sequence[int]
) -> dict[str, list[list[Line]]]:
    several = len({cell.cell.framework for _, cell in comparable(setting)}) > 1
    columns: dict[int, dict[str, list[Line]]] = {}
    for count in counts:
        best = champions(setting, count)
        open_ = bool(undecided(setting, count))
        columns[count] = {
            _row_name(name, cell, several=several): [
                (_figure(name, cell, several=several), "plain"),
                *_against_highest(name, best[0][0], verdicts, open_=open_),
                *_against_bare(name, verdicts),
            ]
            for name, cell in best
        }
    names = sorted({name for column in columns.values() for name in column})
    nothing: list[Line] = [(NO_VALUE, "pale")]
    return {name: [columns[count].get(name, nothing) for count in counts] for name in names}


def _row_name(name: str, cell: CellSummary, *, several: bool) -> str:
    return cell.cell.framework if several else name.rsplit(" on ", 1)[0]


def _figure(name: str, cell: CellSummary, *, several: bool) -> str:
    strategy = name.rsplit(" on ", 1)[0].removeprefix(f"{cell.cell.framework} ")
    return estimate(cell.examples_per_second) + (f" {strategy}" if several else "")


def _against_highest(
    name: str, leader: str, verdicts: Sequence[Verdict], *, open_: bool
) -> list[Line]:
    """Returns the line that compares a cell with the fastest cell on as many devices."""
    asked = [v for v in verdicts if v.question == "at equal devices" and v.subject == leader]
    if not asked:
        return []  # there is no other cell
    if name == leader:
        if not open_ and all(verdict.outcome == "faster" for verdict in asked):
            return [("FASTEST", "fastest")]
        shown = any(verdict.outcome == "faster" for verdict in asked)
        return [("highest", "plain" if shown else "pale")]
    return [_line(v, v.ratio.inverse(), "of the highest") for v in asked if v.other == name]


def _against_bare(name: str, verdicts: Sequence[Verdict]) -> list[Line]:
    return [
        _line(v, v.ratio, "speedup")
        for v in verdicts
        if v.question == "against bare" and v.subject == name
    ]


def _line(verdict: Verdict, ratio: Ratio, what: str) -> Line:
    text = f"{what} {ratio_text(ratio)}" if what == "speedup" else f"{ratio_text(ratio)} {what}"
    plain = verdict.answer in ("faster", "slower")
    text = text if plain else f"{text}, {_said(verdict)}"
    return text, "plain" if verdict.outcome in ("faster", "slower") else "pale"


def _said(verdict: Verdict) -> str:
    """Returns the answer without its direction, which the ratio shows."""
    return verdict.answer.removeprefix("faster, ").removeprefix("slower, ")
