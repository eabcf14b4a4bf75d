from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.dataplane import Net, Peer, network
from support.processes import child_environment, python

from txlb.net.listener import ACCEPTS, PAUSE, Acceptor, Gate, ListeningSocket


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


class Keeping(Acceptor):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []
        self.peers: list[Any] = []
        self.error: Exception | None = None

    def accepted(self, sock: Any, peer: Any) -> None:
        self.peers.append(peer)
        if self.error is not None:
            raise self.error
        self.socks.append(sock)


class Hall:
    """A listening socket, its gate, and clients."""

    def __init__(self, net: Net, limit: int, sockets: int = 1) -> None:
        self.net = net
        self.gate = Gate(net.loop, limit)
        self.acceptor = Keeping()
        self.listening: list[ListeningSocket] = []
        self.addresses: list[Any] = []
        self.clients: list[socket.socket] = []
        for _ in range(sockets):
            sock = socket.create_server(("127.0.0.1", 0), backlog=128)
            sock.setblocking(False)
            self.addresses.append(sock.getsockname())
            self.listening.append(ListeningSocket(self.gate, self.acceptor, sock))
            self.listening[-1].start()

    def call(self, count: int = 1, at: int = 0) -> None:
        """Clients connect (the kernel queues them)."""
        for _ in range(count):
            self.clients.append(socket.create_connection(self.addresses[at]))

    def hang_up(self) -> None:
        """One client that was accepted is gone."""
        self.acceptor.socks.pop(0).close()
        self.gate.closed()

    @property
    def served(self) -> int:
        return len(self.acceptor.socks)

    def close(self) -> None:
        for listening in self.listening:
            listening.stop()
        for sock in (*self.acceptor.socks, *self.clients):
            sock.close()


@pytest.fixture
def hall(net: Net) -> Iterator[Any]:
    halls: list[Hall] = []

    def make(limit: int = 1000, sockets: int = 1) -> Hall:
        halls.append(Hall(net, limit, sockets))
        return halls[-1]

    yield make
    for one in halls:
        one.close()


def test_clients_are_accepted_and_counted(net: Net, hall: Any) -> None:
    here = hall()
    here.call(3)
    net.settle()
    assert here.served == here.gate.open == 3
    assert sorted(here.acceptor.peers) == sorted(client.getsockname() for client in here.clients)
    here.clients[0].sendall(b"hello")
    accepted = {sock.getpeername(): sock for sock in here.acceptor.socks}
    assert accepted[here.clients[0].getsockname()].recv(10) == b"hello"


def test_accepted_connections_have_no_delay(net: Net, hall: Any) -> None:
    here = hall()
    here.call()
    net.settle()
    assert here.acceptor.socks[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_flood_is_accepted_in_bounded_portions(net: Net, hall: Any) -> None:
    here = hall()
    here.call(ACCEPTS + 5)
    net.turn()
    assert here.served == ACCEPTS
    net.settle()
    assert here.served == ACCEPTS + 5


def test_at_the_limit_clients_wait_in_the_kernel_and_are_served_later(net: Net, hall: Any) -> None:
    here = hall(limit=2)
    here.call(5)
    net.settle()
    assert here.served == 2
    assert here.gate.pauses == 1
    assert not net.epoll.poll(0), "nothing spins"
    here.hang_up()
    net.settle()
    assert here.served == 2 and here.gate.open == 2
    for _ in range(4):
        here.hang_up()
        net.settle()
    assert len(here.acceptor.peers) == 5


def test_the_limit_counts_every_socket_of_the_gate(net: Net, hall: Any) -> None:
    here = hall(limit=3, sockets=2)
    here.call(2, at=0)
    here.call(2, at=1)
    net.settle()
    assert here.served == here.gate.open == 3
    assert not net.epoll.poll(0)
    here.hang_up()
    net.settle()
    assert here.gate.open == 3


def test_a_limit_that_was_raised_lets_those_in_who_wait(net: Net, hall: Any) -> None:
    here = hall(limit=1)
    here.call(3)
    net.settle()
    assert here.served == 1
    here.gate.set_limit(3)
    net.settle()
    assert here.served == 3


def test_a_limit_that_was_lowered_closes_nobody(net: Net, hall: Any) -> None:
    here = hall(limit=3)
    here.call(4)
    net.settle()
    here.gate.set_limit(1)
    here.hang_up()
    net.settle()
    assert here.gate.open == 2 and len(here.acceptor.peers) == 3
    here.hang_up()
    here.hang_up()
    net.settle()
    assert here.gate.open == 1 and len(here.acceptor.peers) == 4


def test_a_socket_added_while_the_gate_is_closed_waits_too(net: Net, hall: Any) -> None:
    here = hall(limit=1)
    here.call(2)
    net.settle()
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    late = ListeningSocket(here.gate, here.acceptor, sock)
    here.addresses.append(sock.getsockname())
    here.listening.append(late)
    late.start()
    here.call(at=1)
    net.settle()
    assert here.served == 1
    for _ in range(2):
        here.hang_up()
        net.settle()
    assert len(here.acceptor.peers) == 3


def test_a_shortage_pauses_for_a_while(net: Net, hall: Any) -> None:
    here = hall()
    here.gate.pause(PAUSE)
    here.call(2)
    net.settle()
    assert here.served == 0
    here.gate.pause(PAUSE)  # again, from another socket in the same batch
    assert here.gate.pauses == 1
    net.elapse(PAUSE * 2)
    assert here.served == 2


def test_a_pause_at_the_limit_is_not_ended_by_time(net: Net, hall: Any) -> None:
    here = hall(limit=1)
    here.call(2)
    net.settle()
    here.gate.pause(PAUSE)
    net.elapse(PAUSE * 5)
    assert here.served == 1 and here.gate.paused


def test_closing_never_shuts_down(net: Net, hall: Any) -> None:
    """A copy of the socket, as another worker holds it, goes on accepting what is queued and what comes."""
    here = hall()
    copy = here.listening[0].sock.dup()
    here.call()
    here.listening[0].stop()
    assert here.listening[0].sock is None
    here.call()
    net.settle()
    assert here.served == 0
    copy.settimeout(5)
    for _ in range(2):
        copy.accept()[0].close()
    copy.close()


def test_stopping_twice_and_while_paused(net: Net, hall: Any) -> None:
    here = hall(limit=0)
    here.call()
    net.settle()
    assert here.gate.paused
    here.listening[0].stop()
    here.listening[0].stop()
    assert here.gate.sockets == []
    here.gate.set_limit(5)
    net.settle()
    assert net.loop.handlers == {}


def test_a_client_that_left_the_queue_costs_nobody_anything(net: Net, hall: Any) -> None:
    here = hall()
    here.call(2)
    Peer(here.clients[0]).reset()
    net.settle()
    assert here.served >= 1
    here.call()
    net.settle()
    assert here.clients[-1].getsockname() in here.acceptor.peers


def test_an_acceptor_that_raises_loses_one_client_and_no_count() -> None:
    net = Net()
    with closing(net), closing(Hall(net, 10)) as here:
        _an_acceptor_raises(net, here)


def _an_acceptor_raises(net: Net, here: Hall) -> None:
    here.acceptor.error = ValueError("broken")
    here.call(2)
    net.settle()
    assert net.loop.failures == 2
    assert here.gate.open == 0
    far = Peer(here.clients[0])
    net.peers.append(far)
    net.settle()
    assert far.ending
    here.acceptor.error = None
    here.call()
    net.settle()
    assert here.served == here.gate.open == 1


SHORT = """
import os, resource, select, socket, sys
from txlb.net.listener import Acceptor, Gate, ListeningSocket
from txlb.net.loop import Loop

class Keeping(Acceptor):
    def accepted(self, sock, peer):
        kept.append(sock)

kept = []
epoll = select.epoll()
loop = Loop(epoll, True)
gate = Gate(loop, 1000)
sock = socket.create_server(("127.0.0.1", 0), backlog=64)
sock.setblocking(False)
listening = ListeningSocket(gate, Keeping(), sock)
listening.start()
clients = [socket.create_connection(sock.getsockname()) for _ in range(12)]
used = len(os.listdir("/proc/self/fd")) - 1
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (max(os.dup(0), 0) + 5, hard))  # room for four or five more

wakes = 0
for _ in range(50):
    events = epoll.poll(0.002)
    wakes += bool(events)
    loop.dispatch(events)
assert 0 < len(kept) < 12, len(kept)
assert gate.paused and gate.pauses == 1
assert wakes <= 3, wakes  # it does not spin
before = len(kept)

# A connection closes: the next one is taken at once.
kept.pop().close()
gate.closed()
loop.dispatch(epoll.poll(1.0))
assert len(kept) == before and gate.paused, (len(kept), before)

# The shortage ends: after the pause everybody who waits is served.
resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
loop.wheel.advance(loop.now + 1.0)
for _ in range(5):
    loop.dispatch(epoll.poll(0.1))
assert len(kept) == 11 and gate.open == 11, (len(kept), gate.open)
assert not gate.paused and loop.failures == 0
print("fine")
"""


def test_running_out_of_descriptors_pauses_without_spinning_and_drops_nobody() -> None:
    done = subprocess.run(
        python("-c", SHORT), env=child_environment(), capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "fine\n", done.stderr


def test_the_queue_is_served_while_others_hold_the_limit_for_a_moment(net: Net, hall: Any) -> None:
    """Many more clients than the limit, each staying a turn: all get through, in the end."""
    here = hall(limit=4)
    here.call(60)
    deadline = time.monotonic() + 10
    while len(here.acceptor.peers) < 60 or here.acceptor.socks:
        net.turn()
        assert here.gate.open <= 4
        while here.acceptor.socks:
            here.hang_up()
        assert time.monotonic() < deadline


def test_where_clients_come_one_by_one_none_is_asked_for_in_vain(hall: Any) -> None:
    here = hall()
    listening = here.listening[0]
    asked = 0
    accept = listening.accept

    def counting() -> Any:
        nonlocal asked
        asked += 1
        return accept()

    listening.accept = counting
    for _ in range(3):
        here.call()
        here.net.settle()
    assert here.served == 3
    assert asked == 4  # the first time it found that there was no second
    here.call(100)
    here.net.settle()
    assert here.served == 103
    assert listening.turn > 1  # a flood is taken in larger steps again
