"""Accepting: listening sockets on a `Loop`, under one limit on connections.

Rules:

* At most `ACCEPTS` connections a wake-up and socket, so that a flood of new clients does not
  starve those already here; fewer while they come one by one, so that none is asked for in vain.
* At the limit, and when descriptors run out (EMFILE, ENFILE, ENOBUFS, ENOMEM), every socket
  of the gate leaves the set: nothing spins, nothing queued in the kernel is dropped. The
  gate opens again when a connection closes or after `PAUSE` seconds.
* A connection is counted from here on; an acceptor that raises loses that client only.
* UDP flows (``flows``) are clients too, but have a limit of their own: they cannot keep connections out. A
  socket that still answers after its `Serving.stop` is ``lingering``.
* A listening socket is closed, never shut down: other processes hold copies. Where several watch the same
  one (``unix:`` and ``systemd:`` binds), a new connection wakes one of them (EPOLLEXCLUSIVE), not all.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.net.loop import READ, Handler, Loop
from txlb.net.timers import Timed

ACCEPTS: Final = 32
FULL: Final = 8  # wake-ups in a row that took all they may before the next may take more
PAUSE: Final = 0.2
SOCKET: Final[Any] = socket.SocketType
STREAM: Final[Any] = int(socket.SOCK_STREAM)
EXCLUSIVE: Final = 1 << 28  # EPOLLEXCLUSIVE
SHORTAGE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


@mypyc_attr(allow_interpreted_subclasses=True)
class Acceptor:
    """Who takes the connections of a listener."""

    def accepted(self, sock: Any, peer: Any) -> None:
        """``sock`` is connected to ``peer`` and counted in the gate.

        ``peer`` is as the socket module gives it, or, where a proxy in front told of its client, three
        items: the client's address, its port, and as (address, port) where it connected to.
        """
        raise NotImplementedError


class Gate(Timed):
    """Counts the clients of one worker and pauses its listening sockets at the limit."""

    loop: Loop
    limit: int
    open: int
    pauses: int
    paused: bool
    sockets: list[ListeningSocket]
    flows: int
    flow_limit: int
    lingering: list[Serving]

    def __init__(self, loop: Loop, limit: int) -> None:
        """``limit`` connections at a time."""
        super().__init__()
        self.loop = loop
        self.limit = limit
        self.open = 0
        self.pauses = 0
        self.paused = False
        self.sockets = []
        self.flows = 0
        self.flow_limit = limit
        self.lingering = []

    def set_limit(self, limit: int) -> None:
        """Another limit; raised, it lets in those who wait."""
        self.limit = limit
        if self.paused and self.deadline == 0.0 and self.open < limit:
            self.resume()

    def closed(self) -> None:
        """One connection is gone."""
        self.open -= 1
        if self.paused and self.open < self.limit:
            self.resume()

    def pause(self, seconds: float) -> None:
        """Stop accepting; with ``seconds`` > 0 try again after that."""
        if not self.paused:
            self.paused = True
            self.pauses += 1
            for listening in self.sockets:
                listening.watch(False)
        if seconds > 0.0:
            self.loop.arm(self, seconds)

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            for listening in self.sockets:
                listening.watch(True)

    def timed_out(self, now: float) -> None:
        if self.open < self.limit:
            self.resume()

    def end_lingering(self) -> None:
        """The end of a shutdown: what still answers through stopped sockets is given up."""
        for serving in list(self.lingering):
            serving.end()


@mypyc_attr(allow_interpreted_subclasses=True)
class Serving(Handler):
    """Our copy of one socket of a listener, while we serve it."""

    def start(self) -> None:
        """Begin to take clients."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take no more and close our copy; clients that are here stay."""
        raise NotImplementedError

    def end(self) -> None:
        """Give up what still needs the socket."""


class ListeningSocket(Serving):
    """One bound, listening, non-blocking stream socket."""

    gate: Gate
    acceptor: Acceptor
    sock: Any
    accept: Any
    family: Any
    fd: int
    watched: bool
    turn: int  # connections a wake-up, at most
    full: int  # wake-ups in a row that took so many

    def __init__(self, gate: Gate, acceptor: Acceptor, sock: Any) -> None:
        super().__init__()
        self.gate = gate
        self.acceptor = acceptor
        self.sock = sock
        self.fd = sock.fileno()
        self.watched = False
        self.turn = ACCEPTS
        self.full = 0
        self.accept = sock._accept
        self.family = int(sock.family)
        if self.family in (socket.AF_INET, socket.AF_INET6):
            # Inherited by what is accepted: a system call less per connection.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Begin to accept."""
        self.gate.sockets.append(self)
        if not self.gate.paused:
            self.watch(True)

    def stop(self) -> None:
        """Close our copy."""
        if self.sock is not None:
            self.gate.sockets.remove(self)
            self.watch(False)
            self.sock.close()
            self.sock = None
            self.accept = None

    def watch(self, wanted: bool) -> None:
        """Enter or leave the set."""
        if wanted != self.watched and self.sock is not None:
            self.watched = wanted
            if wanted:
                loop = self.gate.loop
                loop.add(self.fd, self, READ | EXCLUSIVE if loop.forgets_closed else READ)
            else:
                self.gate.loop.remove(self.fd, False)

    def ready(self, events: int) -> None:
        gate = self.gate
        taken = 0
        for _ in range(self.turn):
            if gate.open >= gate.limit:
                gate.pause(0.0)
                return
            if self.sock is None:
                return
            try:
                fd, peer = self.accept()
            except BlockingIOError:
                # Where clients come one by one, asking for another is in vain each time; epoll tells of it.
                self.turn = max(1, taken)
                self.full = 0
                return
            except OSError as why:
                if why.errno in SHORTAGE:
                    gate.pause(PAUSE)
                    return
                continue  # that client is gone already (ECONNABORTED and the like)
            taken += 1
            gate.open += 1
            sock = SOCKET(self.family, STREAM, 0, fd)
            try:
                self.acceptor.accepted(sock, peer)
            except Exception:
                sock.close()
                gate.closed()
                raise
        self.full += 1
        if self.full == FULL:
            self.full = 0
            self.turn = min(ACCEPTS, self.turn * 2)

    def failed(self, why: BaseException) -> None:
        """An acceptor failed on one client; the others are served."""
