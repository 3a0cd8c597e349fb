"""Watches which sockets the descendants of this process listen on."""

import contextlib
import ipaddress
import threading
from types import TracebackType

import psutil

_INTERVAL_SECONDS = 0.05


class Listeners:
    """A context in which every listening socket of a descendant is noted.

    Attributes:
      addresses: the (IP address, port) pairs of all listeners seen so far.
    """

    def __init__(self) -> None:
        self.addresses: set[tuple[str, int]] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Listeners":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    self.addresses |= {
                        (found.laddr.ip, found.laddr.port)
                        for found in process.net_connections(kind="inet")
                        if found.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
                    }

    def outside_loopback(self) -> list[tuple[str, int]]:
        """Returns the listeners that other machines, or every user's network, can reach."""
        return sorted(a for a in self.addresses if not ipaddress.ip_address(a[0]).is_loopback)
