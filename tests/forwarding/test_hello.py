from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.dataplane import Net, Peer, network
from support.hello import client_hello

from txlb.core.client_hello import UNRECOGNIZED_NAME
from txlb.forwarding.hello import Hello, HelloReceiver
from txlb.net.listener import Gate


class Desk(HelloReceiver):
    """Serves a.example, and those who do not say."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.gate = Gate(net.loop, 100)
        self.taken: list[tuple[Any, bytes, bytes]] = []
        self.errors = 0

    def connect(self, data: bytes = b"") -> Peer:
        near, far = self.net.pair()
        if data:
            far.send(data)
        self.gate.open += 1
        Hello(self.gate, self, near, near.getpeername()).begin(5.0)
        self.net.settle()
        return far

    def greeted(self, sock: Any, peer: Any, server_name: bytes, early: bytes) -> bool:
        if server_name not in (b"a.example", b""):
            return False
        self.taken.append((sock, server_name, early))
        return True

    def ungreeted(self) -> None:
        self.errors += 1

    def assert_closed(self, far: Peer, errors: int) -> None:
        self.net.settle()
        assert far.ending
        assert not self.taken
        assert (self.errors, self.gate.open) == (errors, 0)
        assert not self.net.loop.handlers


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


@pytest.fixture
def desk(net: Net) -> Iterator[Desk]:
    desk = Desk(net)
    yield desk
    for sock, _, _ in desk.taken:
        sock.close()


@pytest.mark.parametrize("name", ["a.example", None])
def test_every_byte_is_passed_on(desk: Desk, name: str | None) -> None:
    data = client_hello(name)
    far = desk.connect(data + b"early data")
    ((sock, server_name, early),) = desk.taken
    assert server_name == (name or "").encode()
    assert early == data + b"early data"
    far.send(b"more")
    desk.net.settle()
    assert sock.recv(100) == b"more"
    assert desk.gate.open == 1


def test_it_may_trickle(desk: Desk) -> None:
    data = client_hello("a.example")
    far = desk.connect()
    for octet in data:
        assert not desk.taken
        far.send(bytes((octet,)))
        desk.net.settle()
    ((_, _, early),) = desk.taken
    assert early == data


def test_a_name_that_nobody_serves_gets_an_alert(desk: Desk) -> None:
    far = desk.connect(client_hello("b.example"))
    desk.assert_closed(far, 0)
    assert far.data == UNRECOGNIZED_NAME


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x03\x01", b"\x16\x03\x01\x00\x00"]
)
def test_what_is_no_client_hello_is_closed_and_counted(desk: Desk, data: bytes) -> None:
    desk.assert_closed(desk.connect(data), 1)


def test_one_that_ends_in_the_middle_is_counted(desk: Desk) -> None:
    far = desk.connect(client_hello("a.example")[:100])
    far.finish()
    desk.assert_closed(far, 1)


def test_one_that_never_ends_has_a_deadline(desk: Desk) -> None:
    far = desk.connect(client_hello("a.example")[:100])
    desk.net.elapse(3.0)
    far.send(b"\0")
    desk.net.elapse(1.5)
    assert not far.ending
    desk.net.elapse(1.0)
    desk.assert_closed(far, 1)


def test_who_leaves_without_a_word_is_no_error(desk: Desk) -> None:
    far = desk.connect()
    far.finish()
    desk.assert_closed(far, 0)
