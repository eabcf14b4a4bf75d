from __future__ import annotations

from typing import Any

import pytest_twisted
from support.dataplane import Recorder, network
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.testing import StringTransport
from zope.interface import classImplements

from txlb.net.loop import Loop
from txlb.net.transport import (
    ForeignProtocol,
    ForeignTransport,
    StreamProtocol,
    Transport,
    native_protocol,
    native_transport,
)


class EchoOurs(Recorder):
    """One of our protocols: says everything twice, ends when the other side does."""

    def __init__(self, loop: Loop | None = None) -> None:
        super().__init__()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.write(data)
        self.transport.writeSequence([data[:1], data[1:]])

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        self.transport.write(b"!")
        self.transport.loseConnection()

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self.lost.callback(None)


class HalfCloseable(EchoOurs):
    """Twisted's transports ask for the interface."""


classImplements(HalfCloseable, IHalfCloseableProtocol)


def test_what_is_ours_is_not_wrapped() -> None:
    transport, protocol = Transport(), StreamProtocol()
    assert native_transport(transport) is transport
    assert native_protocol(protocol) is protocol


def test_what_is_not_ours_is_wrapped() -> None:
    assert isinstance(native_transport(StringTransport()), ForeignTransport)
    assert isinstance(native_protocol(Protocol()), ForeignProtocol)


def test_our_protocol_on_a_string_transport() -> None:
    foreign = StringTransport()
    protocol = Recorder()
    protocol.makeConnection(foreign)
    transport = protocol.transport
    transport.write(b"a")
    transport.writeSequence([b"b", b"c"])
    assert foreign.value() == b"abc"
    transport.pauseProducing()
    assert foreign.producerState == "paused"
    transport.resumeProducing()
    assert foreign.producerState == "producing"
    transport.registerProducer(protocol, True)
    transport.registerProducer(protocol, True)  # StringTransport would refuse a second one
    assert foreign.producer is protocol
    transport.unregisterProducer()
    transport.unregisterProducer()
    assert foreign.producer is None
    assert not transport.is_backed_up() and not transport.is_stale()
    assert not transport.splice_to(transport, 1 << 20, protocol)
    transport.loseWriteConnection()  # it has none: closing is the nearest
    assert foreign.disconnecting


def test_closing_and_aborting_reach_a_string_transport() -> None:
    protocol = Recorder()
    foreign = StringTransport()
    protocol.makeConnection(foreign)
    protocol.transport.loseConnection()
    assert foreign.disconnecting
    foreign = StringTransport()
    protocol.makeConnection(foreign)
    protocol.transport.abortConnection()
    assert foreign.disconnected


def test_a_protocol_closes_at_the_end_of_input_unless_it_says_otherwise() -> None:
    class Silent(StreamProtocol):
        pass

    foreign = StringTransport()
    protocol = Silent()
    protocol.makeConnection(foreign)
    protocol.readConnectionLost()
    assert foreign.disconnecting


def test_a_foreign_protocol_hears_everything() -> None:
    class Listening(Protocol):
        def __init__(self) -> None:
            self.heard: list[Any] = []

        def connectionMade(self) -> None:
            self.heard.append("made")

        def dataReceived(self, data: bytes) -> None:
            self.heard.append(data)

        def readConnectionLost(self) -> None:
            self.heard.append("end")

        def connectionLost(self, reason: Any = None) -> None:
            self.heard.append("lost")

    protocol = Listening()
    with network() as net:
        transport, peer = net.connect(protocol)
        assert protocol.transport is transport
        peer.send(b"hello")
        net.settle()
        peer.finish()
        net.settle()
        transport.loseConnection()
        net.settle()
    assert protocol.heard == ["made", b"hello", "end", "lost"]


class Client(Protocol):
    """Twisted's side: says something, half-closes, collects."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"hello")
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.data)


class One(Factory):
    """Gives out one protocol."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self.protocol_made = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self.protocol_made


class OneClient(One, ClientFactory):
    pass


@pytest_twisted.ensureDeferred
async def test_our_protocol_on_twisteds_own_transports() -> None:
    ours, client = HalfCloseable(), Client()
    port = reactor.listenTCP(0, One(ours), interface="127.0.0.1")
    reactor.connectTCP("127.0.0.1", port.getHost().port, OneClient(client))
    assert await client.ended == b"hellohello!"
    await ours.lost
    assert ours.data == b"hello"
    assert ours.heard == ["made", "end", "lost"]
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_our_protocol_paces_twisteds_transport() -> None:
    """A producer of ours on Twisted's transport is paused and resumed like any other."""

    class Flood(Recorder):
        def makeConnection(self, transport: Any) -> None:
            super().makeConnection(transport)
            self.transport.registerProducer(self, True)
            self.transport.write(bytes(1 << 22))

        def resumeProducing(self) -> None:
            super().resumeProducing()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

        def connectionLost(self, reason: Any) -> None:
            super().connectionLost(reason)
            lost.callback(None)

    class Sink(Client):
        def connectionMade(self) -> None:
            pass

    ours, client = Flood(), Sink()
    lost: Deferred[None] = Deferred()
    port = reactor.listenTCP(0, One(ours), interface="127.0.0.1")
    reactor.connectTCP("127.0.0.1", port.getHost().port, OneClient(client))
    assert len(await client.ended) == 1 << 22
    await lost
    assert ours.heard == ["made", "pause", "resume", "lost"]
    await port.stopListening()
