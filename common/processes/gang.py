"""Independent processes of one run: released together, without a framework's communication.

The launcher connects rank 0 with each other rank by a pair of sockets, which the ranks inherit. The
ranks exchange JSON lines over them, and only outside the clocks.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

from isoscale.common.disk.json_files import from_json, to_json

_SOCKETS = "ISOSCALE_GANG"
"""Variable with the numbers of the sockets that a rank inherits."""
_PART = 65536


@contextlib.contextmanager
def connections(count: int) -> Iterator[list[list[socket.socket]]]:
    """Yields the sockets of each rank; the launcher's copies are closed at the end.

    Args:
      count: number of ranks.

    Raises:
      OSError: the operating system refuses.
    """
    with contextlib.ExitStack() as stack:
        ends: list[list[socket.socket]] = [[] for _ in range(count)]
        for rank in range(1, count):
            for owner, end in zip((0, rank), socket.socketpair(), strict=True):
                ends[owner].append(stack.enter_context(end))
        yield ends


def variables(sockets: list[socket.socket]) -> dict[str, str]:
    """Returns the variable that tells a rank about its sockets."""
    return {_SOCKETS: ",".join(str(end.fileno()) for end in sockets)}


def is_connected() -> bool:
    """Returns whether a launcher has connected this process with others."""
    return _SOCKETS in os.environ


class Gang:
    """The ranks of an independent run; it has the methods of ``Ranks``."""

    def __init__(self, sockets: list[socket.socket], *, rank: int):
        """Stores the connections.

        Args:
          sockets: of rank 0: to each other rank, in order; of another rank: to rank 0.
          rank: number of this process, from 0.
        """
        self.rank = rank
        self._peers = sockets
        self._read = dict.fromkeys(sockets, b"")

    @classmethod
    def inherited(cls, *, rank: int) -> "Gang":
        """Returns the gang of this process; its own children do not inherit the sockets.

        Raises:
          KeyError, OSError: the launcher has not connected this process.
        """
        numbers = os.environ.pop(_SOCKETS).split(",")
        sockets = [socket.socket(fileno=int(number)) for number in numbers if number]
        for end in sockets:
            end.set_inheritable(False)
        return cls(sockets, rank=rank)

    def barrier(self) -> None:
        """Returns when every process of the run has called it."""
        self.gather(None)

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, in order of rank, on every process.

        Args:
          value: a JSON value; nothing that crosses processes is unpickled.

        Raises:
          ConnectionError: another process has ended.
        """
        if self.rank:
            self._say(value)
            found: list[Any] = self._hear(self._peers[0])
            return found
        values = [from_json(to_json(value)), *map(self._hear, self._peers)]
        self._say(values)
        return values

    def until_all(self, work: Callable[[], None]) -> None:
        """Calls ``work`` again and again until every process has called this method.

        A process whose window has ended goes on in this way, so that the others never compute
        without it.

        Raises:
          ConnectionError: another process has ended.
        """
        waits_for = set(self._peers)
        if self.rank:
            self._say(None)
        while waits_for:
            ready, _, _ = select.select(list(waits_for), [], [], 0)
            for peer in ready:
                self._hear(peer)
                waits_for.remove(peer)
            if waits_for:
                work()
        if not self.rank:
            self._say(None)

    def close(self) -> None:
        """Waits until every process leaves, then closes the connections."""
        self.barrier()
        for end in self._peers:
            end.close()

    def _say(self, value: Any) -> None:
        line = to_json(value).encode() + b"\n"
        with _ended():
            for peer in self._peers:
                peer.sendall(line)

    def _hear(self, peer: socket.socket) -> Any:
        with _ended():
            while b"\n" not in self._read[peer]:
                part = peer.recv(_PART)
                if not part:
                    raise EOFError
                self._read[peer] += part
        line, _, self._read[peer] = self._read[peer].partition(b"\n")
        return from_json(line.decode())


@contextlib.contextmanager
def _ended() -> Iterator[None]:
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise ConnectionError("another rank of the independent run has ended") from error
