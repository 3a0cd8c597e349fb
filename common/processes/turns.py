"""The two pipes through which a study gives a run its turns; a waiting run blocks and uses no core.

The study creates both pipes in the run folder and holds both open. The run reads what it may do and
writes what it did: one JSON object per line. Each pipe has one writer, so a long line may be
written in several pieces.
"""

import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoscale.common.config.flags import Flags
from isoscale.common.disk.json_files import from_json, to_json

FLAG = "turns"
PIPES = "turns."
"""How the names of the pipes begin."""
_ASK, _SAY = f"{PIPES}ask", f"{PIPES}say"
_PIECE = select.PIPE_BUF
"""Bytes that a pipe takes as a whole or not at all: 4096 on Linux, 512 on macOS."""
_FULL_SECONDS = 5.0
"""Longest time that the study waits for a run to read, if the pipe is full."""
START, WINDOW, END = "start", "window", "end"
"""What a run may do: compile and warm up; run one window; evaluate and end."""
Message = dict[str, Any]


def define_turns_flag(fv: Flags) -> None:
    """Defines ``--turns``."""
    fv.boolean(
        FLAG,
        False,
        "take turns with other runs: wait for each window at pipes in --run_dir, which a study "
        "has made ('isoscale compare' sets this flag)",
    )


def _line(message: Mapping[str, Any]) -> bytes:
    return to_json(message).encode() + b"\n"


class RunEnd:
    """The run's end of the pipes; rank 0 holds it."""

    def __init__(self, run_dir: Path):
        """Opens the pipes.

        Raises:
          OSError: there are no pipes in the folder.
        """
        self._ask = (run_dir / _ASK).open("rb", buffering=0)
        self._say = (run_dir / _SAY).open("wb", buffering=0)

    def wait(self) -> Message:
        """Blocks until the study says what to do next.

        Raises:
          EOFError: the study has gone.
        """
        data = b""
        while not data.endswith(b"\n"):
            byte = self._ask.read(1)
            if not byte:
                raise EOFError("the study that gives turns has gone")
            data += byte
        return from_json(data.decode())

    def say(self, did: str, **facts: Any) -> None:
        """Tells the study what this run has done."""
        data = _line({"did": did, **facts})
        while data:
            data = data[self._say.write(data) or 0 :]


class StudyEnd:
    """The study's end of the pipes of one run."""

    def __init__(self, run_dir: Path):
        """Creates the pipes.

        Raises:
          OSError: the operating system refuses.
        """
        self._paths = [run_dir / name for name in (_ASK, _SAY)]
        for path in self._paths:
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        # Opened for both directions: opening does not wait for the run, and never ends the pipe.
        self._ask, self._say = (os.open(p, os.O_RDWR | os.O_NONBLOCK) for p in self._paths)
        self._read = b""

    def ask(self, what: str, **facts: Any) -> None:
        """Tells the run what to do next.

        Raises:
          BlockingIOError: the pipe is full, and the run does not read.
        """
        data = _line({"do": what, **facts})
        for start in range(0, len(data), _PIECE):
            select.select([], [self._ask], [], _FULL_SECONDS)
            os.write(self._ask, data[start : start + _PIECE])

    def heard(self, *, seconds: float) -> Message | None:
        """Returns what the run said next; None if it says nothing within ``seconds``."""
        until = time.monotonic() + seconds
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._say], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            self._read += os.read(self._say, 65536)
        line, _, self._read = self._read.partition(b"\n")
        return from_json(line.decode())

    def close(self) -> None:
        """Closes and removes the pipes."""
        for descriptor in (self._ask, self._say):
            os.close(descriptor)
        for path in self._paths:
            path.unlink(missing_ok=True)
