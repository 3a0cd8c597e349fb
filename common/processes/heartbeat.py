"""Heartbeats: each rank of a run says what it does, in a small file that its supervisor reads.

A heartbeat is a counter, not a time: a file's time follows the wall clock, which can jump. The
supervisor measures, with its own monotonic clock, how long the counter has not changed.
"""

import contextlib
import dataclasses
import faulthandler
import os
import signal
import time
from pathlib import Path

from isoscale.common.config.errors import FolderError
from isoscale.common.config.read import read_text
from isoscale.common.config.records import from_record, to_record
from isoscale.common.disk.json_files import from_json, to_json

FILE_NAME = "heartbeat"
DUMP_STACK = signal.SIGUSR2
"""A process with a heartbeat answers this signal with its Python stack, in a file."""
_STACK, _SIGNAL = ".stack", ".signal"
_LENGTH = 8192
"""Length of the file in bytes. It never changes: later heartbeats need no space on the disk."""
_LONGEST_NAME, _LONGEST_ERROR = 150, 400  # characters; JSON needs at most 12 bytes for each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beat:
    """What a rank does.

    Attributes:
      count: number of heartbeats so far.
      pid: the process.
      doing: the activity, with its step if it has one.
      expected_seconds: expected duration of the activity.
      compiles: whether the activity compiles.
      error: why the rank fails, in one line; None while it works.
      failed_at: reading of the monotonic clock at the failure, in seconds; all processes of a
        machine share this clock.
    """

    count: int = 0
    pid: int | None = None
    doing: str = "starting"
    expected_seconds: float = 0.0
    compiles: bool = False
    error: str | None = None
    failed_at: float | None = None


class Heartbeat:
    """Writes the activity of a process; call ``beat`` between windows, never inside one."""

    def __init__(self, path: Path | None):
        """Creates the files.

        Args:
          path: the file, from ``path_for``; None: writes nothing.
        """
        self._last = Beat(pid=os.getpid())
        self._file: int | None = None
        if path is not None:
            # Both files stay open until the process ends.
            self._file, stack = _new_file(path), _new_file(path.with_name(f"{path.name}{_STACK}"))
            faulthandler.register(DUMP_STACK, file=stack, all_threads=False)

    def beat(self, doing: str, *, expected_seconds: float = 0.0, compiles: bool = False) -> None:
        """Writes the activity that starts now; the watchdog waits until its expected end."""
        self._write(
            Beat(
                count=self._last.count + 1,
                pid=self._last.pid,
                doing=doing[:_LONGEST_NAME],
                expected_seconds=expected_seconds,
                compiles=compiles,
            )
        )

    def fail(self, error: str) -> None:
        """Writes why this process fails; the supervisor then knows which rank failed first."""
        now = time.monotonic()
        self._write(dataclasses.replace(self._last, error=error[:_LONGEST_ERROR], failed_at=now))

    def _write(self, beat: Beat) -> None:
        self._last = beat
        if self._file is not None:
            # In place and in one call: a reader sees the old or the new heartbeat.
            os.pwrite(self._file, to_json(to_record(beat)).encode().ljust(_LENGTH), 0)


def _new_file(path: Path) -> int:
    """Creates a file; one that stands there is removed, whatever it is: it may be a link or a pipe.

    Returns:
      Its descriptor.
    """
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o666)


def note_signal(run_dir: Path, rank: int, number: int) -> None:
    """Notes that a rank has a signal; its supervisor gives the signal to all other ranks."""
    with contextlib.suppress(OSError):  # a full disk: the ranks stop after the window
        os.write(file := _new_file(run_dir / f"{FILE_NAME}.{rank}{_SIGNAL}"), f"{number}".encode())
        os.close(file)


def signals(run_dir: Path) -> dict[int, int]:
    """Returns rank -> the signal that it has noted."""
    found = {}
    for path in run_dir.glob(f"{FILE_NAME}.*{_SIGNAL}"):
        rank = path.name.removeprefix(f"{FILE_NAME}.").removesuffix(_SIGNAL)
        with contextlib.suppress(FolderError, ValueError):  # it is being written
            found[int(rank)] = int(read_text(path, most=10))
    return found


def choice_path(run_dir: Path) -> Path:
    """Returns the file in which rank 0 writes [window, items after which all ranks stop]."""
    return run_dir / f"{FILE_NAME}.stop"


def path_for(run_dir: Path, rank: int) -> Path:
    """Returns the path of a rank's heartbeat."""
    return run_dir / f"{FILE_NAME}.{rank}"


def read_beats(run_dir: Path) -> dict[int, Beat]:
    """Returns rank -> its latest heartbeat, for every rank that has one."""
    found = {}
    for path in run_dir.glob(f"{FILE_NAME}.*"):
        rank = path.name.removeprefix(f"{FILE_NAME}.")
        if rank.isdecimal():
            # A file that is new or being removed has no heartbeat; neither has a foreign file.
            with contextlib.suppress(FolderError, ValueError):
                found[int(rank)] = from_record(Beat, from_json(read_text(path, most=_LENGTH)))
    return found


def doing(run_dir: Path) -> str:
    """Returns the activity of the rank that is ahead; ``starting`` before the first heartbeat."""
    beats = read_beats(run_dir).values()
    return max(beats, key=lambda beat: beat.count, default=Beat()).doing


def stack(run_dir: Path, rank: int) -> str:
    """Returns the Python stack that a rank has written after ``DUMP_STACK``; empty without one."""
    try:
        return read_text(run_dir / f"{FILE_NAME}.{rank}{_STACK}", most=100_000)
    except FolderError:
        return ""


def answers_stack_signal(run_dir: Path, rank: int) -> bool:
    """Returns whether the rank has registered for ``DUMP_STACK``; others would die of it."""
    return (run_dir / f"{FILE_NAME}.{rank}{_STACK}").exists()


def remove(run_dir: Path, rank: int | None = None) -> None:
    """Removes the heartbeats of a finished run, or of one of its ranks; rank 0 has its choice."""
    mine = None if rank is None else {f"{FILE_NAME}.{rank}{end}" for end in ("", _STACK, _SIGNAL)}
    for path in run_dir.glob(f"{FILE_NAME}.*"):
        if mine is None or path.name in mine or (rank == 0 and path == choice_path(run_dir)):
            path.unlink(missing_ok=True)
