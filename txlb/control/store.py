"""Where changes made over the API are kept: a SQLite file, or memory.

Rules:

* What `commit` answered is on disk (WAL, synchronous FULL), whole, whatever happens to the process.
* All SQL but that of `SqliteStore.open` runs in one thread of the store's own, one commit after another.
* `open` refuses what is no store of ours, what is corrupt, in use by another process or cannot be written,
  naming the file. Later failures are errors of that commit alone.
* Commits are numbered by the revision: one that expects another is refused.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from txlb.errors import RevisionMismatch, StoreError
from txlb.interfaces import IStore

Objects = dict[str, Any]
Watcher = Callable[[int, Mapping[str, Any]], None]

APPLICATION_ID = 0x74786C62  # "txlb"
LAYOUT = 1
WAIT_FOR_OTHERS = 2.0  # a predecessor may still be ending
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE objects (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE revision (number INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {LAYOUT};
COMMIT;
"""


@implementer(IStore)
class MemoryStore:
    """Forgets at exit. ``revision``: where to start, so that two lives do not have the same numbers."""

    def __init__(self, revision: int = 0) -> None:
        self._revision = revision
        self._objects: Objects = {}
        self._watchers: list[Watcher] = []

    def open(self) -> None:
        pass

    def load(self) -> Deferred[tuple[int, Objects]]:
        return succeed((self._revision, dict(self._objects)))

    def commit(self, changes: Mapping[str, Any], expected_revision: int) -> Deferred[int]:
        if expected_revision != self._revision:
            return fail(RevisionMismatch(f"the store is at revision {self._revision}"))
        for key, value in changes.items():
            if value is None:
                self._objects.pop(key, None)
            else:
                self._objects[key] = value
        self._revision += 1
        for watcher in self._watchers:
            watcher(self._revision, changes)
        return succeed(self._revision)

    def watch(self, callback: Watcher) -> None:
        self._watchers.append(callback)

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(IStore)
class SqliteStore:
    """The objects in a SQLite file that is ours alone while we run."""

    def __init__(self, path: str, reactor: IReactorThreads) -> None:
        self.path = path
        self._reactor = reactor
        self._database: sqlite3.Connection | None = None
        self._threads = ThreadPool(1, 1, "store")
        self._threads.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self._watchers: list[Watcher] = []

    def open(self) -> None:
        """Blocks: before anything is served. Raises `StoreError`."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"store {self.path}: {error.strerror}") from None
        try:
            self._database = open_database(self.path)
        except ValueError as error:
            raise StoreError(f"store {self.path}: {error}") from error
        self._threads.start()

    def load(self) -> Deferred[tuple[int, Objects]]:
        return self._in_thread(self._load)

    def commit(self, changes: Mapping[str, Any], expected_revision: int) -> Deferred[int]:
        done = self._in_thread(self._commit, changes, expected_revision)
        return done.addCallback(self._tell, changes)

    def watch(self, callback: Watcher) -> None:
        self._watchers.append(callback)

    def close(self) -> Deferred[None]:
        if self._database is None:
            return succeed(None)
        done = self._in_thread(self._database.close)
        self._database = None
        return done.addBoth(self._closed)

    def _load(self) -> tuple[int, Objects]:
        assert self._database is not None
        return _load(self._database)

    def _commit(self, changes: Mapping[str, Any], expected_revision: int) -> int:
        database = self._database
        assert database is not None
        written = [(key, json.dumps(value)) for key, value in changes.items() if value is not None]
        deleted = [(key,) for key, value in changes.items() if value is None]
        database.execute("BEGIN IMMEDIATE")
        try:
            revision: int = _value(database, "SELECT number FROM revision")
            if revision != expected_revision:
                raise RevisionMismatch(f"the store is at revision {revision}")
            database.executemany("DELETE FROM objects WHERE key = ?", deleted)
            database.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?)", written)
            database.execute("UPDATE revision SET number = number + 1")
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return revision + 1

    def _tell(self, revision: int, changes: Mapping[str, Any]) -> int:
        for watcher in self._watchers:
            watcher(revision, changes)
        return revision

    def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        if self._database is None:
            return fail(StoreError(f"store {self.path}: is not open"))
        return deferToThreadPool(self._reactor, self._threads, self._wrapped, work, *arguments)

    def _wrapped(self, work: Callable[..., Any], *arguments: object) -> Any:
        try:
            return work(*arguments)
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"store {self.path}: {_advice(error)}") from error

    def _closed(self, result: Any) -> Any:
        self._threads.stop()
        return result


def open_database(path: str) -> sqlite3.Connection:
    """A file that is there, as a store for us alone. Raises `ValueError`, without the path."""
    database = sqlite3.connect(path, timeout=WAIT_FOR_OTHERS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(database)
        _load(database)
    except (sqlite3.Error, ValueError) as error:
        database.close()
        raise ValueError(_advice(error)) from error
    return database


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    application, layout = (_value(database, f"PRAGMA {name}") for name in ("application_id", "user_version"))
    empty = _value(database, "SELECT count(*) FROM sqlite_master") == 0
    if not empty and application != APPLICATION_ID:
        raise ValueError("is a database of something else than txlb: name another file")
    if not empty and layout != LAYOUT:
        raise ValueError(f"has layout {layout}, this txlb knows {LAYOUT} (is it of a newer one?)")
    if _value(database, "PRAGMA journal_mode = WAL") != "wal":
        raise ValueError("cannot have a write-ahead log there")
    database.execute("PRAGMA synchronous = FULL")
    if empty:
        database.executescript(SCHEMA)
    found = _value(database, "PRAGMA quick_check")
    if found != "ok":
        raise ValueError(f"is corrupt ({found}): put it aside or restore a copy")
    database.execute("BEGIN IMMEDIATE")
    database.execute("UPDATE revision SET number = number")  # shows now, not at the first change
    database.execute("COMMIT")


def _load(database: sqlite3.Connection) -> tuple[int, Objects]:
    rows = database.execute("SELECT key, value FROM objects ORDER BY key")
    objects = {key: json.loads(value) for key, value in rows}
    return _value(database, "SELECT number FROM revision"), objects


def _value(database: sqlite3.Connection, query: str) -> Any:
    return database.execute(query).fetchone()[0]


def _advice(error: Exception) -> str:
    """The error in words that say what to do."""
    text = str(error)
    if isinstance(error, json.JSONDecodeError):
        text = f"malformed value, {text}"
    if "locked" in text:
        return "is in use by another process"
    if "not a database" in text:
        return "is not a SQLite file: put it aside or name another"
    if "malformed" in text:
        return f"is corrupt ({text}): put it aside or restore a copy"
    if "readonly" in text or "unable to open" in text:
        return f"cannot be written ({text})"
    return text
