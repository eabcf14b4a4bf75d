"""`txlb.control.changing`: changes, reloads and names wait for each other, and each is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.node import Ready
from twisted.internet.defer import Deferred, DeferredList

from txlb.config.changes import add_backend, drain_backend, remove_backend
from txlb.core.model import TimeoutsSpec
from txlb.errors import ConfigError, IdTaken, RevisionMismatch


@pytest.fixture
def ready(running_reactor: Any, nothing_left: None) -> Iterator[Ready]:
    one = Ready(running_reactor)
    pytest_twisted.blockon(one.node.start())
    yield one
    pytest_twisted.blockon(one.node.stop())
    one.node.close()


def adding(id: str, **more: Any) -> Any:
    body = {"id": id, "host": "127.0.0.1", "port": 9, **more}
    return lambda composed, leaving: add_backend(composed, body, leaving)


@pytest_twisted.ensureDeferred
async def test_a_change_is_published_and_kept_across_reloads(ready: Ready):
    await ready.node.changing.change(adding("n"))
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "n"]
    assert ready.node.snapshot.generation == 2
    ready.change(timeouts=TimeoutsSpec(connect=2.0, shutdown=1.0))
    await ready.node.reload()
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "n"]
    assert ready.node.snapshot.timeouts.connect == 2.0


@pytest_twisted.ensureDeferred
async def test_changes_that_come_together_go_together_each_for_itself(ready: Ready):
    changes = [
        Deferred.fromCoroutine(ready.node.changing.change(adding(id))) for id in ("n", "m", "n", "bad id")
    ]
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
    changes = [Deferred.fromCoroutine(ready.node.changing.change(adding(id), etag)) for id in ("n", "m", "o")]
    results = await DeferredList(changes, consumeErrors=True)
    assert [good for good, _ in results].count(True) == 1
    assert all(why.check(RevisionMismatch) for good, why in results if not good)


@pytest_twisted.ensureDeferred
async def test_whoever_asked_may_go_away(ready: Ready):
    change = Deferred.fromCoroutine(ready.node.changing.change(adding("n")))
    change.addErrback(lambda _: None)
    change.cancel()
    reload = ready.node.reload()
    reload.addErrback(lambda _: None)
    reload.cancel()
    await ready.node.changing.change(adding("m"))
    assert "m" in [one.id for one in ready.node.snapshot.backends]


@pytest_twisted.ensureDeferred
async def test_names_in_changes_are_resolved_and_judged(ready: Ready, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("txlb.control.resolve.first_address", lambda name: "10.0.0.1")
    await ready.node.changing.change(adding("n", host="x.test"), hosts=["x.test"])
    assert ready.node.snapshot.backends[1].address == "10.0.0.1"
    monkeypatch.setattr("txlb.control.resolve.first_address", lambda name: "169.254.169.254")
    with pytest.raises(ConfigError, match="link-local"):
        await ready.node.changing.change(adding("m", host="y.test"), hosts=["y.test"])
    await ready.node.changing.refresh()  # the name moves where it must not
    assert ready.node.snapshot.backends[1].address == ""


@pytest_twisted.ensureDeferred
async def test_another_writer_of_the_store_is_heard(ready: Ready):
    store = ready.node.configuration.store
    entry = {"action": "put", "data": {"host": "127.0.0.1", "port": 9}, "base": "", "aside": False}
    await store.commit({"backend/theirs": entry}, ready.node.configuration.revision)
    await ready.node.changing.change(adding("ours"))
    assert [one.id for one in ready.node.snapshot.backends] == ["a", "ours", "theirs"] or [
        one.id for one in ready.node.snapshot.backends
    ] == ["a", "theirs", "ours"]


@pytest_twisted.ensureDeferred
async def test_a_removed_backend_goes_when_nothing_is_open(ready: Ready):
    await ready.node.changing.change(lambda composed, leaving: remove_backend(composed, "a"))
    assert [one.id for one in ready.node.snapshot.backends] == ["a"]
    assert ready.node.snapshot.rules[0].backends == ()
    assert ready.node.standings.of("a").drained
    assert await ready.node.drains.wait("a", 10.0)
    assert ready.node.snapshot.backends == ()
    assert ready.node.configuration.leaving == {}


@pytest_twisted.ensureDeferred
async def test_a_drain_is_no_new_generation(ready: Ready):
    await ready.node.changing.change(lambda composed, leaving: drain_backend(composed, "a", time.time() + 60))
    assert ready.node.snapshot.generation == 1
    assert ready.node.configuration.revision == 1
    assert ready.node.standings.of("a").drained
    await ready.node.reload()
    assert ready.node.standings.of("a").drained


@pytest_twisted.ensureDeferred
async def test_a_drain_lasts_as_long_when_the_clock_is_set(ready: Ready, monkeypatch: pytest.MonkeyPatch):
    now = time.time()
    monkeypatch.setattr("txlb.control.changing.time.time", lambda: now - 3600.0)  # since txlb was started
    begun = time.monotonic()
    await ready.node.changing.change(
        lambda composed, leaving: drain_backend(composed, "a", now - 3600.0 + 60)
    )
    until = ready.node.drains.until("a")
    assert until is not None and begun + 55 < until < begun + 65
    monkeypatch.setattr("txlb.control.changing.time.time", lambda: now)
    await ready.node.changing.change(adding("n"))
    assert ready.node.drains.until("a") == until
