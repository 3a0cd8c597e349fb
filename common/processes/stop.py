"""Ends a run by a signal, at a step at which its state is whole."""

import contextlib
import operator
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.json_files import read_json, to_json, write_atomically
from isoscale.common.processes.frame import INTERRUPTING, Interrupted, handle

_FILE = "heartbeat.stop"
"""Rank 0 writes here after how many items of which window all ranks stop."""
_MARGIN_SECONDS = 1.0
_LOOK_SECONDS = 0.01


class Stop:
    """Turns signals into Interrupted: at once, or when the run asks.

    A run that saves checkpoints asks after each window. A window can be long; therefore a signal
    also shortens the window. All ranks must train the same steps: rank 0 chooses the last one,
    about a second ahead, and the others learn it from a file. A rank cannot wait for the choice:
    the other ranks need it to finish their step. If rank 0 gets no signal, the window stays whole.

    Attributes:
      requested: number of the signal that waits; 0 without one.
    """

    def __init__(self, *, folder: Path | None = None, rank: int = 0, ranks: int = 1) -> None:
        """Stores the arguments.

        Args:
          folder: folder of the run, for ranks.
          rank: number of this process in the run.
          ranks: number of processes in the run.
        """
        self.requested = 0
        self._waits = False
        self._leave: Callable[[int], None] | None = None
        self._file = folder / _FILE if folder and ranks > 1 else None
        self._rank = rank
        self._items: list[Any] = []
        self._left: Iterator[Any] = iter(())
        self._window = 0
        self._margin: int | None = None

    def listen(self) -> None:
        """Handles the signals of ``INTERRUPTING`` from now on."""
        if self._file and self._rank == 0:
            self._file.unlink(missing_ok=True)  # of an earlier run
        handle(INTERRUPTING, self._ask)

    @contextlib.contextmanager
    def leaving(self, leave: Callable[[int], None]) -> Iterator[None]:
        """Calls ``leave(number)`` on a signal; it must end the process.

        For the import of a framework: an exception in the middle of it ends some libraries by a
        crash, and others turn it into an error of their own.
        """
        self._leave = leave
        try:
            yield
        finally:
            self._leave = None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Lets the first signal wait until the end of the context."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.requested:
            raise Interrupted(self.requested)

    def window(
        self, items: list[Any], *, number: int, seconds_per_item: float | None, in_flight: int
    ) -> Iterator[Any]:
        """Returns the items of a window; a signal removes those at the end of ``items``.

        Args:
          items: the items, one for each iteration of the window's loop.
          number: identifies the window in all ranks.
          seconds_per_item: expected duration; None: unknown, then several ranks stop only after the
            whole window.
          in_flight: largest number of iterations by which ranks can differ.
        """
        self._items, self._left, self._window = items, iter(items), number
        self._margin = None
        if seconds_per_item is not None:
            self._margin = in_flight + 2 + round(_MARGIN_SECONDS / max(seconds_per_item, 1e-6))
        if self.requested:  # the signal came between two windows
            self._shorten()
        return self._left

    def _ask(self, number: int, frame: object) -> None:
        if self._leave:
            self._leave(number)
        if not self._waits or self.requested:  # the second signal does not wait
            raise Interrupted(number)
        self.requested = number
        self._shorten()

    def _shorten(self) -> None:
        done = len(self._items) - operator.length_hint(self._left)
        if self._file is None:
            del self._items[done:]
        elif self._margin is None:
            return
        elif self._rank == 0:
            choice = [self._window, done + self._margin]
            with contextlib.suppress(FolderError):  # a full disk: all ranks stop after the window
                write_atomically(self._file, to_json(choice), durable=False)
                del self._items[choice[1] :]
        else:
            threading.Thread(target=self._follow, args=(self._file,), daemon=True).start()

    def _follow(self, file: Path) -> None:
        """Looks for the choice of rank 0 and stops where rank 0 stops."""
        items, window = self._items, self._window
        while self._window == window:
            with contextlib.suppress(FolderError):  # rank 0 has not chosen yet
                chosen = read_json(file, most=100)
                if chosen[0] == window:
                    del items[chosen[1] :]
                return
            time.sleep(_LOOK_SECONDS)
