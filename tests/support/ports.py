"""Free addresses on the loopback interface."""

from __future__ import annotations

import socket


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """A port that nobody had a moment ago. Prefer binding to port 0 where the test can ask what it got."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as one:
        one.bind((host, 0))
        port: int = one.getsockname()[1]
        return port


def listening_socket(host: str = "127.0.0.1", backlog: int = 128) -> socket.socket:
    """A non-blocking TCP socket that listens on a free port; the caller closes it."""
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((host, 0))
    one.listen(backlog)
    one.setblocking(False)
    return one
