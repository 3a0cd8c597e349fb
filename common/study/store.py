"""Reads and writes a study on disk: its record, and one line per run in ``results.jsonl``.

The run directories are the truth; ``results.jsonl`` is the index of their results.
"""

import contextlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from isoscale.common.config.cell import Cell
from isoscale.common.config.errors import ConfigError, FolderError
from isoscale.common.config.read import MEBIBYTE, MissingFileError, read_bytes
from isoscale.common.config.records import LaterVersionError
from isoscale.common.disk.folders import leads_outside
from isoscale.common.disk.json_files import read_json, write_atomically, write_json
from isoscale.common.disk.writing import is_leftover, remove_leftovers, sync
from isoscale.common.processes.lock import LOCK, Lock, locked
from isoscale.common.study.index import (
    CELLS,
    DAMAGED,
    LARGEST,
    DamagedLine,
    duplicates,
    line_text,
    read_index,
    read_run_folders,
)
from isoscale.common.study.records import ResultLine, StudyRecord

RESULTS = "results.jsonl"
STUDY = "study.json"
_LARGEST_RECORD = 64 * MEBIBYTE


class Store:
    """Reads and writes one study's folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lines: dict[tuple[Cell, int], ResultLine] = {}
        self._texts: dict[tuple[Cell, int], str] = {}
        self._damaged: list[DamagedLine] = []
        self._lock: Lock | None = None
        self.notes: list[str] = []
        """What ``load`` found wrong, one sentence each."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the study against other processes; removes temporary files of killed ones.

        Raises:
          FolderError: another process holds the lock, or the folder cannot be written.
        """
        with locked(self.folder, called=f"study '{self.folder.name}'") as self._lock:
            remove_leftovers(self.folder, deep=True)
            try:
                yield
            finally:
                self._lock = None

    def check_exists(self) -> None:
        """Checks that the locked folder is still there; does nothing without a lock.

        Raises:
          VanishedError: the folder was removed or replaced.
        """
        if self._lock:
            self._lock.check()

    def load(self) -> None:
        """Reads the lines of ``results.jsonl``; reads damaged lines again from their run folders.

        Raises:
          ConfigError: a later isoscale wrote the file.
          FolderError: the file cannot be read, is too large, or is reached by a link that leads out
            of the study.
        """
        self._lines, self._texts, self.notes = {}, {}, []
        for name in (RESULTS, CELLS):
            if leads_outside(self.folder, self.folder / name):
                raise FolderError(f"{self.folder / name} is a link that leads out of the study")
        try:
            content = read_bytes(self.folder / RESULTS, most=LARGEST)
        except MissingFileError:
            return
        try:
            index = read_index(content)
        except LaterVersionError as error:
            raise ConfigError(f"{self.folder / RESULTS}: {error}; install it to go on") from None
        for line, text in index.lines:
            self._keep(line, text)
        self.notes += [f"{RESULTS}: {sentence}" for sentence in duplicates(index)]
        self._damaged = index.damaged
        if self._damaged:
            self.notes += [
                f"{RESULTS}:{found.number} is not a result line ({found.reason}); it is set aside"
                for found in self._damaged
            ]
            self.read_run_folders()

    def read_run_folders(self) -> None:
        """Adds the results of run folders that have no line in the index, without writing it."""
        lines, problems = read_run_folders(
            self.folder, besides=self._lines.values(), first_sequence=self.next_sequence()
        )
        self.notes += problems
        for line in lines:
            self._keep(line, line_text(line))
            self.notes.append(f"run {line.run} of cell {line.cell.id} was read from its run folder")

    def print_notes(self) -> None:
        """Prints what ``load`` found wrong, one line each, on standard error."""
        for note in self.notes:
            print(f"isoscale: {self.folder.name}: {note}", file=sys.stderr)

    def lines(self) -> list[ResultLine]:
        """Returns the loaded and added lines: one per run, that of its latest attempt."""
        return list(self._lines.values())

    def is_ok(self, cell: Cell, run: int) -> bool:
        """Returns whether a run of a cell succeeded."""
        line = self._lines.get((cell, run))
        return line is not None and line.ok

    def begun(self) -> set[str]:
        """Returns the ids of the cells that have a line or a folder, failed runs included."""
        folders = {path.name for path in self.folder.glob(f"{CELLS}/*")}
        return folders | {line.cell.id for line in self.lines()}

    @property
    def has_files(self) -> bool:
        """Whether the folder holds any file besides the lock and files of a killed process."""
        names = (path.name for path in self.folder.glob("*"))
        return any(name != LOCK and not is_leftover(name) for name in names)

    def rounds(self, cell: Cell) -> int:
        """Returns the number of rounds of a cell: its highest run number + 1; 0 without runs."""
        return max((run + 1 for other, run in self._lines if other == cell), default=0)

    def durations(self, cells: Collection[Cell]) -> list[float]:
        """Returns the durations of the runs of some cells, in seconds.

        A run that took turns lived as long as its group: it counts with its share.
        """
        wanted = set(cells)
        lines = (line for (cell, _), line in self._lines.items() if cell in wanted)
        return [
            line.wall_seconds / (line.result.turns.members if line.result.turns else 1)
            for line in lines
            if line.wall_seconds
        ]

    def others_in_group(self, cells: Collection[Cell], run: int) -> bool:
        """Returns whether some cells took turns with cells outside of them.

        Args:
          cells: cells.
          run: number of their run, and of the group.
        """
        lines = [self._lines[cell, run] for cell in cells if (cell, run) in self._lines]
        # A member that failed has a line, too, which does not name its group.
        failed = sum(not line.ok for line in lines)
        members: dict[str, int] = {}
        known: dict[str, int] = {}
        for line in lines:
            if line.ok and (turns := line.result.turns) is not None:
                members[turns.group] = turns.members
                known[turns.group] = known.get(turns.group, failed) + 1
        return any(known[name] < count for name, count in members.items())

    def next_sequence(self) -> int:
        """Returns the place of the next run in the order of execution; retries count."""
        return 1 + max((line.sequence for line in self._lines.values()), default=-1)

    def add(self, line: ResultLine) -> None:
        """Adds a run's line, or replaces the line of an earlier attempt.

        Replaces the whole file atomically: after a crash at any moment, every line is complete.

        Raises:
          FolderError: as ``write``.
        """
        self._keep(line, line_text(line))
        self.write()

    def write(self) -> None:
        """Writes ``results.jsonl``; first appends damaged lines to ``results.damaged.jsonl``.

        Raises:
          FolderError: the disk is full, the study has vanished, ...; the old file stays.
        """
        self.check_exists()
        if self._damaged:
            path = self.folder / DAMAGED
            earlier = b""
            with contextlib.suppress(MissingFileError):
                earlier = read_bytes(path, most=LARGEST)
            content = b"".join(found.content + b"\n" for found in self._damaged)
            write_atomically(path, earlier + content)
            self._damaged = []
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
            return StudyRecord.from_record(read_json(path, most=_LARGEST_RECORD))
        except MissingFileError:
            raise ConfigError(f"{self.folder} is not a study: it has no {STUDY}") from None
        except FolderError:
            raise
        except ValueError as error:
            raise ConfigError(f"{path} was not written by isoscale ({error!r})") from None

    def write_record(self, record: StudyRecord) -> None:
        """Writes the study's record to ``study.json``.

        Raises:
          FolderError: as ``write``.
        """
        self.check_exists()
        write_json(self.folder / STUDY, record.to_record())


def set_aside(run_dir: Path) -> None:
    """Renames the folder of an earlier attempt to ``NAME.attempt_N``; keeps all its files.

    Raises:
      OSError: the operating system refuses.
    """
    if not run_dir.exists():
        return
    attempt = 1
    while (target := run_dir.with_name(f"{run_dir.name}.attempt_{attempt}")).exists():
        attempt += 1
    run_dir.rename(target)
    sync(run_dir.parent)
