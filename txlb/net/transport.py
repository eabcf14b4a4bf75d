"""The seam between transports and protocols, native on both sides.

Rules:

* Ours meet natively: a `StreamProtocol` on a `Transport` costs no attribute lookup by name.
* Anything else is adapted once per connection: `native_transport` puts one of our protocols
  on Twisted's transports and on `StringTransport`, `native_protocol` any Twisted protocol on
  ours. Method names and meanings are Twisted's (`ITCPTransport`, `IProtocol`,
  `IHalfCloseableProtocol`, producers and consumers).
"""

from __future__ import annotations

from typing import Any

from mypy_extensions import mypyc_attr
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from txlb.net.loop import Handler
from txlb.net.timers import Timed


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport(Handler):
    """What a protocol may ask of its connection."""

    pending_size: int  # bytes written that the kernel has not taken yet
    number: int  # of the connection, among those of its loop; 0 = it has none
    opened_at: float  # monotonic seconds
    active_at: float  # when bytes last moved
    taken: int  # bytes received
    given: int  # bytes sent
    at_end: bool  # behind what `dataReceived` is told now, the end of input is here already
    __slots__ = tuple(__annotations__)

    def __init__(self) -> None:
        super().__init__()
        self.pending_size = 0
        self.number = 0
        self.opened_at = 0.0
        self.active_at = 0.0
        self.taken = 0
        self.given = 0
        self.at_end = False

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def write_last(self, data: bytes) -> None:
        """`write` what the end of our output follows in this batch: both may leave as one packet."""
        self.write(data)

    def writeSequence(self, pieces: Any) -> None:
        """Send the pieces as one."""
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        raise NotImplementedError

    def loseWriteConnection(self) -> None:
        raise NotImplementedError

    def abortConnection(self) -> None:
        raise NotImplementedError

    def pauseProducing(self) -> None:
        raise NotImplementedError

    def resumeProducing(self) -> None:
        raise NotImplementedError

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError

    def splice_to(self, sink: Transport, size: int, owner: StreamProtocol) -> bool:
        """Have the next ``size`` bytes moved to ``sink`` by the kernel; False: not here.

        `txlb.net.splice.UNBOUNDED`: as long as it comes in large pieces.
        """
        return False

    def is_backed_up(self) -> bool:
        """The peer does not take what was sent."""
        return self.pending_size > 0

    def undelivered(self) -> int:
        """How many bytes of what was written the peer's kernel does not have, as far as can be told."""
        return self.pending_size

    def end_short(self) -> bool:
        """Half-close, in a way that tells the peer that more should have come; False: only RST can tell."""
        return False

    def local_address(self) -> tuple[str, int]:
        """Where the peer connected to; ("", 0) where that is no IP address."""
        return "", 0

    def is_truncated(self) -> bool:
        """The end of input may not be where the peer meant it (TLS without close_notify)."""
        return False

    def is_stale(self) -> bool:
        """Nobody should use this idle connection: the peer closed it, or spoke unasked."""
        return False


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamProtocol(Timed):
    """What a connection tells."""

    transport: Transport
    __slots__ = tuple(__annotations__)

    def makeConnection(self, transport: Any) -> None:
        """Connected; call this one first when you override it."""
        self.transport = native_transport(transport)

    def dataReceived(self, data: bytes) -> None:
        raise NotImplementedError

    def failed(self, why: BaseException) -> None:
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """End of input; output may go on."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own FIN is sent (only Twisted's transports tell)."""

    def connectionLost(self, reason: Any) -> None:
        """Heard once, last."""

    def spliced(self, size: int) -> None:
        """``size`` bytes more have left our connection towards the sink of `Transport.splice_to`."""

    def splice_ended(self) -> None:
        """All of them have reached the sink; of an unbounded run: what comes next is heard again."""

    def pauseProducing(self) -> None:
        """More than the high-water mark waits: write no more for now."""

    def resumeProducing(self) -> None:
        """Everything is written."""

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` tells."""


class ForeignTransport(Transport):
    """One of Twisted's transports under one of our protocols."""

    foreign: Any

    def __init__(self, foreign: Any) -> None:
        super().__init__()
        self.foreign = foreign

    def write(self, data: bytes) -> None:
        self.foreign.write(data)

    def loseConnection(self) -> None:
        self.foreign.loseConnection()

    def loseWriteConnection(self) -> None:
        half: Any = getattr(self.foreign, "loseWriteConnection", None)
        if half is None:
            self.foreign.loseConnection()
        else:
            half()

    def abortConnection(self) -> None:
        self.foreign.abortConnection()

    def pauseProducing(self) -> None:
        self.foreign.pauseProducing()

    def resumeProducing(self) -> None:
        self.foreign.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if getattr(self.foreign, "producer", None) is None:
            self.foreign.registerProducer(producer, streaming)

    def local_address(self) -> tuple[str, int]:
        host: Any = self.foreign.getHost()
        return str(getattr(host, "host", "")), int(getattr(host, "port", 0))

    def unregisterProducer(self) -> None:
        if getattr(self.foreign, "producer", None) is not None:
            self.foreign.unregisterProducer()


class ForeignProtocol(StreamProtocol):
    """A Twisted protocol on one of our transports."""

    foreign: Any

    def __init__(self, foreign: Any) -> None:
        super().__init__()
        self.foreign = foreign

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.foreign.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.foreign.dataReceived(data)

    def readConnectionLost(self) -> None:
        half: Any = getattr(self.foreign, "readConnectionLost", None)
        if half is None:
            self.transport.loseConnection()
        else:
            half()

    def connectionLost(self, reason: Any) -> None:
        self.foreign.connectionLost(reason)


def native_transport(transport: Any) -> Transport:
    """``transport`` itself if it is ours, else an adapter."""
    if isinstance(transport, Transport):
        return transport
    return ForeignTransport(transport)


def native_protocol(protocol: Any) -> StreamProtocol:
    """``protocol`` itself if it is ours, else an adapter."""
    if isinstance(protocol, StreamProtocol):
        return protocol
    return ForeignProtocol(protocol)


def twisted_address(where: Any) -> Any:
    """Twisted's address of what the socket module tells of one."""
    if not isinstance(where, tuple):
        return UNIXAddress(where or None)
    if len(where) == 4:
        return IPv6Address("TCP", where[0], where[1], where[2], where[3])
    if ":" in where[0]:
        return IPv6Address("TCP", where[0], where[1])  # told by a PROXY header
    return IPv4Address("TCP", where[0], where[1])
