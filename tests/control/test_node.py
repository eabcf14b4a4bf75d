"""`txlb.control.node`: a reload is whole or does not happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_twisted
from support.http import get
from support.plane import StandInPlane
from support.ports import free_port, listening_socket
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.logger import LogEvent, globalLogPublisher

from txlb.config.changes import add_backend, drain_backend, remove_backend
from txlb.control.local import LocalWorker
from txlb.control.node import Node
from txlb.core.model import AdminSpec, BackendSpec, ListenerSpec, RuleSpec, Snapshot, TimeoutsSpec
from txlb.errors import ConfigError, IdTaken, ListenError, RevisionMismatch, TxlbError


@dataclass
class File:
    """In the place of a configuration file; an exception in ``snapshot`` is raised."""

    snapshot: Any
    warnings: Sequence[str] = ()

    def load(self) -> File:
        if isinstance(self.snapshot, Exception):
            raise self.snapshot
        return self


class Ready:
    """A node with the plane inside, on a free port."""

    def __init__(self, reactor: Any) -> None:
        self.port = free_port()
        snapshot = Snapshot(
            node_id="n",
            listeners=(ListenerSpec("web", (f"127.0.0.1:{self.port}",)),),
            backends=(BackendSpec("a", "127.0.0.1", 80, address="127.0.0.1"),),
            rules=(RuleSpec("r", ("a",)),),
            timeouts=TimeoutsSpec(shutdown=1.0),
        )
        self.file = File(snapshot)

        def fleet(scoreboard: Any, sockets: Any, on_reports: Any) -> LocalWorker:
            return LocalWorker(
                lambda: StandInPlane(reactor, scoreboard.row(0), "worker-1", on_reports), sockets
            )

        self.node = Node(reactor, snapshot, 0, fleet, self.file.load)
        self.node.bind()

    def change(self, **changes: Any) -> None:
        self.file.snapshot = replace(self.file.snapshot, **changes)


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
    await ready.node._refresh()
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
    with pytest.raises(TxlbError, match="stopping"):
        await reload
    await stopped
    assert one.node.snapshot.generation == 1
    one.node.close()


# -- changes over the API ----------------------------------------------------------------------------


def adding(id: str, **more: Any) -> Any:
    body = {"id": id, "host": "127.0.0.1", "port": 9, **more}
    return lambda composed, leaving: add_backend(composed, body, leaving)


@pytest_twisted.ensureDeferred
async def test_a_change_is_published_and_kept_across_reloads(ready: Ready):
    await ready.node.change(adding("n"))
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "n"]
    assert ready.node.snapshot.generation == 2
    ready.change(timeouts=TimeoutsSpec(connect=2.0, shutdown=1.0))
    await ready.node.reload()
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "n"]
    assert ready.node.snapshot.timeouts.connect == 2.0


@pytest_twisted.ensureDeferred
async def test_changes_that_come_together_go_together_each_for_itself(ready: Ready):
    changes = [Deferred.fromCoroutine(ready.node.change(adding(id))) for id in ("n", "m", "n", "bad id")]
    results = await DeferredList(changes, consumeErrors=True)
    assert [good for good, _ in results] == [True, True, False, False]
    assert results[2][1].check(IdTaken)
    assert results[3][1].check(ConfigError)
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "n", "m"]
    assert ready.node.snapshot.generation <= 3
    assert ready.node.configuration.revision == ready.node.snapshot.generation - 1  # one commit each


@pytest_twisted.ensureDeferred
async def test_of_changes_made_for_the_same_configuration_one_is_accepted(ready: Ready):
    etag = ready.node.configuration.etag
    changes = [Deferred.fromCoroutine(ready.node.change(adding(id), etag)) for id in ("n", "m", "o")]
    results = await DeferredList(changes, consumeErrors=True)
    assert [good for good, _ in results].count(True) == 1
    assert all(why.check(RevisionMismatch) for good, why in results if not good)


@pytest_twisted.ensureDeferred
async def test_whoever_asked_may_go_away(ready: Ready):
    change = Deferred.fromCoroutine(ready.node.change(adding("n")))
    change.addErrback(lambda _: None)
    change.cancel()
    reload = ready.node.reload()
    reload.addErrback(lambda _: None)
    reload.cancel()
    await ready.node.change(adding("m"))
    assert "m" in [one.id for one in ready.node.snapshot.backends]


@pytest_twisted.ensureDeferred
async def test_names_in_changes_are_resolved_and_judged(ready: Ready, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("txlb.control.resolve.first_address", lambda name: "10.0.0.1")
    await ready.node.change(adding("n", host="x.test"), hosts=["x.test"])
    assert ready.node.snapshot.backends[1].address == "10.0.0.1"
    monkeypatch.setattr("txlb.control.resolve.first_address", lambda name: "169.254.169.254")
    with pytest.raises(ConfigError, match="link-local"):
        await ready.node.change(adding("m", host="y.test"), hosts=["y.test"])
    await ready.node._refresh()  # the name moves where it must not
    assert ready.node.snapshot.backends[1].address == ""


@pytest_twisted.ensureDeferred
async def test_another_writer_of_the_store_is_heard(ready: Ready):
    store = ready.node.configuration.store
    entry = {"action": "put", "data": {"host": "127.0.0.1", "port": 9}, "base": "", "aside": False}
    await store.commit({"backend/theirs": entry}, ready.node.configuration.revision)
    await ready.node.change(adding("ours"))
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "ours", "theirs"] or [
        one.id for one in ready.node.snapshot.backends
    ] == ["a", "theirs", "ours"]


@pytest_twisted.ensureDeferred
async def test_a_removed_backend_goes_when_nothing_is_open(ready: Ready):
    await ready.node.change(lambda composed, leaving: remove_backend(composed, "a"))
    assert [one.id for one in ready.node.snapshot.backends] == ["a"]
    assert ready.node.snapshot.rules[0].backends == ()
    assert ready.node.standings.of("a").drained
    assert await ready.node.drains.wait("a", 10.0)
    assert ready.node.snapshot.backends == ()
    assert ready.node.configuration.leaving == {}


@pytest_twisted.ensureDeferred
async def test_a_drain_is_no_new_generation(ready: Ready):
    await ready.node.change(lambda composed, leaving: drain_backend(composed, "a", time.time() + 60))
    assert ready.node.snapshot.generation == 1
    assert ready.node.configuration.revision == 1
    assert ready.node.standings.of("a").drained
    await ready.node.reload()
    assert ready.node.standings.of("a").drained
