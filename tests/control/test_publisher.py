"""`txlb.control.publisher`: nothing is published in part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from support.http import get
from support.node import Ready
from support.ports import free_port
from twisted.internet.defer import Deferred

from txlb.control.publisher import Publisher
from txlb.core.model import ListenerSpec, Snapshot
from txlb.errors import StoreError


@pytest.fixture
def ready(running_reactor: Any, nothing_left: None) -> Iterator[Ready]:
    one = Ready(running_reactor)
    pytest_twisted.blockon(one.node.start())
    yield one
    pytest_twisted.blockon(one.node.stop())
    one.node.close()


def publisher_of(ready: Ready) -> Publisher:
    return ready.node._publisher


def with_listener(ready: Ready, port: int) -> Snapshot:
    snapshot = ready.node.snapshot
    return replace(snapshot, listeners=(*snapshot.listeners, ListenerSpec("two", (f"127.0.0.1:{port}",))))


async def nothing() -> None:
    pass


async def broken() -> None:
    raise StoreError("no room")


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_committed_is_not_published(ready: Ready):
    port = free_port()
    before = ready.node.snapshot
    with pytest.raises(StoreError):
        await publisher_of(ready).put_in_force(with_listener(ready, port), broken)
    assert ready.node.snapshot is before
    with pytest.raises(ConnectionError):
        await get(port)
    assert (await get(ready.port)).words[2] == "1"


@pytest_twisted.ensureDeferred
async def test_what_is_the_same_is_committed_and_no_generation(ready: Ready):
    committed: list[int] = []

    async def commit() -> None:
        committed.append(1)

    assert not await publisher_of(ready).put_in_force(ready.node.snapshot, commit)
    assert committed == [1]
    assert ready.node.snapshot.generation == 1


@pytest_twisted.ensureDeferred
async def test_a_worker_that_never_acknowledges_is_not_waited_for(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("txlb.control.publisher.ACKNOWLEDGED_WITHIN", 0.05)
    monkeypatch.setattr(ready.node.fleet, "publish", lambda publication: Deferred())
    port = free_port()
    assert await publisher_of(ready).put_in_force(with_listener(ready, port), nothing)
    assert ready.node.snapshot.generation == 2
