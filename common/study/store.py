"""Reads and writes a study on disk: its record, and one line per run in ``results.jsonl``.

The run directories are the truth; ``results.jsonl`` is the index of their results.
"""

import json
from collections.abc import Collection
from pathlib import Path

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError
from isoscale.common.disk.json_files import from_json, to_json, write_atomically, write_json
from isoscale.common.processes.lock import LOCK
from isoscale.common.study.records import ResultLine, StudyRecord

RESULTS = "results.jsonl"
STUDY = "study.json"


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lines: dict[tuple[Cell, int], ResultLine] = {}
        self._texts: dict[tuple[Cell, int], str] = {}

    def load(self) -> None:
        """Reads the lines of ``results.jsonl``.

        Raises:
          ConfigError: isoscale did not write this file.
        """
        path = self.folder / RESULTS
        if not path.exists():
            return
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                self._keep(ResultLine.from_record(from_json(text), number=number), text)
            except ValueError as error:
                raise ConfigError(f"{path}:{number} is not a result line ({error})") from None

    def lines(self) -> list[ResultLine]:
        """Returns the loaded and added lines: one per run, that of its latest attempt."""
        return list(self._lines.values())

    def is_ok(self, cell: Cell, run: int) -> bool:
        """Returns whether a run of a cell succeeded."""
        line = self._lines.get((cell, run))
        return line is not None and line.ok

    @property
    def has_files(self) -> bool:
        """Whether the folder holds any file besides the lock."""
        return any(path.name != LOCK for path in self.folder.glob("*"))

    def rounds(self, cell: Cell) -> int:
        """Returns the number of rounds of a cell: its highest run number + 1; 0 without runs."""
        return max((run + 1 for other, run in self._lines if other == cell), default=0)

    def durations(self, cells: Collection[Cell]) -> list[float]:
        """Returns the durations of the runs of some cells, from start to end, in seconds."""
        wanted = set(cells)
        lines = (line for (cell, _), line in self._lines.items() if cell in wanted)
        return [line.wall_seconds for line in lines if line.wall_seconds]

    def next_sequence(self) -> int:
        """Returns the place of the next run in the order of execution; retries count."""
        return 1 + max((line.sequence for line in self._lines.values()), default=-1)

    def add(self, line: ResultLine) -> None:
        """Adds a run's line, or replaces the line of an earlier attempt.

        Replaces the whole file atomically: after a crash at any moment, every line is complete.
        """
        self._keep(line, to_json(line.to_record()))
        write_atomically(self.folder / RESULTS, "".join(self._texts.values()))

    def _keep(self, line: ResultLine, text: str) -> None:
        key = line.cell, line.run
        self._lines[key] = line
        self._texts[key] = text + "\n"  # serialised once; the file is written after every run

    def record(self) -> StudyRecord:
        """Returns the study's record.

        Raises:
          ConfigError: the folder holds no study, or isoscale did not write its record.
        """
        path = self.folder / STUDY
        try:
            return StudyRecord.from_record(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ConfigError(f"{self.folder} is not a study: it has no {STUDY}") from None
        except ValueError as error:
            raise ConfigError(f"{path} was not written by isoscale ({error!r})") from None

    def write_record(self, record: StudyRecord) -> None:
        """Writes the study's record to ``study.json``."""
        write_json(self.folder / STUDY, record.to_record())


def set_aside(run_dir: Path) -> None:
    """Renames the folder of an earlier attempt to ``NAME.attempt_N``; keeps all its files."""
    if not run_dir.exists():
        return
    attempt = 1
    while (target := run_dir.with_name(f"{run_dir.name}.attempt_{attempt}")).exists():
        attempt += 1
    run_dir.rename(target)
