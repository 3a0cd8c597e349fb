"""TCP ports of this machine."""

import socket


def free_port() -> int:
    """Returns a TCP port that is free on loopback; another process may still take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
