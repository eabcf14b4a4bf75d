"""`txlb.control.store`: what is committed is there, whole; what cannot be is a clear error."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.processes import child_environment, python
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from txlb.control.store import MemoryStore, SqliteStore
from txlb.errors import RevisionMismatch, StoreError
from txlb.interfaces import IStore

Opened = Callable[[], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def sqlite(running_reactor: Any, nothing_left: None, path: Path) -> Iterator[Callable[[], SqliteStore]]:
    stores: list[SqliteStore] = []

    def opened() -> SqliteStore:
        stores.append(SqliteStore(str(path), running_reactor))
        stores[-1].open()
        return stores[-1]

    yield opened
    for store in stores:
        pytest_twisted.blockon(store.close())


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, sqlite: Callable[[], SqliteStore]) -> Any:
    return MemoryStore() if request.param == "memory" else sqlite()


@pytest_twisted.ensureDeferred
async def test_it_begins_empty(store: Any):
    assert verifyObject(IStore, store)
    assert await store.load() == (0, {})


@pytest_twisted.ensureDeferred
async def test_commits_are_numbered_and_kept(store: Any):
    assert await store.commit({"a": {"x": [1, None]}, "b": 2}, 0) == 1
    assert await store.commit({"b": None, "c": "é", "nothing": None}, 1) == 2
    assert await store.load() == (2, {"a": {"x": [1, None]}, "c": "é"})


@pytest_twisted.ensureDeferred
async def test_another_revision_is_refused_and_changes_nothing(store: Any):
    await store.commit({"a": 1}, 0)
    with pytest.raises(RevisionMismatch, match="revision 1"):
        await store.commit({"a": 2}, 0)
    assert await store.load() == (1, {"a": 1})


@pytest_twisted.ensureDeferred
async def test_watchers_hear_of_every_commit(store: Any):
    heard: list[Any] = []
    store.watch(lambda revision, changes: heard.append((revision, dict(changes))))
    await store.commit({"a": 1}, 0)
    await store.commit({"a": None}, 1)
    assert heard == [(1, {"a": 1}), (2, {"a": None})]


@pytest_twisted.ensureDeferred
async def test_commits_happen_one_after_another(sqlite: Callable[[], SqliteStore]):
    store = sqlite()
    assert await gatherResults([store.commit({str(n): n}, n) for n in range(20)]) == list(range(1, 21))


@pytest_twisted.ensureDeferred
async def test_it_is_all_there_the_next_time(sqlite: Callable[[], SqliteStore], path: Path):
    store = sqlite()
    await store.commit({"a": 1}, 0)
    await store.close()
    again = sqlite()
    assert await again.load() == (1, {"a": 1})
    assert path.stat().st_mode & 0o777 == 0o600


@pytest_twisted.ensureDeferred
async def test_after_its_end_a_commit_fails(sqlite: Callable[[], SqliteStore]):
    store = sqlite()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await store.commit({"a": 1}, 0)


# -- what is refused at start ------------------------------------------------------------------------


def refused(path: Path, reactor: Any) -> str:
    with pytest.raises(StoreError) as raised:
        SqliteStore(str(path), reactor).open()
    assert str(raised.value).startswith(f"store {path}: ")
    return str(raised.value)


def test_text_is_no_store(path: Path, running_reactor: Any):
    path.write_text("listeners: []\n" * 1000)
    assert "is not a SQLite file" in refused(path, running_reactor)


def test_the_database_of_another_program_is_no_store(path: Path, running_reactor: Any):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE songs (name)")
    other.close()
    assert "something else than txlb" in refused(path, running_reactor)


@pytest_twisted.ensureDeferred
async def test_a_newer_layout_is_refused(sqlite: Callable[[], SqliteStore], path: Path, running_reactor: Any):
    await sqlite().close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    assert "layout 7" in refused(path, running_reactor)


@pytest_twisted.ensureDeferred
async def test_a_corrupt_file_is_refused(sqlite: Callable[[], SqliteStore], path: Path, running_reactor: Any):
    store = sqlite()
    await store.commit({str(n): "x" * 2000 for n in range(100)}, 0)
    await store.close()
    with path.open("r+b") as file:
        for page in range(2, 20):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    assert "is corrupt" in refused(path, running_reactor)


@pytest_twisted.ensureDeferred
async def test_a_value_that_is_no_json_is_refused(
    sqlite: Callable[[], SqliteStore], path: Path, running_reactor: Any
):
    await sqlite().close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO objects VALUES ('a', '{')")
    other.close()
    assert "Expecting property name" in refused(path, running_reactor)


def test_a_missing_folder_is_named(tmp_path: Path, running_reactor: Any):
    assert "No such file or directory" in refused(tmp_path / "none" / "store.db", running_reactor)


def test_a_folder_is_no_store(tmp_path: Path, running_reactor: Any):
    assert "Is a directory" in refused(tmp_path, running_reactor)


def test_a_store_in_use_is_refused(sqlite: Callable[[], SqliteStore], path: Path, running_reactor: Any):
    sqlite()
    assert "in use by another process" in refused(path, running_reactor)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may write what is read-only: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest_twisted.ensureDeferred
async def test_a_read_only_file_is_refused(
    sqlite: Callable[[], SqliteStore], path: Path, tmp_path: Path, running_reactor: Any
):
    await sqlite().close()
    path.chmod(0o444)
    with ordinary_user():
        if os.access(tmp_path, os.X_OK, effective_ids=True):
            assert "Permission denied" in refused(path, running_reactor)


# -- later -------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_full_disk_fails_that_commit_alone(sqlite: Callable[[], SqliteStore]):
    store = sqlite()
    await store.commit({"a": 1}, 0)
    database = store._database
    assert database is not None
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        await store.commit({"b": "x" * 100_000, "c": 1}, 1)
    assert await store.load() == (1, {"a": 1})
    database.execute("PRAGMA max_page_count = 100000")
    assert await store.commit({"b": "x" * 100_000}, 1) == 2


WRITER = """
import sys
from twisted.internet import reactor
from txlb.control.store import SqliteStore

store = SqliteStore(sys.argv[1], reactor)
store.open()

def next_one(revision):
    print(revision, flush=True)
    done = store.commit({"first": revision, "second": revision, f"all-{revision}": 1}, revision)
    done.addCallback(next_one)

store.load().addCallback(lambda loaded: next_one(loaded[0]))
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_what_was_answered_survives_kill_9(
    sqlite: Callable[[], SqliteStore], path: Path, tmp_path: Path
):
    answered = 0
    for moment in range(int(os.environ.get("TXLB_TEST_KILLS", "5"))):
        path_said = tmp_path / f"said-{moment}"
        with path_said.open("w") as output:
            writer = subprocess.Popen(python("-c", WRITER, str(path)), stdout=output, env=child_environment())
        try:
            while len(path_said.read_text().split()) < 3 + moment * 7 % 20:
                assert writer.poll() is None
        finally:
            writer.kill()
            writer.wait()
        answered = int(path_said.read_text().rpartition("\n")[0].split()[-1])
        store = sqlite()
        revision, objects = await store.load()
        assert revision in (answered, answered + 1)
        assert objects["first"] == objects["second"] == revision - 1
        assert {f"all-{number}" for number in range(revision)} <= set(objects)
        await store.close()
