"""Ends a run by a signal, at a step at which its state is whole."""

import contextlib
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isoscale.common.config.errors import FolderError
from isoscale.common.disk.json_files import read_json, to_json, write_atomically
from isoscale.common.processes import heartbeat
from isoscale.common.processes.frame import INTERRUPTING, Interrupted, handle

_MARGIN_SECONDS = 1.0
_LOOK_SECONDS = 0.01
_DEAF_SECONDS = 5.0
"""How long a signal may wait for code that does not return to Python, such as a compiler."""


class Stop:
    """Turns signals into Interrupted: at once, or when the run asks.

    A run that saves checkpoints asks after each window. A window can be long; therefore a signal
    also shortens the window. All ranks must train the same steps: when every rank has the signal,
    rank 0 chooses the last step, about a second ahead, and the others learn it from a file. A rank
    cannot wait for the choice: the other ranks need it to finish their step. Without a choice, the
    window stays whole, and all ranks stop after it.

    Attributes:
      requested: number of the signal that waits; 0 without one.
      waits: whether the first signal waits until the run asks.
    """

    def __init__(self, *, folder: Path | None = None, rank: int = 0, ranks: int = 1) -> None:
        """Stores the arguments.

        Args:
          folder: folder of the run, for ranks.
          rank: number of this process in the run.
          ranks: number of processes in the run.
        """
        self.requested = 0
        self.waits = False
        self._leave: Callable[[int], None] | None = None
        self._folder = folder if ranks > 1 else None
        self._rank, self._ranks = rank, ranks
        self._heard = 0
        self._items: list[Any] = []
        self._left: Iterator[Any] = iter(())
        self._window = -1
        self._margin: int | None = None

    def listen(self, leave: Callable[[int], None]) -> None:
        """Handles the signals of ``INTERRUPTING`` from now on.

        Args:
          leave: ends this process after a signal; called if this process does not return to Python
            within 5 seconds, and inside ``leaving``.
        """
        handle(INTERRUPTING, self._ask)
        arrived, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        watch = threading.Thread(target=self._watch, args=(arrived, leave), daemon=True)
        watch.start()

    def _watch(self, arrived: int, leave: Callable[[int], None]) -> None:
        """Ends the process if its main thread does not handle a signal: it is in foreign code."""
        count = 0
        while number := os.read(arrived, 1):
            if number[0] not in INTERRUPTING:
                continue
            count += 1
            end = time.monotonic() + _DEAF_SECONDS
            while self._heard < count and time.monotonic() < end:
                time.sleep(_LOOK_SECONDS)
            # The first signal of a run that saves waits, also for a long step.
            if self._heard < count and (count > 1 or not self.waits):
                leave(number[0])

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
        self._heard += 1
        if self._leave:
            self._leave(number)
        if not self.waits or self.requested:  # the second signal does not wait
            raise Interrupted(number)
        self.requested = number
        if self._folder:
            heartbeat.note_signal(self._folder, self._rank, number)
        self._shorten()

    def _shorten(self) -> None:
        if self._folder is None:
            del self._items[self._done() :]
        elif self._margin is not None:
            work = self._follow if self._rank else self._choose
            threading.Thread(target=work, args=(self._folder, self._margin), daemon=True).start()

    def _done(self) -> int:
        return len(self._items) - operator.length_hint(self._left)

    def _choose(self, folder: Path, margin: int) -> None:
        """Chooses the last item of all ranks, when all of them have the signal."""
        items, window = self._items, self._window
        while len(heartbeat.signals(folder)) < self._ranks:
            if self._window != window:
                return
            time.sleep(_LOOK_SECONDS)
        last = self._done() + margin
        if self._window == window and last < len(items):
            with contextlib.suppress(FolderError):  # a full disk: all ranks stop after the window
                write_atomically(
                    heartbeat.choice_path(folder), to_json([window, last]), durable=False
                )
                del items[last:]

    def _follow(self, folder: Path, margin: int) -> None:
        """Looks for the choice of rank 0 and stops where rank 0 stops."""
        items, window = self._items, self._window
        while self._window == window:
            with contextlib.suppress(FolderError):  # rank 0 has not chosen yet
                match read_json(heartbeat.choice_path(folder), most=100):
                    case [int(chosen), int(last)] if chosen == window and last >= 0:
                        del items[last:]
                        return
            time.sleep(_LOOK_SECONDS)
