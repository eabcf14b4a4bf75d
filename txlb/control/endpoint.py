"""A control port: where an HTTP server of the control process listens, bound before anything starts."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from txlb.net.sockets import describe, listen_tcp, listen_unix


class _BoundPort(unix.Port):
    """A port on a UNIX socket of `listen_unix`: it has its mode since it was bound, perhaps by root.

    Twisted's own would set the mode, which only the owner may, and could not stop where it may not remove
    the file.
    """

    def startListening(self) -> None:
        tcp._reservedFD.reserve()
        factory: Any = self.factory
        factory.doStart()
        bound: Any = self._preexistingSocket
        self._preexistingSocket = None
        self.socket = bound
        self.connected = True
        self.fileno = bound.fileno  # type: ignore[method-assign]
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        with suppress(OSError):  # the next start replaces it
            os.unlink(self._bindPath)
        tcp.Port.connectionLost(self, reason)


class Endpoint:
    """One bind, ``host:port`` or ``unix:/path``."""

    def __init__(self, bind: str) -> None:
        self._bind = bind
        self._socket: socket.socket | None = None
        self._port: Any = None
        self.address = ""

    def bind(self) -> None:
        """Raises `ListenError`."""
        if self._bind.startswith("unix:"):
            self._socket = listen_unix(self._bind.removeprefix("unix:"))
        else:
            self._socket = listen_tcp(self._bind)[0]
        self.address = describe(self._socket)

    def serve(self, factory: Any, reactor: Any) -> None:
        """Accept connections for ``factory``."""
        assert self._socket is not None
        if self._socket.family == socket.AF_UNIX:
            self._port = _BoundPort._fromListeningDescriptor(reactor, self._socket.fileno(), factory)
            self._port.startListening()
        else:
            self._port = reactor.adoptStreamPort(self._socket.fileno(), self._socket.family, factory)
        self._socket.close()
        self._socket = None

    def stop(self) -> Deferred[None]:
        """Stop listening; a UNIX socket's file goes too."""
        port, self._port = self._port, None
        if self._socket is not None:  # bound, but the start failed elsewhere
            if self._socket.family == socket.AF_UNIX:
                with suppress(OSError):
                    os.unlink(self._socket.getsockname())
            self._socket.close()
            self._socket = None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)
