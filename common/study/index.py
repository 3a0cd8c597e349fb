"""``results.jsonl``, the index of a study's results: one line per run, each with a checksum.

A damaged line costs no result: the run folders are the truth, and the run's result is read again
from its folder.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isoscale.common.config.read import MEBIBYTE
from isoscale.common.config.records import LaterVersionError
from isoscale.common.disk.folders import leads_outside
from isoscale.common.disk.json_files import from_json, read_json, to_json
from isoscale.common.measure.result import LARGEST_RESULT, RESULT
from isoscale.common.study.records import ResultLine

CELLS = "cells"
"""Folder of the run folders, in a study's folder."""
DAMAGED = "results.damaged.jsonl"
"""Lines that were set aside."""
LARGEST = 256 * MEBIBYTE

_CHECKSUM = re.compile(r', "line_sha256": "([0-9a-f]{64})"\}$')
_RUN = re.compile(r"run_(0|[1-9]\d{0,8})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DamagedLine:
    """A line of ``results.jsonl`` that is not a result line.

    Attributes:
      number: number of the line, from 1.
      content: the line, without its end.
      reason: why the line cannot be used.
    """

    number: int
    content: bytes
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Index:
    """The lines of a file.

    Attributes:
      lines: (line, its text) in the order of the file.
      damaged: the other lines.
    """

    lines: list[tuple[ResultLine, str]]
    damaged: list[DamagedLine]


def line_text(line: ResultLine) -> str:
    """Returns the text of a result line; its last entry is the checksum of the text before."""
    body = to_json(line.to_record())
    return f'{body[:-1]}, "line_sha256": "{_digest(body)}"}}'


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def read_line(text: str, *, number: int) -> ResultLine:
    """Returns a result line; a line without a checksum comes from an earlier isoscale.

    Raises:
      LaterVersionError: a later isoscale wrote the line.
      ValueError: the text is not a result line, or differs from its checksum.
    """
    found = _CHECKSUM.search(text)
    if found:
        text = f"{text[: found.start()]}}}"
        if _digest(text) != found[1]:
            raise ValueError("its checksum differs from its content")
    return ResultLine.from_record(from_json(text), number=number)


def read_index(content: bytes) -> Index:
    """Returns the lines of a file; a file that does not end with a line end lost its end.

    Raises:
      LaterVersionError: a later isoscale wrote a line; its results must not run again.
    """
    index = Index(lines=[], damaged=[])
    *whole, rest = content.split(b"\n")
    for number, data in enumerate(whole, 1):
        try:
            text = data.decode()
            index.lines.append((read_line(text, number=number), text))
        except LaterVersionError:
            raise
        except ValueError as error:  # UnicodeDecodeError is one
            damaged = DamagedLine(number=number, content=data, reason=str(error)[:200])
            index.damaged.append(damaged)
    if rest:
        reason = "the end of the line is missing"
        index.damaged.append(DamagedLine(number=len(whole) + 1, content=rest, reason=reason))
    return index


def duplicates(index: Index) -> list[str]:
    """Returns a sentence for each run with several lines; the last line of a run counts."""
    numbers: dict[tuple[Any, int], list[int]] = {}
    for number, (line, _) in enumerate(index.lines, 1):
        numbers.setdefault((line.cell, line.run), []).append(number)
    return [
        f"run {run} of cell {cell.id} has {len(found)} lines; the last one counts"
        for (cell, run), found in numbers.items()
        if len(found) > 1
    ]


def read_run_folders(
    folder: Path, *, besides: Iterable[ResultLine], first_sequence: int
) -> tuple[list[ResultLine], list[str]]:
    """Returns result lines from the run folders of a study, and what is wrong with some folders.

    Args:
      folder: folder of the study.
      besides: lines that are known; their runs are not read.
      first_sequence: ``sequence`` of the first line; lines are sorted by the start of their run.
    """
    known = {(line.cell.id, line.run) for line in besides}
    found: list[ResultLine] = []
    problems: list[str] = []
    for path in sorted(folder.glob(f"{CELLS}/*/run_*/{RESULT}")):
        number = _RUN.fullmatch(path.parent.name)
        cell_id = path.parent.parent.name
        if number is None or (cell_id, int(number[1])) in known:
            continue
        try:
            if leads_outside(folder, path):
                raise ValueError("a link leads out of the study")
            record = read_json(path, most=LARGEST_RESULT)
            if not isinstance(record, dict):
                raise ValueError("it is not an object")
            own = {"run": int(number[1]), "run_dir": str(path.parent.relative_to(folder))}
            line = ResultLine.from_record({**record, **own}, number=0)
            if line.cell.id != cell_id:
                raise ValueError(f"its cell is {line.cell.id}, not {cell_id}")
            found.append(line)
        except ValueError as error:  # FolderError is one
            problems.append(f"{path.relative_to(folder)} is not used: {str(error)[:200]}")
    found.sort(key=lambda line: (line.result.started or "", line.cell.id, line.run))
    numbered = [
        dataclasses.replace(line, sequence=first_sequence + offset)
        for offset, line in enumerate(found)
    ]
    return numbered, problems
