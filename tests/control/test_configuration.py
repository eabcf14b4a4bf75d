"""`txlb.control.configuration`: what is in force, what is in the store, and when they may differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail

from txlb.config.changes import add_backend, patch_backend, remove_backend
from txlb.config.overlay import changed
from txlb.control.configuration import Configuration, Draft
from txlb.control.store import MemoryStore
from txlb.core.model import BackendSpec, ListenerSpec, Snapshot
from txlb.errors import StoreError

FILE = Snapshot(
    listeners=(ListenerSpec("web", ("127.0.0.1:8080",)),),
    backends=(BackendSpec("a", "10.0.0.1", 80, address="10.0.0.1"),),
)
NEW = {"id": "n", "host": "10.0.0.2", "port": 80}


class BrokenStore(MemoryStore):
    broken = False

    def commit(self, changes: Any, expected_revision: int) -> Deferred[int]:
        if self.broken:
            return fail(StoreError("no room"))
        return super().commit(changes, expected_revision)


@pytest.fixture
def configuration() -> Configuration:
    return Configuration(FILE, Path(), BrokenStore())


def with_new(configuration: Configuration) -> Draft:
    draft = configuration.draft()
    draft.take(changed(draft.composed, add_backend(draft.composed, NEW)), 0.0)
    return draft


async def change(configuration: Configuration, draft: Draft) -> None:
    await configuration.commit(draft)
    configuration.adopt(draft)


def ids(configuration: Configuration) -> list[str]:
    return [one.id for one in configuration.snapshot.backends]


@pytest_twisted.ensureDeferred
async def test_a_change_is_committed_then_in_force(configuration: Configuration) -> None:
    draft, etag = with_new(configuration), configuration.etag
    assert ids(configuration) == ["a"]
    await change(configuration, draft)
    assert ids(configuration) == ["a", "n"]
    assert configuration.etag != etag
    revision, objects = await configuration.store.load()
    assert (revision, list(objects)) == (1, ["backend/n"])


@pytest_twisted.ensureDeferred
async def test_what_changes_nothing_is_no_commit(configuration: Configuration) -> None:
    draft = configuration.draft()
    draft.take(changed(draft.composed, patch_backend(draft.composed, "a", {})), 0.0)
    await change(configuration, draft)
    assert configuration.revision == 0


@pytest_twisted.ensureDeferred
async def test_what_the_store_refuses_is_not_in_force(configuration: Configuration) -> None:
    configuration.store.broken = True
    with pytest.raises(StoreError, match="no room"):
        await configuration.commit(with_new(configuration))
    assert ids(configuration) == ["a"]
    assert configuration.revision == 0
    configuration.store.broken = False
    await change(configuration, with_new(configuration))
    assert ids(configuration) == ["a", "n"]


@pytest_twisted.ensureDeferred
async def test_somebody_elses_commit_is_an_error(configuration: Configuration) -> None:
    await configuration.store.commit({"x": 1}, 0)
    with pytest.raises(StoreError, match="somebody else"):
        await configuration.commit(with_new(configuration))


@pytest_twisted.ensureDeferred
async def test_another_life_reads_the_same(configuration: Configuration) -> None:
    await change(configuration, with_new(configuration))
    again = Configuration(FILE, Path(), configuration.store)
    draft = Draft(await again.stored(FILE))
    await again.keep(draft)
    again.adopt(draft)
    assert again.snapshot == configuration.snapshot
    assert again.etag == configuration.etag


@pytest_twisted.ensureDeferred
async def test_what_a_file_sets_aside_is_marked_in_the_store(configuration: Configuration) -> None:
    await change(configuration, with_new(configuration))
    theirs = replace(FILE, backends=(*FILE.backends, BackendSpec("n", "10.9.9.9", 1, address="10.9.9.9")))
    draft = configuration.draft()
    draft.take(configuration.with_file(theirs), 0.0)
    await configuration.keep(draft)
    configuration.adopt(draft)
    assert configuration.snapshot.backends == theirs.backends
    assert (await configuration.store.load())[1]["backend/n"]["aside"] is True


@pytest_twisted.ensureDeferred
async def test_a_broken_store_stops_no_reload(configuration: Configuration) -> None:
    await change(configuration, with_new(configuration))
    configuration.store.broken = True
    theirs = replace(FILE, backends=(BackendSpec("n", "10.9.9.9", 1, address="10.9.9.9"),))
    draft = configuration.draft()
    draft.take(configuration.with_file(theirs), 0.0)
    await configuration.keep(draft)
    configuration.adopt(draft)
    assert configuration.composed.snapshot.backends == theirs.backends
    configuration.store.broken = False
    again = configuration.draft()
    again.take(changed(again.composed, patch_backend(again.composed, "n", {"weight": 2})), 0.0)
    await change(configuration, again)  # with what could not be marked then
    assert (await configuration.store.load())[1]["backend/n"]["action"] == "patch"


@pytest_twisted.ensureDeferred
async def test_a_removed_backend_leaves_and_its_store_forgets_it_at_once(
    configuration: Configuration,
) -> None:
    await change(configuration, with_new(configuration))
    draft = configuration.draft()
    draft.take(changed(draft.composed, remove_backend(draft.composed, "n")), 99.0)
    await change(configuration, draft)
    assert ids(configuration) == ["a", "n"]
    assert configuration.leaving["n"].until == 99.0
    assert (await configuration.store.load())[1] == {}
    draft = configuration.draft()
    draft.take(changed(draft.composed, add_backend(draft.composed, {**NEW, "port": 81})), 0.0)
    assert draft.leaving == {}  # it is back


@pytest_twisted.ensureDeferred
async def test_an_entry_that_nobody_can_read_is_an_error(configuration: Configuration) -> None:
    await configuration.store.commit({"backend/n": {"verb": "put"}}, 0)
    with pytest.raises(StoreError, match="backend/n"):
        await configuration.stored(FILE)


def test_the_etag_names_the_file(configuration: Configuration) -> None:
    draft = configuration.draft()
    draft.take(configuration.with_file(replace(FILE, node_id="other")), 0.0)
    before = configuration.etag
    configuration.adopt(draft)
    assert configuration.etag != before
