"""`txlb.control.local`: ``workers: 0`` offers what child processes offer, without any."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from support.http import get
from support.plane import StandInPlane
from support.processes import pause
from twisted.internet.defer import Deferred

from txlb.control.fleet import Publication
from txlb.control.listening import ListeningSockets, binds_of
from txlb.control.local import LocalWorker
from txlb.control.scoreboard import Scoreboard
from txlb.core.model import ListenerSpec, Snapshot

Port = Callable[[str], int]


class Local:
    def __init__(self, reactor: Any) -> None:
        self.snapshot = Snapshot(generation=1, listeners=(ListenerSpec("web", ("127.0.0.1:0",)),))
        self.sockets = ListeningSockets(1)
        self.scoreboard = Scoreboard(self.snapshot, 1)
        row = self.scoreboard.row(0)
        self.worker = LocalWorker(lambda: StandInPlane(reactor, row, "worker-1"), self.sockets)
        self.worker.start()

    def publish(self, **changes: Any) -> Deferred[None]:
        self.snapshot = replace(self.snapshot, **changes)
        self.sockets.open(binds_of(self.snapshot))
        return self.worker.publish(Publication(self.snapshot, self.scoreboard.columns))

    def address(self, bind: str) -> tuple[str, int]:
        host, _, port = self.sockets.addresses(bind).rpartition(":")
        return host, int(port)


@pytest.fixture
def local(running_reactor: Any, nothing_left: None) -> Iterator[Local]:
    one = Local(running_reactor)
    yield one
    one.worker.kill()
    pytest_twisted.blockon(one.worker.shutdown(0) if one.worker.up()[0] else pause_briefly())
    one.sockets.close()
    one.scoreboard.close()


def pause_briefly() -> Deferred[None]:
    return Deferred.fromCoroutine(pause(0.02))


@pytest_twisted.ensureDeferred
async def test_it_serves_what_is_published_and_says_so(local: Local):
    assert local.worker.up() == [True]
    await local.publish()
    assert (await get(local.address("127.0.0.1:0"))).words[2:] == ["1", "web"]
    assert local.worker.acknowledged() == 1


@pytest_twisted.ensureDeferred
async def test_listeners_come_go_and_change_their_binds(local: Local):
    await local.publish()
    first = local.address("127.0.0.1:0")
    await local.publish(generation=2, listeners=(ListenerSpec("web", ("127.0.0.2:0",)),))
    local.sockets.close(["127.0.0.1:0"])
    assert (await get(local.address("127.0.0.2:0"))).words[2] == "2"
    with pytest.raises(ConnectionError):
        await get(first)
    second = local.address("127.0.0.2:0")
    await local.publish(generation=3, listeners=())
    local.sockets.close()
    with pytest.raises(ConnectionError):
        await get(second)


@pytest_twisted.ensureDeferred
async def test_connections_are_listed_and_shutdown_waits_for_requests(local: Local):
    await local.publish()
    address = local.address("127.0.0.1:0")
    with socket.create_connection(address):
        await pause(0.05)
        assert len(await local.worker.connections(0, 0, 10)) == 1
    slow = Deferred.fromCoroutine(get(address, "/slow"))
    await pause(0.1)
    done = local.worker.shutdown(3.0)
    assert not done.called
    assert (await slow).fields["connection"] == "close"
    await done
    assert local.worker.up() == [False]
