"""What may be asked of a connected stream socket beside its bytes: addresses, options, its state."""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.net.transport import Transport, twisted_address

PEEK: Final = int(socket.MSG_PEEK)
OUTQ: Final = int(termios.TIOCOUTQ)
NOTHING_QUEUED: Final = bytes(4)


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectedSocket(Transport):
    """One connected, non-blocking stream socket."""

    sock: Any
    fd: int
    handle: Any  # ``fd`` as an object, made once
    peer: Any
    connected: bool
    __slots__ = tuple(__annotations__)

    def __init__(self, sock: Any, peer: Any) -> None:
        super().__init__()
        self.sock = sock
        if sock.gettimeout() != 0.0:
            sock.setblocking(False)
        self.fd = sock.fileno()
        self.handle = self.fd
        self.peer = peer
        self.connected = True

    def is_stale(self) -> bool:
        try:
            self.sock.recv(1, PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def undelivered(self) -> int:
        try:
            queued: bytes = fcntl.ioctl(self.handle, OUTQ, NOTHING_QUEUED)
        except (OSError, TypeError):  # not told of this kind of socket, or closed
            return self.pending_size
        return self.pending_size + int.from_bytes(queued, sys.byteorder)

    def getPeer(self) -> Any:
        """The peer's address."""
        return twisted_address(self.peer)

    def getHost(self) -> Any:
        """Our own address."""
        return twisted_address(self.sock.getsockname())

    def local_address(self) -> tuple[str, int]:
        if not self.connected:
            return "", 0
        peer = self.peer
        # A third item is what a PROXY header said of it (`Acceptor.accepted`).
        where: Any = peer[2] if isinstance(peer, tuple) and len(peer) == 3 else self.sock.getsockname()
        if not isinstance(where, tuple):
            return "", 0
        host: str = where[0]
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        port: int = where[1]
        return host, port

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nagle's algorithm off (it is, already, on everything of ours)."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Let the kernel probe a silent peer."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)
