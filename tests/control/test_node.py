"""`txlb.control.node`: a reload is whole or does not happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.http import get
from support.node import Ready
from support.ports import free_port, listening_socket
from twisted.internet.defer import gatherResults
from twisted.logger import LogEvent, globalLogPublisher

from txlb.control.node import Node
from txlb.core.model import AdminSpec, BackendSpec, ListenerSpec, Snapshot
from txlb.errors import ConfigError, ListenError, NotServing, TxlbError


@pytest.fixture
def ready(running_reactor: Any, nothing_left: None) -> Iterator[Ready]:
    one = Ready(running_reactor)
    pytest_twisted.blockon(one.node.start())
    yield one
    pytest_twisted.blockon(one.node.stop())
    one.node.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if "warning" in event:
            lines.append(event["warning"])

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_the_first_generation_is_one(ready: Ready):
    assert ready.node.serving
    assert (await get(ready.port)).words[2] == "1"


@pytest_twisted.ensureDeferred
async def test_a_reload_publishes_the_next_generation_and_says_what_changed(ready: Ready):
    other = free_port()
    ready.change(listeners=(*ready.file.snapshot.listeners, ListenerSpec("two", (f"127.0.0.1:{other}",))))
    difference = await ready.node.reload()
    assert difference.listeners.added == ("two",)
    assert ready.node.snapshot.generation == 2
    assert (await get(other)).words[2:] == ["2", "two"]
    ready.change(listeners=ready.file.snapshot.listeners[1:])
    await ready.node.reload()
    assert (await get(other)).words[2] == "3"
    with pytest.raises(ConnectionError):
        await get(ready.port)


@pytest_twisted.ensureDeferred
async def test_nothing_changed_is_no_new_generation(ready: Ready):
    assert not await ready.node.reload()
    assert ready.node.snapshot.generation == 1
    assert ready.node.reloads.success == 1


@pytest_twisted.ensureDeferred
async def test_a_bad_file_changes_nothing(ready: Ready):
    before = ready.node.snapshot
    ready.file.snapshot = ConfigError(["lb.yaml:1:1: wrong"])
    with pytest.raises(ConfigError, match="wrong"):
        await ready.node.reload()
    assert ready.node.snapshot == before
    assert (ready.node.reloads.success, ready.node.reloads.failure) == (0, 1)
    assert (await get(ready.port)).words[2] == "1"


@pytest_twisted.ensureDeferred
async def test_a_listener_that_cannot_bind_changes_nothing(ready: Ready):
    free = free_port()
    with listening_socket() as taken:
        binds = (f"127.0.0.1:{free}", f"127.0.0.1:{taken.getsockname()[1]}")
        ready.change(
            listeners=(*ready.file.snapshot.listeners, ListenerSpec("two", binds)),
            backends=(BackendSpec("b", "127.0.0.1", 1, address="127.0.0.1"),),
        )
        with pytest.raises(ListenError):
            await ready.node.reload()
    assert ready.node.snapshot.generation == 1
    assert "b" not in ready.node.scoreboard.columns.backends  # type: ignore[union-attr]
    with pytest.raises(ConnectionError):
        await get(free)
    assert (await get(ready.port)).words[2] == "1"


@pytest_twisted.ensureDeferred
async def test_reloads_happen_one_after_another(ready: Ready):
    reloads = []
    for weight in (2, 3, 4):
        ready.change(backends=(BackendSpec("a", "127.0.0.1", 80, weight, address="127.0.0.1"),))
        reloads.append(ready.node.reload())
    await gatherResults(reloads)
    assert ready.node.snapshot.backends[0].weight == 4
    assert ready.node.snapshot.generation == 2  # the first of them read the file as it was last written


@pytest_twisted.ensureDeferred
async def test_what_only_a_restart_changes_is_said_and_kept(ready: Ready, logged: list[str]):
    ready.change(workers=7, admin=AdminSpec("127.0.0.1:1"), metrics_bind="127.0.0.1:2")
    assert not await ready.node.reload()
    assert ready.node.snapshot.admin.bind == "127.0.0.1:9900"


@pytest_twisted.ensureDeferred
async def test_names_are_resolved_before_they_are_published(ready: Ready, logged: list[str]):
    ready.change(backends=(BackendSpec("a", "localhost", 80), BackendSpec("b", "nothing.invalid", 80)))
    await ready.node.reload()
    resolved = {backend.id: backend.address for backend in ready.node.snapshot.backends}
    assert resolved["a"] in ("127.0.0.1", "::1")
    assert resolved["b"] == ""
    assert logged == ["'nothing.invalid' does not resolve; its backends get no traffic"]
    assert not await ready.node.reload()  # the same file is the same, whatever its names became


@pytest_twisted.ensureDeferred
async def test_an_address_that_moved_is_a_new_generation(ready: Ready, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("txlb.control.resolve.first_address", lambda name: "10.0.0.1")
    ready.change(backends=(BackendSpec("a", "x.test", 80),))
    await ready.node.reload()
    monkeypatch.setattr("txlb.control.resolve.first_address", lambda name: "10.0.0.2")
    await ready.node.changing.refresh()
    assert ready.node.snapshot.backends[0].address == "10.0.0.2"
    assert ready.node.snapshot.generation == 3


@pytest_twisted.ensureDeferred
async def test_without_a_file_there_is_nothing_to_load(running_reactor: Any):
    node = Node(running_reactor, Snapshot(), 0, lambda *_: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(TxlbError, match="no configuration file"):
        await node.reload()


def test_bind_opens_every_listener_or_none(running_reactor: Any):
    free = free_port()
    with listening_socket() as taken:
        binds = (f"127.0.0.1:{free}", f"127.0.0.1:{taken.getsockname()[1]}")
        node = Node(running_reactor, Snapshot(listeners=(ListenerSpec("w", binds),)), 0, lambda *_: None)  # type: ignore[arg-type,return-value]
        with pytest.raises(ListenError):
            node.bind()


@pytest_twisted.ensureDeferred
async def test_while_draining_nothing_is_published(running_reactor: Any):
    one = Ready(running_reactor)
    await one.node.start()
    one.change(backends=())
    reload = one.node.reload()
    stopped = one.node.stop()
    with pytest.raises(NotServing, match="stopping"):
        await reload
    await stopped
    assert one.node.snapshot.generation == 1
    one.node.close()
