from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import support.hosted_echo
from support.dataplane import Net, Peer, Recorder
from support.processes import child_environment, python
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from txlb.net.hosting import EpollDescriptor, HostedLoop
from txlb.net.loop import BATCH, READ, Handler
from txlb.net.scheduling import GROUP
from txlb.net.stream import StreamTransport


def run_hosted(name: str, way: str) -> None:
    script = Path(support.hosted_echo.__file__)
    done = subprocess.run(
        python(str(script), name, way), env=child_environment(), capture_output=True, text=True, timeout=50
    )
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("epoll", "nested"),
        ("asyncio", "nested"),
        ("poll", "fallback"),
        ("select", "fallback"),
        ("epoll", "fallback"),
    ],
)
def test_everything_works_under_a_stock_reactor(name: str, way: str) -> None:
    run_hosted(name, way)


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.005, lambda: None)
    raise AssertionError("the condition does not come about")


@pytest.mark.parametrize("use_epoll", [None, True, False])
@pytest_twisted.ensureDeferred
async def test_an_exception_in_a_handler_leaves_the_rest_running(use_epoll: bool | None) -> None:
    class Broken(Recorder):
        def dataReceived(self, data: bytes) -> None:
            raise ValueError("broken")

    net = Net()  # for its pairs
    hosted = HostedLoop(reactor, use_epoll)
    hosted.start(lambda: None)
    protocols = [Broken(), Recorder()]
    peers: list[Peer] = []
    for protocol in protocols:
        near, peer = net.pair()
        StreamTransport(hosted.loop, near, near.getpeername(), 60.0).start(protocol)
        peers.append(peer)
    for peer in peers:
        peer.sock.send(b"x")
    await until(lambda: protocols[0].losses and protocols[1].data)
    assert hosted.loop.failures == 1
    peers[1].sock.send(b"y")
    await until(lambda: protocols[1].data == b"xy")
    peers[1].finish()
    await until(lambda: "end" in protocols[1].heard)
    protocols[1].transport.loseConnection()
    await until(lambda: protocols[1].losses)
    hosted.stop()
    net.close()


@pytest.mark.parametrize("use_epoll", [True, False])
@pytest_twisted.ensureDeferred
async def test_stopping_leaves_nothing_in_the_reactor(use_epoll: bool) -> None:
    before = {*reactor.getReaders(), *reactor.getWriters()}
    net = Net()
    hosted = HostedLoop(reactor, use_epoll)
    hosted.start(lambda: None)
    near, _ = net.pair()
    transport = StreamTransport(hosted.loop, near, near.getpeername(), 60.0)
    transport.start(Recorder())
    assert {*reactor.getReaders(), *reactor.getWriters()} != before
    hosted.stop()
    assert {*reactor.getReaders(), *reactor.getWriters()} == before
    near.close()
    net.close()


@pytest_twisted.ensureDeferred
async def test_a_tick_that_raises_is_logged_and_the_next_one_comes(logged_failures: list[Failure]) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 1:
            raise ValueError("broken")

    hosted = HostedLoop(reactor)
    hosted.start(tick)
    await until(lambda: len(ticks) > 2)
    hosted.stop()
    assert [failure.type for failure in logged_failures] == [ValueError]
    logged_failures.clear()


@pytest.mark.parametrize(("period", "ticks"), [((), 21), ((1.0,), 3)], ids=["of itself", "as told"])
def test_how_often_it_ticks(period: tuple[float, ...], ticks: int) -> None:
    clock = Clock()
    clock.addReader = clock.removeReader = lambda _: None  # type: ignore[attr-defined]
    seen: list[int] = []
    hosted = HostedLoop(clock)
    hosted.start(lambda: seen.append(1), *period)
    clock.pump([0.05] * 41)
    hosted.stop()
    assert len(seen) == ticks


class Readable(Handler):
    """Always has something to say."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0

    def ready(self, events: int) -> None:
        self.heard += 1


def test_one_wake_up_of_the_reactor_is_one_batch() -> None:
    net = Net()
    handlers = []
    socks = []
    for _ in range(BATCH + 10):
        near, peer = net.pair()
        peer.sock.send(b"x")
        handlers.append(Readable())
        socks.append(near)
        net.loop.add(near.fileno(), handlers[-1], READ)
    descriptor = EpollDescriptor(net.epoll, net.loop)
    assert descriptor.fileno() == net.epoll.fileno()
    descriptor.doRead()
    assert sum(handler.heard for handler in handlers) == BATCH
    descriptor.doRead()
    assert all(handler.heard for handler in handlers)
    for sock in socks:
        sock.close()
    net.close()


def test_who_gives_way_pauses_after_each_group() -> None:
    net = Net()
    handlers = []
    socks = []
    for _ in range(2 * GROUP + 3):
        near, peer = net.pair()
        peer.sock.send(b"x")
        handlers.append(Readable())
        socks.append(near)
        net.loop.add(near.fileno(), handlers[-1], READ)
    heard: list[int] = []
    EpollDescriptor(
        net.epoll, net.loop, lambda: heard.append(sum(handler.heard for handler in handlers))
    ).doRead()
    assert heard == [*range(GROUP, BATCH + 1, GROUP)]
    for sock in socks[GROUP:]:
        net.loop.remove(sock.fileno(), False)
    for sock in socks[: GROUP - 1]:
        net.loop.remove(sock.fileno(), False)
    heard.clear()
    EpollDescriptor(net.epoll, net.loop, lambda: heard.append(0)).doRead()
    assert heard == []
    for sock in socks:
        sock.close()
    net.close()


def test_what_comes_while_a_batch_is_handled_belongs_to_it() -> None:
    net = Net()
    first, peer = net.pair()
    second, other = net.pair()

    class Answering(Handler):
        def ready(self, events: int) -> None:
            first.recv(10)
            other.sock.send(b"x")

    class Reading(Readable):
        def ready(self, events: int) -> None:
            super().ready(events)
            second.recv(10)

    reading = Reading()
    net.loop.add(first.fileno(), Answering(), READ)
    net.loop.add(second.fileno(), reading, READ)
    peer.sock.send(b"x")
    EpollDescriptor(net.epoll, net.loop).doRead()
    assert reading.heard == 1
    for sock in (first, second):
        sock.close()
    net.close()


def test_a_handler_may_end_the_loop() -> None:
    hosted = HostedLoop(reactor, True)
    hosted.start(lambda: None)
    net = Net()
    near, peer = net.pair()

    class Ending(Handler):
        def ready(self, events: int) -> None:
            hosted.stop()

    hosted.loop.add(near.fileno(), Ending(), READ)
    descriptor = hosted._descriptor
    assert descriptor is not None
    peer.sock.send(b"x")
    descriptor.doRead()
    near.close()
    net.close()
