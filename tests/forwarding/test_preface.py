from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from support.dataplane import Lines, Net, Peer, network

from txlb.core.proxy_announcement import Announced, announce, announce_nobody
from txlb.core.proxy_protocol import SIGNATURE
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.listener import Listener
from txlb.forwarding.preface import PrefaceAcceptor
from txlb.net.listener import Acceptor, Gate, ListeningSocket

CLIENT = Announced("192.0.2.7", 4711, "198.51.100.1", 443)
HEADERS = [announce(1, CLIENT), announce(2, CLIENT)]


class Keeping(Acceptor):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, Any]] = []
        self.error: Exception | None = None

    def accepted(self, sock: Any, peer: Any) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append((sock, peer))

    def received(self) -> bytes:
        """What the one connection has to read."""
        ((sock, _),) = self.taken
        try:
            return bytes(sock.recv(65536))
        except BlockingIOError:
            return b""

    @property
    def peer(self) -> Any:
        ((_, peer),) = self.taken
        return peer


class Door:
    """A listener that takes PROXY headers from this machine."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.listener = Listener("web", net.loop, AccessLog(Lines(), "off", "worker-1", time.time))
        self.listener.proxy_protocol = True
        self.listener.trusted = [ip_network("127.0.0.1")]
        self.listener.touched = False
        self.gate = Gate(net.loop, 100)
        self.behind = Keeping()
        self.front = PrefaceAcceptor(self.listener, self.gate, self.behind)

    def connect(self, data: bytes = b"", peer: Any = None) -> Peer:
        near, far = self.net.pair()
        if data:
            far.send(data)
        self.gate.open += 1
        self.front.accepted(near, near.getpeername() if peer is None else peer)
        self.net.settle()
        return far

    @property
    def errors(self) -> int:
        assert self.listener.touched == (self.listener.errors_proxy_protocol > 0)
        return self.listener.errors_proxy_protocol

    def assert_refused(self, far: Peer) -> None:
        self.net.settle()
        assert far.ending
        assert not self.behind.taken
        assert (self.errors, self.gate.open) == (1, 0)
        assert not self.net.loop.handlers


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


@pytest.fixture
def door(net: Net) -> Iterator[Door]:
    door = Door(net)
    yield door
    for sock, _ in door.behind.taken:
        sock.close()


@pytest.mark.parametrize("header", HEADERS)
def test_exactly_the_header_is_taken(door: Door, header: bytes) -> None:
    door.connect(header + b"\r\nGET / HTTP/1.1\r\n")
    assert door.behind.peer == ("192.0.2.7", 4711, ("198.51.100.1", 443))
    assert door.behind.received() == b"\r\nGET / HTTP/1.1\r\n"
    assert (door.errors, door.gate.open) == (0, 1)
    assert not door.net.loop.handlers


@pytest.mark.parametrize("header", HEADERS)
def test_it_may_trickle(door: Door, header: bytes) -> None:
    far = door.connect()
    for octet in header:
        assert not door.behind.taken
        far.send(bytes((octet,)))
        door.net.settle()  # and does not spin
    far.send(b"more")
    assert door.behind.received() == b"more"


@pytest.mark.parametrize(
    "header", [announce_nobody(1), announce_nobody(2), announce(2, Announced("", 0, "", 0))]
)
def test_without_an_address_the_real_one_holds(door: Door, header: bytes) -> None:
    far = door.connect(header)
    assert door.behind.peer == far.sock.getsockname()


def test_a_stranger_is_refused_whatever_he_says(door: Door) -> None:
    far = door.connect(HEADERS[0], ("127.0.0.2", 5000))
    door.assert_refused(far)


def test_a_mapped_address_is_an_ipv4_address(door: Door) -> None:
    door.connect(HEADERS[0], ("::ffff:127.0.0.1", 5000, 0, 0))
    assert door.behind.peer[0] == "192.0.2.7"


def test_who_comes_through_a_unix_socket_may_be_trusted(door: Door) -> None:
    door.listener.trusts_unix = True
    door.connect(HEADERS[0], "")
    assert door.behind.peer[0] == "192.0.2.7"


def test_or_may_not(door: Door) -> None:
    door.assert_refused(door.connect(HEADERS[0], ""))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x21\x11\xff\xff",
        HEADERS[1][:-1] + b"\0",
        b"\x16\x03\x01",
    ],
)
def test_what_is_no_header_is_closed_and_counted(door: Door, data: bytes) -> None:
    door.assert_refused(door.connect(data))


def test_a_header_that_ends_in_the_middle_is_counted(door: Door) -> None:
    far = door.connect(HEADERS[1][:20])
    far.finish()
    door.assert_refused(far)


def test_a_header_that_never_ends_has_a_deadline(door: Door) -> None:
    far = door.connect(HEADERS[1][:5])
    for octet in HEADERS[1][5:8]:
        door.net.elapse(3.0)
        assert not far.ending
        far.send(bytes((octet,)))
    door.net.elapse(2.0)
    door.assert_refused(far)


def test_who_leaves_without_a_word_is_no_error(door: Door) -> None:
    far = door.connect()
    far.finish()
    door.net.settle()
    assert far.ending == "fin"
    other = door.connect()
    other.reset()
    door.net.settle()
    assert (door.errors, door.gate.open) == (0, 0)
    assert not door.net.loop.handlers


def test_without_the_setting_nothing_is_looked_at(door: Door) -> None:
    door.listener.proxy_protocol = False
    door.connect(HEADERS[0], ("127.0.0.2", 5000))
    assert door.behind.received() == HEADERS[0]


def test_an_acceptor_that_raises_loses_that_client_only(door: Door, net: Net) -> None:
    far = door.connect()
    door.behind.error = RuntimeError("no")
    far.send(HEADERS[0])
    net.settle()
    assert far.ending
    assert door.gate.open == 0
    assert net.loop.failures == 1
    net.loop.failures = 0
    net.loop.last_failure = None
    door.behind.error = None
    door.connect(HEADERS[0])
    assert door.behind.taken


def test_who_raises_at_once_is_cleaned_up_after_by_the_listening_socket(net: Net) -> None:
    door = Door(net)
    door.behind.error = RuntimeError("no")
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = server.dup()
        sock.setblocking(False)
        listening = ListeningSocket(door.gate, door.front, sock)
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(HEADERS[0])
            listening.start()
            net.run_until(lambda: net.loop.failures)
            assert client.recv(1) == b""
        assert door.gate.open == 0
        listening.stop()
    net.loop.failures = 0
    net.loop.last_failure = None


def test_the_first_bytes_may_come_with_the_fin(door: Door) -> None:
    near, far = door.net.pair()
    far.send(HEADERS[0] + b"last")
    far.sock.shutdown(socket.SHUT_WR)
    door.gate.open += 1
    door.front.accepted(near, near.getpeername())
    door.net.settle()
    assert door.behind.received() == b"last"
