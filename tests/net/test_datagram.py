"""`txlb.net.datagram`: transports over real sockets, under the test's own hand."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.datagrams import received, udp_socket
from support.dataplane import Net, network
from twisted.internet import reactor
from twisted.internet.task import deferLater

from txlb.net.datagram import BATCH, FULL_TURNS, BoundDatagrams, ConnectedDatagrams, Pace
from txlb.net.hosting import HostedLoop
from txlb.net.sockets import bind_udp


class Port(BoundDatagrams):
    """Writes down what comes; raises on b"boom"."""

    def __init__(self, net: Net, bind: str) -> None:
        (sock,) = bind_udp(bind)
        super().__init__(net.loop, sock)
        self.heard: list[tuple[bytes, Any, bytes]] = []
        self.name = sock.getsockname()

    def received(self, data: bytes, peer: Any, local: bytes) -> None:
        self.heard.append((data, peer, local))
        if data == b"boom":
            raise ValueError("boom")


class Link(ConnectedDatagrams):
    """Writes down what it hears."""

    def __init__(self, net: Net | HostedLoop) -> None:
        super().__init__(net.loop)
        self.heard: list[bytes] = []
        self.codes: list[int] = []

    def received(self, data: bytes) -> None:
        self.heard.append(data)
        if data == b"close":
            self.close()

    def broken(self, code: int) -> None:
        self.codes.append(code)


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as one:
        yield one


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with udp_socket() as one:
        yield one


def test_as_many_are_asked_for_as_come():
    pace = Pace()
    for _ in range(FULL_TURNS):
        assert pace.quota == 1
        pace.met()
    assert pace.quota == 2
    for _ in range(FULL_TURNS * 20):
        pace.met()
    assert pace.quota == BATCH
    pace.fell_short(5)
    assert pace.quota == 5
    pace.fell_short(0)
    assert pace.quota == 1


def test_a_wake_up_has_bounded_work(net: Net, client: socket.socket):
    port = Port(net, "127.0.0.1:0")
    port.start()
    port.pace.quota = BATCH
    for _ in range(BATCH + 10):
        client.sendto(b"x", port.name)
    net.turn()
    assert len(port.heard) == BATCH
    net.settle()
    assert len(port.heard) == BATCH + 10
    port.close()


def test_an_address_of_its_own_needs_no_local_address(net: Net, client: socket.socket):
    port = Port(net, "127.0.0.1:0")
    port.start()
    client.sendto(b"", port.name)
    net.settle()
    assert port.heard == [(b"", client.getsockname(), b"")]
    assert port.source(b"") is None
    assert port.reply(b"", client.getsockname(), None) == 0
    assert received(client) == [(b"", port.name)]
    port.close()


@pytest.mark.parametrize(
    ("bind", "host", "packed"),
    [("0.0.0.0:0", "127.0.0.5", bytes((127, 0, 0, 5))), ("[::]:0", "::1", bytes(15) + b"\1")],
)
def test_a_wildcard_tells_which_address_was_asked(net: Net, bind: str, host: str, packed: bytes):
    port = Port(net, bind)
    port.start()
    with udp_socket("::1" if ":" in host else "127.0.0.1") as client:
        client.sendto(b"?", (host, port.name[1]))
        net.settle()
        ((data, peer, local),) = port.heard
        assert local == packed
        assert port.reply(b"!", peer, port.source(local)) == 0
        ((data, source),) = received(client)
        assert (data, source[:2]) == (b"!", (host, port.name[1]))
    port.close()


def test_one_datagram_that_fails_does_not_stop_the_others(client: socket.socket):
    net = Net()
    port = Port(net, "127.0.0.1:0")
    port.start()
    for data in (b"a", b"boom", b"b"):
        client.sendto(data, port.name)
    net.settle()
    assert [data for data, _, _ in port.heard] == [b"a", b"boom", b"b"]
    assert net.loop.failures == 1
    port.close()
    net.close()


def test_a_paused_port_leaves_datagrams_in_the_queue_and_still_replies(net: Net, client: socket.socket):
    port = Port(net, "127.0.0.1:0")
    port.start()
    port.pause()
    client.sendto(b"?", port.name)
    net.settle()
    assert port.heard == []
    assert port.reply(b"!", client.getsockname(), None) == 0
    port.start()
    net.settle()
    assert len(port.heard) == 1
    port.stop()
    port.stop()


def test_what_cannot_be_sent_is_told_not_raised(net: Net, client: socket.socket):
    port = Port(net, "127.0.0.1:0")
    assert port.reply(b"x" * 65508, client.getsockname(), None) == errno.EMSGSIZE
    assert port.reply(b"x", ("127.0.0.1", 0), None) == errno.EINVAL
    port.close()


def test_copies_of_one_socket_have_one_identity(net: Net):
    port = Port(net, "127.0.0.1:0")
    copy = BoundDatagrams(net.loop, port.sock.dup())
    other = Port(net, "127.0.0.1:0")
    assert port.identity() == copy.identity() != other.identity()
    for one in (port, copy, other):
        one.close()


def test_drops_of_the_kernel_are_counted_from_when_we_have_the_socket(net: Net, client: socket.socket):
    port = Port(net, "127.0.0.1:0")
    port.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(50):
        client.sendto(b"x" * 1000, port.name)
    first = port.take_drops()
    assert 0 < first < 50
    assert port.take_drops() == 0
    copy = BoundDatagrams(net.loop, port.sock.dup())
    assert copy.take_drops() == 0
    client.sendto(b"x" * 1000, port.name)
    assert (port.take_drops(), copy.take_drops()) == (1, 1)
    port.close()
    copy.close()
    assert port.take_drops() == 0


def test_a_link_carries_datagrams_of_any_size_and_hears_its_backend_only(net: Net):
    link = Link(net)
    with udp_socket() as backend, udp_socket() as stranger:
        assert link.open(*backend.getsockname()) == 0
        for data in (b"", b"x", b"y" * 65507):
            assert link.send(data) == 0
        got = received(backend)
        assert [data for data, _ in got] == [b"", b"x", b"y" * 65507]
        assert link.send(b"x" * 65508) == errno.EMSGSIZE
        stranger.sendto(b"not for you", got[0][1])
        for data, flow in got:
            backend.sendto(data, flow)
        net.settle()
        assert link.heard == [b"", b"x", b"y" * 65507]
    link.close()
    link.close()
    assert link.codes == []


def test_a_link_that_is_closed_by_what_it_hears_reads_no_more(net: Net):
    link = Link(net)
    link.pace.quota = 8
    with udp_socket() as backend:
        link.open(*backend.getsockname())
        link.send(b"?")
        ((_, flow),) = received(backend)
        for data in (b"close", b"late"):
            backend.sendto(data, flow)
        net.settle()
    assert link.heard == [b"close"]


def test_a_refusal_is_heard_once_and_closes(net: Net):
    link = Link(net)
    with udp_socket() as backend:
        link.open(*backend.getsockname())
    assert link.send(b"?") == 0
    net.settle()
    assert link.codes == [errno.ECONNREFUSED]
    assert link.sock is None


def test_a_refusal_met_while_sending_is_told_there(net: Net):
    link = Link(net)
    with udp_socket() as backend:
        link.open(*backend.getsockname())
    assert link.send(b"?") == 0
    assert link.send(b"?") == errno.ECONNREFUSED
    link.close()


def test_where_nothing_leads_is_told_at_once(net: Net):
    link = Link(net)
    assert link.open("255.255.255.255", 9) == errno.EACCES  # broadcast
    assert link.sock is None


@pytest_twisted.ensureDeferred
async def test_without_epoll_the_reactor_itself_watches():
    hosted = HostedLoop(reactor, use_epoll=False)
    hosted.start(lambda: None)
    link = Link(hosted)
    with udp_socket() as backend:
        assert link.open(*backend.getsockname()) == 0
        link.send(b"?")
        ((_, flow),) = received(backend)
        backend.sendto(b"!", flow)
        for _ in range(500):
            if link.heard:
                break
            await deferLater(reactor, 0.01)
    assert link.heard == [b"!"]
    link.close()
    hosted.stop()
