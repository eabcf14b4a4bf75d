"""Relay: bytes both ways between two transports, with half-close.

Rules (the truth table of closing states is in docs/tcp.md):

* What one side sends is written to the other; each side is paused while the other does not
  take it (producers, registered both ways).
* FIN of one side becomes FIN to the other once everything before it is sent; the other
  direction goes on.
* Both directions ended: both transports close in order. One side lost after its FIN: what it
  sent is still delivered to the other, which then is closed in stages (`txlb.net.lingering`): what it
  goes on sending nobody takes any more. Lost before: the other is reset.
* A backend's TLS that ends without close_notify is a loss, for nobody knows what is missing: the client gets
  what came, but no end in order.
* It has ended when both transports are gone. What ended it is the first loss that was not in order.
* A direction that fills the largest read is bulk: the kernel moves it (`Transport.splice_to`) as long as it
  is; of that only the size is heard.
* Bytes are counted when they move, on the listener and on the backend.
* No byte either way for ``idle_timeout`` seconds: both sides are aborted.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr
from twisted.internet.error import ConnectionClosed, ConnectionDone

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.errors import SendStalled
from txlb.forwarding.listener import Listener
from txlb.net.lingering import Lingering, close_short
from txlb.net.loop import Loop
from txlb.net.splice import UNBOUNDED
from txlb.net.stream import READ_MAX
from txlb.net.timers import Timed
from txlb.net.transport import StreamProtocol, Transport

IN_ORDER: Final = 0
STALLED: Final = 1
BROKEN: Final = 2
FAULT: Final = 3


@mypyc_attr(allow_interpreted_subclasses=True)
class RelayOwner:
    """Who wants to know when a relay has ended."""

    __slots__ = ()

    def relay_ended(self) -> None:
        """Called once."""


class Relay(Timed):
    """Two transports tied together."""

    loop: Loop
    owner: RelayOwner
    listener: Listener
    server: Backend
    client: Transport
    backend: Transport
    idle_timeout: float
    bytes_in: int
    bytes_out: int
    client_done: bool
    backend_done: bool
    client_gone: bool
    backend_gone: bool
    termination: int  # as in `txlb.core.termination`
    outcome: int  # what it says of the backend
    truncated: bool  # by the backend
    closing: Lingering | None  # the one side that is left
    ended: bool

    def __init__(
        self,
        owner: RelayOwner,
        listener: Listener,
        server: Backend,
        client: Transport,
        backend: Transport,
        idle_timeout: float,
    ) -> None:
        """``client`` came by ``listener``, ``backend`` leads to ``server``."""
        super().__init__()
        self.loop = listener.loop
        self.owner = owner
        self.listener = listener
        self.server = server
        self.client = client
        self.backend = backend
        self.idle_timeout = idle_timeout
        self.bytes_in = 0
        self.bytes_out = 0
        self.client_done = False
        self.backend_done = False
        self.client_gone = False
        self.backend_gone = False
        self.termination = ends.NORMAL
        self.outcome = outcomes.OK
        self.truncated = False
        self.closing = None
        self.ended = False

    def start(self) -> None:
        """Tie them."""
        self.client.registerProducer(self.backend, True)
        self.backend.registerProducer(self.client, True)
        self.loop.arm(self, self.idle_timeout)

    # -- bytes ------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        if self.backend_gone:
            return
        size = len(data)
        self.client_moved(size)
        if self.client.at_end:
            self.backend.write_last(data)
        else:
            self.backend.write(data)
        if size >= READ_MAX:
            self.client.splice_to(self.backend, UNBOUNDED, FromClient(self))

    def from_backend(self, data: bytes) -> None:
        if self.client_gone:
            return
        size = len(data)
        self.backend_moved(size)
        if self.backend.at_end:
            self.client.write_last(data)
        else:
            self.client.write(data)
        if size >= READ_MAX:
            self.backend.splice_to(self.client, UNBOUNDED, FromBackend(self))

    def client_moved(self, size: int) -> None:
        """From the client to the backend."""
        self.deadline = self.loop.now + self.idle_timeout
        self.bytes_in += size
        self.listener.bytes_in += size
        self.listener.touched = True
        self.server.bytes_out += size
        self.server.touch()

    def backend_moved(self, size: int) -> None:
        """From the backend to the client; that the backend sent them is counted where they are read."""
        self.deadline = self.loop.now + self.idle_timeout
        self.bytes_out += size
        self.listener.bytes_out += size
        self.listener.touched = True
        self.server.touch()

    # -- endings ----------------------------------------------------------------------------

    def client_finished(self) -> None:
        """FIN from the client."""
        self.client_done = True
        if self.closing is not None:
            self.closing.finished()
        elif self.backend_done:
            self._close()
        else:
            self.backend.loseWriteConnection()

    def backend_finished(self) -> None:
        """FIN from the backend."""
        if self.backend.is_truncated() and not self.client_gone:
            self._cut_short()
            return
        self.backend_done = True
        if self.closing is not None:
            self.closing.finished()
        elif self.client_done:
            self._close()
        else:
            self.client.loseWriteConnection()

    def _cut_short(self) -> None:
        self.truncated = True
        if self.termination == ends.NORMAL:
            self.termination = ends.BACKEND_TRUNCATED
        self.backend.abortConnection()  # OpenSSL would take no more for it either

    def client_lost(self, why: object) -> None:
        """The client's connection is gone; the backend gets what it had sent if that ended with FIN."""
        if self.client_gone:
            return
        self.client_gone = True
        kind = kind_of(why)
        if kind != IN_ORDER and self.termination == ends.NORMAL:
            if kind == STALLED:
                self.termination = ends.SEND_TIMEOUT
                self.listener.errors_send_timeout += 1
            elif kind == BROKEN:
                self.termination = ends.CLIENT_ABORT_TUNNEL
                self.listener.errors_client_abort += 1
            else:
                self.termination = ends.INTERNAL_ERROR
                self.listener.errors_internal += 1
            self.listener.touched = True
        if self.backend_gone:
            self._end()
        else:
            self._leave(self.backend, self.client_done, self.backend_done)

    def backend_lost(self, why: object) -> None:
        """The backend's connection is gone; the client gets what it had sent if that ended with FIN."""
        if self.backend_gone:
            return
        self.backend_gone = True
        kind = kind_of(why)
        if kind != IN_ORDER and self.termination == ends.NORMAL:
            if kind == STALLED:
                self.termination = ends.BACKEND_SEND_TIMEOUT
                self.outcome = outcomes.TIMEOUT
            elif kind == BROKEN:
                self.termination = ends.BACKEND_RESET_TUNNEL
                if not self.backend_done:
                    self.outcome = outcomes.RESET
            else:
                self.termination = ends.INTERNAL_ERROR
                self.outcome = outcomes.UNUSED
                self.listener.errors_internal += 1
                self.listener.touched = True
        if self.client_gone:
            self._end()
        else:
            self._leave(self.client, self.backend_done, self.client_done)

    def _leave(self, other: Transport, whole: bool, finished: bool) -> None:
        self.loop.cancel(self)  # from here on others see to it that it ends
        if whole and finished:
            other.loseConnection()
        elif whole:
            self.closing = Lingering(self.loop, other)
            self.closing.begin()
        elif self.truncated and other is self.client:
            self.closing = close_short(self.loop, other)
            if finished:
                self.closing.finished()
        else:
            other.abortConnection()

    def _close(self) -> None:
        self.client.loseConnection()
        self.backend.loseConnection()

    def timed_out(self, now: float) -> None:
        self.abort(ends.TUNNEL_IDLE)

    def abort(self, termination: int) -> None:
        """End both sides now; ``termination`` is why, unless it had ended already."""
        if not self.ended:
            if self.termination == ends.NORMAL:
                self.termination = termination
            self.client.abortConnection()
            self.backend.abortConnection()

    def _end(self) -> None:
        self.ended = True
        self.loop.cancel(self)
        if self.closing is not None:
            self.closing.end()
        self.owner.relay_ended()


class FromClient(StreamProtocol):
    """Hears what the kernel moves from the client to the backend."""

    relay: Relay

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay

    def spliced(self, size: int) -> None:
        self.relay.client_moved(size)


class FromBackend(StreamProtocol):
    """Hears what the kernel moves from the backend to the client."""

    relay: Relay

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.relay = relay

    def spliced(self, size: int) -> None:
        self.relay.server.bytes_in += size
        self.relay.backend_moved(size)


def kind_of(why: object) -> int:
    """What the loss of a transport means."""
    if isinstance(why, ConnectionDone):
        return IN_ORDER
    if isinstance(why, SendStalled):
        return STALLED
    return BROKEN if isinstance(why, ConnectionClosed) else FAULT
