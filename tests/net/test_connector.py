from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Iterator

import pytest
from support.dataplane import Net, Recorder, network
from support.processes import child_environment, python

from txlb.core import outcome as outcomes
from txlb.net.connector import Connecting, Receiver, outcome_of
from txlb.net.stream import StreamTransport


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


class Waiting(Receiver):
    """Writes down what it hears; ``inside`` while `begin` runs."""

    def __init__(self) -> None:
        self.protocol = Recorder()
        self.heard: list[int | str] = []
        self.inside = False
        self.error: Exception | None = None

    def connected(self, transport: StreamTransport) -> None:
        assert not self.inside
        self.heard.append("connected")
        transport.take_over(self.protocol)
        if self.error is not None:
            raise self.error

    def connect_failed(self, outcome: int) -> None:
        assert not self.inside
        self.heard.append(outcome)


def begin(net: Net, address: str, port: int, timeout: float = 5.0) -> tuple[Connecting, Waiting]:
    waiting = Waiting()
    connecting = Connecting(net.loop, waiting, 60.0)
    waiting.inside = True
    connecting.begin(address, port, timeout)
    waiting.inside = False
    return connecting, waiting


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def full_port() -> Iterator[int]:
    """A listening socket whose queue is full: a SYN to it is dropped."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as sock:
        address = sock.getsockname()
        callers = []
        for _ in range(3):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(address)
            callers.append(caller)
        yield address[1]
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_connection_comes_about(net: Net, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        _connecting, waiting = begin(net, address, server.getsockname()[1])
        net.run_until(lambda: waiting.heard)
        assert waiting.heard == ["connected"]
        far, _ = server.accept()
        far.sendall(b"hello")
        net.run_until(lambda: waiting.protocol.data)
        assert waiting.protocol.data == b"hello"
        transport = waiting.protocol.transport
        assert isinstance(transport, StreamTransport)
        assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.getPeer().port == server.getsockname()[1]
        net.elapse(60.0)  # its deadline is over and done with
        assert waiting.heard == ["connected"]
        transport.abortConnection()
        net.settle()
        far.close()
    assert waiting.protocol.losses == 1


def test_refused(net: Net, closed_port: int) -> None:
    _, waiting = begin(net, "127.0.0.1", closed_port)
    net.run_until(lambda: waiting.heard)
    net.elapse(60.0)
    assert waiting.heard == [outcomes.CONNECT_REFUSED]
    assert net.loop.handlers == {}


def test_no_answer_within_the_time_out(net: Net, full_port: int) -> None:
    connecting, waiting = begin(net, "127.0.0.1", full_port, 2.0)
    net.elapse(1.5)
    assert waiting.heard == []
    net.elapse(1.0)
    assert waiting.heard == [outcomes.CONNECT_TIMEOUT]
    assert net.loop.handlers == {}
    assert connecting.sock is None


def test_a_failure_known_at_once_is_told_later(net: Net) -> None:
    _, waiting = begin(net, "255.255.255.255", 9)  # a broadcast address: EACCES or ENETUNREACH
    assert waiting.heard == []
    net.settle()
    assert waiting.heard == [outcomes.CONNECT_FAILED]


def test_a_cancelled_attempt_tells_nothing_and_leaves_nothing(net: Net, full_port: int) -> None:
    connecting, waiting = begin(net, "127.0.0.1", full_port)
    connecting.cancel()
    connecting.cancel()
    assert net.loop.handlers == {}
    net.elapse(60.0)
    assert waiting.heard == []


def test_cancelled_though_it_came_through(net: Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting, waiting = begin(net, "127.0.0.1", server.getsockname()[1])
        events = net.epoll.poll(1.0)
        assert events
        connecting.cancel()
        net.loop.dispatch(events)
        net.settle()
    assert waiting.heard == []
    assert net.loop.handlers == {}


def test_cancelled_before_a_failure_known_at_once_is_told(net: Net) -> None:
    connecting, waiting = begin(net, "255.255.255.255", 9)
    connecting.cancel()
    net.settle()
    assert waiting.heard == []


def test_a_receiver_that_raises_loses_that_connection() -> None:
    net = Net()
    with socket.create_server(("127.0.0.1", 0)) as server:
        waiting = Waiting()
        waiting.error = ValueError("broken")
        Connecting(net.loop, waiting, 60.0).begin("127.0.0.1", server.getsockname()[1], 5.0)
        net.run_until(lambda: waiting.heard)
        net.settle()
    assert waiting.heard == ["connected"]
    assert waiting.protocol.losses == 1
    assert net.loop.failures == 1 and net.loop.handlers == {}
    net.close()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (errno.ECONNREFUSED, outcomes.CONNECT_REFUSED),
        (errno.ETIMEDOUT, outcomes.CONNECT_TIMEOUT),
        (errno.EHOSTUNREACH, outcomes.CONNECT_FAILED),
        (errno.ENETUNREACH, outcomes.CONNECT_FAILED),
        (errno.ECONNRESET, outcomes.CONNECT_FAILED),
        (errno.EMFILE, outcomes.UNUSED),
        (errno.ENFILE, outcomes.UNUSED),
        (errno.EADDRNOTAVAIL, outcomes.UNUSED),
        (errno.EAGAIN, outcomes.UNUSED),
    ],
)
def test_what_an_error_says_about_the_backend(code: int, outcome: int) -> None:
    assert outcome_of(code) == outcome


SHORT = """
import os, resource, select
from txlb.core import outcome
from txlb.net.connector import Connecting, Receiver
from txlb.net.loop import Loop

class Waiting(Receiver):
    def connect_failed(self, outcome):
        heard.append(outcome)

heard = []
loop = Loop(select.epoll(), True)
highest = os.dup(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
Connecting(loop, Waiting(), 60.0).begin("127.0.0.1", 9, 1.0)
assert heard == []
loop.run_deferred()
assert heard == [outcome.UNUSED], heard
print("fine")
"""


def test_a_shortage_of_our_own_says_nothing_about_the_backend() -> None:
    done = subprocess.run(
        python("-c", SHORT), env=child_environment(), capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "fine\n", done.stderr


def test_a_preface_is_sent_before_the_receiver_hears(net: Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        waiting = Waiting()
        connecting = Connecting(net.loop, waiting, 60.0)
        connecting.begin("127.0.0.1", server.getsockname()[1], 5.0, b"PROXY UNKNOWN\r\n")
        net.run_until(lambda: waiting.heard)
        assert waiting.heard == ["connected"]
        waiting.protocol.transport.write(b"then this")
        far, _ = server.accept()
        with far:
            far.settimeout(5)
            data = b""
            while len(data) < 24:
                data += far.recv(100)
            assert data == b"PROXY UNKNOWN\r\nthen this"
        waiting.protocol.transport.abortConnection()
        net.settle()


def test_a_preface_that_is_not_taken_is_a_failed_connect(net: Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        waiting = Waiting()
        connecting = Connecting(net.loop, waiting, 60.0)
        connecting.begin("127.0.0.1", server.getsockname()[1], 5.0, bytes(100 << 20))
        net.run_until(lambda: waiting.heard)
        assert waiting.heard == [outcomes.CONNECT_FAILED]
        assert not net.loop.handlers
