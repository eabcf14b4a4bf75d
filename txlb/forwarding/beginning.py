"""An accepted connection whose first bytes decide what becomes of it.

Rules:

* It reads the raw socket, before there is a transport or a protocol: what it does not take is left for whom
  the connection is handed on to.
* There is one deadline for all that it waits for, however it trickles.
* It ends in exactly one way: handed on, refused (its subclass counts that), or closed. A peer that leaves
  before its first byte is closed and counts for nothing: monitors do that.
* Until it is handed on it counts at the gate like any other connection; it is closed when txlb stops.
* Who raises when it is handed on loses that connection only.
"""

from __future__ import annotations

from typing import Any

from mypy_extensions import mypyc_attr

from txlb.net.listener import Gate
from txlb.net.loop import READ, Handler


@mypyc_attr(allow_interpreted_subclasses=True)
class Beginning(Handler):
    """See the module; subclasses say what is read, and what comes of it."""

    gate: Gate
    sock: Any
    peer: Any
    fd: int
    watched: bool
    silent: bool

    def __init__(self, gate: Gate, sock: Any, peer: Any) -> None:
        super().__init__()
        self.gate = gate
        self.sock = sock
        self.peer = peer
        self.fd = sock.fileno()
        self.watched = False
        self.silent = True

    # What subclasses do

    def receive(self) -> bytes:
        """One system call that reads, or peeks; OSError as it comes."""
        raise NotImplementedError

    def look(self, data: bytes) -> None:
        """What `receive` gave: go on waiting, `hand_on`, or `refuse`."""
        raise NotImplementedError

    def refused(self) -> None:
        """Count it."""
        raise NotImplementedError

    def pass_on(self, sock: Any) -> None:
        """``sock`` is not ours any more."""
        raise NotImplementedError

    # What they may call

    def begin(self, timeout: float) -> None:
        """What is awaited is often there already; else wait for it, at most ``timeout`` seconds."""
        if self.sock.gettimeout() != 0.0:
            self.sock.setblocking(False)
        self._read()
        if self.sock is not None:
            self.watched = True
            self.gate.loop.add(self.fd, self, READ)
            self.gate.loop.arm(self, timeout)

    def hand_on(self) -> None:
        sock = self.sock
        watched = self.watched
        self._let_go()
        try:
            self.pass_on(sock)
        except Exception:
            if watched:  # else whoever accepted it sees to that
                sock.close()
                self.gate.closed()
            raise

    def refuse(self) -> None:
        """Close, and have it counted."""
        if self.sock is not None:
            self.refused()
            self.close()

    def close(self) -> None:
        """Give it up."""
        sock = self.sock
        if sock is not None:
            self._let_go()
            sock.close()
            self.gate.closed()

    # Events

    def ready(self, events: int) -> None:
        if self.sock is not None:
            self._read()

    def timed_out(self, now: float) -> None:
        self.refuse()

    def failed(self, why: BaseException) -> None:
        self.close()

    def _read(self) -> None:
        try:
            data = self.receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""  # reset
        if data:
            self.silent = False
            self.look(data)
        elif self.silent:
            self.close()
        else:
            self.refuse()

    def _let_go(self) -> None:
        self.gate.loop.cancel(self)
        self.sock = None
        if self.watched:
            self.watched = False
            self.gate.loop.remove(self.fd, False)
