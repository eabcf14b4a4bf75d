"""`txlb.net.handshakes`: bounded in time and number, whatever clients send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dataplane import Net, Peer, Recorder, network
from support.tls import Authority, TlsPeer, spec_of

from txlb.net.handshakes import (
    CERTIFICATE,
    CROWDED_OUT,
    PLAIN_HTTP,
    PROTOCOL,
    STOPPED,
    TIMED_OUT,
    Arrival,
    Handshakes,
    SecureReceiver,
)
from txlb.net.lingering import LINGER_TIME
from txlb.net.listener import Gate
from txlb.net.tls import Handshake, TlsTransport
from txlb.net.tls_contexts import ServerTls


class Door(SecureReceiver):
    """A listener with TLS, in miniature."""

    def __init__(self, net: Net, server: ServerTls, limit: int = 10, words: bytes = b"") -> None:
        self.net = net
        self.server = server
        self.gate = Gate(net.loop, 1000)
        self.crowd = Handshakes(limit)
        self.words = words
        self.kinds: list[int] = []
        self.through: list[Recorder] = []

    def secured(self, transport: TlsTransport, arrival: Arrival) -> None:
        protocol = Recorder()
        self.through.append(protocol)
        transport.take_over(protocol)

    def unsecured(self, kind: int) -> None:
        self.kinds.append(kind)

    def plain_answer(self) -> bytes:
        return self.words

    def arrive(self) -> Peer:
        near, peer = self.net.pair()
        self.gate.open += 1
        handshake = Handshake(self.server.connection(near))
        Arrival(self.gate, self.crowd, self, near, near.getpeername(), 60.0, handshake).start(5.0)
        return peer


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> ServerTls:
    return ServerTls(spec_of(authority.certificate("a.example")), "web", True)


@pytest.fixture
def door(net: Net, server: ServerTls) -> Door:
    return Door(net, server)


def test_the_first_request_may_come_with_the_end_of_the_handshake(
    net: Net, door: Door, authority: Authority
) -> None:
    peer = door.arrive()
    net.peers.remove(peer)
    tls = TlsPeer(peer.sock, authority.client(), "a.example")
    tls.send(b"GET")
    net.peers.append(tls)  # type: ignore[arg-type]
    net.run_until(lambda: door.through and door.through[0].data == b"GET")
    assert door.crowd.arrivals == {}


def test_a_handshake_that_never_ends_is_ended(net: Net, door: Door) -> None:
    silent, trickling = door.arrive(), door.arrive()
    for _ in range(4):
        net.elapse(1.0)
        trickling.send(b"\x16" if not trickling.data else b"\x03")
        net.settle()
    assert door.kinds == []
    net.elapse(1.5)
    assert door.kinds == [TIMED_OUT, TIMED_OUT]
    assert (silent.ending, door.gate.open, door.crowd.arrivals) == ("fin", 0, {})


def test_the_oldest_gives_way(net: Net, server: ServerTls) -> None:
    door = Door(net, server, limit=3)
    peers = [door.arrive() for _ in range(5)]
    net.settle()
    assert door.kinds == [CROWDED_OUT] * 2
    assert [peer.ending for peer in peers] == ["fin", "fin", "", "", ""]
    assert (door.gate.open, len(door.crowd.arrivals)) == (3, 3)
    door.crowd.stop()
    assert door.kinds[2:] == [STOPPED] * 3
    assert door.gate.open == 0


def test_plain_http_gets_an_answer_it_understands(net: Net, server: ServerTls) -> None:
    door = Door(net, server, words=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer = door.arrive()
    peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + bytes(30000))
    net.run_until(lambda: peer.ending)
    assert (peer.data, peer.ending) == (door.words, "fin")
    assert door.kinds == [PLAIN_HTTP]
    peer.finish()
    net.run_until(lambda: door.gate.open == 0)


def test_what_plain_http_goes_on_to_send_is_bounded(net: Net, server: ServerTls) -> None:
    door = Door(net, server, words=b"no")
    stays, floods = door.arrive(), door.arrive()
    stays.send(b"GET / HTTP/1.1\r\n\r\n")
    floods.send(b"GET / HTTP/1.1\r\n" + bytes(100_000))
    net.settle()
    net.elapse(4 * LINGER_TIME)
    assert door.gate.open == 0


def test_without_words_plain_http_is_closed(net: Net, door: Door) -> None:
    peer = door.arrive()
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    net.run_until(lambda: peer.ending)
    assert door.kinds == [PLAIN_HTTP]
    assert door.gate.open == 0


def test_a_missing_client_certificate_is_counted_as_such(net: Net, authority: Authority) -> None:
    spec = spec_of(authority.certificate("a.example"), client_ca=authority.path)
    door = Door(net, ServerTls(spec, "web", True))
    for version in ("1.2", "1.3"):
        peer = door.arrive()
        net.peers.remove(peer)
        tls = TlsPeer(peer.sock, authority.client(version=version), "a.example")
        net.peers.append(tls)  # type: ignore[arg-type]
        net.run_until(lambda tls=tls: tls.ending)
        assert "CERTIFICATE_REQUIRED" in tls.ending or "HANDSHAKE_FAILURE" in tls.ending
    assert door.kinds == [CERTIFICATE, CERTIFICATE]


@pytest.mark.parametrize("way", ["fin", "reset"])
def test_a_client_that_leaves(net: Net, door: Door, way: str) -> None:
    peer = door.arrive()
    peer.send(b"\x16\x03\x01\x02\x00\x01")
    net.settle()
    if way == "fin":
        peer.finish()
    else:
        peer.reset()
    net.run_until(lambda: door.kinds)
    assert door.kinds == [PROTOCOL]
    assert (door.gate.open, door.crowd.arrivals) == (0, {})


@pytest.fixture(scope="module")
def hello(server: ServerTls, authority: Authority) -> bytes:
    """A real ClientHello."""
    with network() as net:
        near, peer = net.pair()
        tls = TlsPeer(near, authority.client(), "a.example")
        tls.poll()
        net.run_until(lambda: peer.data)
        tls.close()
        return peer.data


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_crash_leak_or_spin(server: ServerTls, hello: bytes, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["garbage", "truncated", "mutated", "trailing", "huge"]))
    if kind == "garbage":
        sent = data.draw(st.binary(min_size=1, max_size=600))
    elif kind == "truncated":
        sent = hello[: data.draw(st.integers(1, len(hello) - 1))]
    elif kind == "mutated":
        mutated = bytearray(hello)
        for at in data.draw(st.lists(st.integers(0, len(hello) - 1), min_size=1, max_size=8)):
            mutated[at] ^= data.draw(st.integers(1, 255))
        sent = bytes(mutated)
    elif kind == "trailing":
        sent = hello + data.draw(st.binary(min_size=1, max_size=100))
    else:
        sent = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(100_000)
    at = data.draw(st.integers(0, len(sent)))
    with network() as net:
        door = Door(net, server)
        peer = door.arrive()
        for piece in (sent[:at], sent[at:]):
            if piece:
                peer.send(piece)
            net.settle()  # fails if it never comes to rest
        net.elapse(6.0)
        assert door.gate.open == 0
        assert door.crowd.arrivals == {}
        assert door.through == []
        assert len(door.kinds) == 1
        assert net.loop.handlers == {}
