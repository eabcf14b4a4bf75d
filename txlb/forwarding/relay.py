"""Relay: bytes both ways between two transports, with half-close.

Rules (the truth table of closing states is docs/life-of-a-request.md):

* What one side sends is written to the other; each side is paused while the other does not
  take it (producers, registered both ways).
* FIN of one side becomes FIN to the other once everything before it is sent; the other
  direction goes on.
* Both directions ended: both transports close in order. One side lost after its FIN: what it
  sent is still delivered to the other, then that is closed too, with FIN even if it has sent
  more by then. Lost before: the other is reset.
* What the kernel moves from one to the other (`Transport.splice_to`) is told by ``client_moved``
  and ``backend_moved``: it counts, and is no silence.
* No byte either way for ``idle_timeout`` seconds: both sides are aborted.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from txlb.net.loop import Loop
from txlb.net.timers import Timed
from txlb.net.transport import Transport


@mypyc_attr(allow_interpreted_subclasses=True)
class RelayOwner:
    """Who wants to know when a relay has ended."""

    def relay_ended(self, timed_out: bool) -> None:
        """Called once."""


class Relay(Timed):
    """Two transports tied together."""

    loop: Loop
    owner: RelayOwner
    client: Transport
    backend: Transport
    idle_timeout: float
    bytes_in: int
    bytes_out: int
    client_done: bool
    backend_done: bool
    backend_broke: bool  # it was lost before its FIN, and that is how the relay ended
    ended: bool

    def __init__(
        self, loop: Loop, owner: RelayOwner, client: Transport, backend: Transport, idle_timeout: float
    ) -> None:
        super().__init__()
        self.loop = loop
        self.owner = owner
        self.client = client
        self.backend = backend
        self.idle_timeout = idle_timeout
        self.bytes_in = 0
        self.bytes_out = 0
        self.client_done = False
        self.backend_done = False
        self.backend_broke = False
        self.ended = False

    def start(self) -> None:
        """Tie them."""
        self.client.discards = self.backend.discards = True
        self.client.registerProducer(self.backend, True)
        self.backend.registerProducer(self.client, True)
        self.loop.arm(self, self.idle_timeout)

    def from_client(self, data: bytes) -> None:
        self.deadline = self.loop.now + self.idle_timeout
        self.bytes_in += len(data)
        self.backend.write(data)

    def from_backend(self, data: bytes) -> None:
        self.deadline = self.loop.now + self.idle_timeout
        self.bytes_out += len(data)
        self.client.write(data)

    def client_moved(self, size: int) -> None:
        """From the client to the backend, unseen."""
        self.deadline = self.loop.now + self.idle_timeout
        self.bytes_in += size

    def backend_moved(self, size: int) -> None:
        """From the backend to the client, unseen."""
        self.deadline = self.loop.now + self.idle_timeout
        self.bytes_out += size

    def client_finished(self) -> None:
        """FIN from the client."""
        self.client_done = True
        self.backend.loseWriteConnection()
        self._check()

    def backend_finished(self) -> None:
        """FIN from the backend."""
        self.backend_done = True
        self.client.loseWriteConnection()
        self._check()

    def client_lost(self) -> None:
        """The client's connection is gone; the backend gets what it had sent."""
        if not self.ended:
            if self.client_done:
                self.backend.loseConnection()
            else:
                self.backend.abortConnection()
            self._end(False)

    def backend_lost(self) -> None:
        """The backend's connection is gone; the client gets what it had sent."""
        if not self.ended:
            if self.backend_done:
                self.client.loseConnection()
            else:
                self.backend_broke = True
                self.client.abortConnection()
            self._end(False)

    def _check(self) -> None:
        if self.client_done and self.backend_done and not self.ended:
            self.client.loseConnection()
            self.backend.loseConnection()
            self._end(False)

    def timed_out(self, now: float) -> None:
        if not self.ended:
            self.client.abortConnection()
            self.backend.abortConnection()
            self._end(True)

    def abort(self) -> None:
        """End both sides now (shutdown)."""
        if not self.ended:
            self.client.abortConnection()
            self.backend.abortConnection()
            self._end(False)

    def _end(self, timed_out: bool) -> None:
        self.ended = True
        self.loop.cancel(self)
        self.client.unregisterProducer()
        self.backend.unregisterProducer()
        self.owner.relay_ended(timed_out)
