"""`txlb.control.written`: what ``--check`` finds out about store and access log, and changes nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.processes import Program, child_environment, python

from txlb.control import written
from txlb.control.store import open_database
from txlb.control.written import unusable
from txlb.core.model import AccessLogSpec, Snapshot

#: Opens the store of its argument, does what the next one says, and goes without a word to SQLite.
STORE = """
import os, sys, time
from txlb.control.store import open_database
database = open_database(sys.argv[1])
database.execute("INSERT INTO objects VALUES ('a', ?)", (sys.argv[2],))
print("ready", flush=True)
time.sleep(float(sys.argv[3]))
os._exit(0)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others may look into; pytest's are for its user only."""
    with TemporaryDirectory(prefix="txlb-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write everything: be somebody else."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be somebody else")
    os.seteuid(65534)
    yield
    os.seteuid(0)


def found(store: Path | None = None, log: Path | str = "-", format: str = "json") -> list[tuple[str, str]]:
    snapshot = replace(
        Snapshot(), store=None if store is None else str(store), access_log=AccessLogSpec(str(log), format)
    )
    return [(".".join(map(str, one.path)), one.message) for one in unusable(snapshot)]


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {one.name: (one.read_bytes(), one.stat().st_mtime_ns) for one in folder.iterdir()}


def test_what_is_not_there_yet_is_fine_and_not_made(folder: Path):
    assert found(folder / "store.db", folder / "access.log") == []
    assert found() == []
    assert state(folder) == {}


def test_a_missing_folder(folder: Path):
    where = folder / "none"
    problem = f"there is no folder {where}: make it"
    assert found(where / "store.db", where / "log") == [("access_log.path", problem), ("store", problem)]
    assert found(log=where / "log", format="off") == []


def test_a_folder_is_neither(folder: Path):
    (_, log), (_, store) = found(folder, folder)
    assert log == f"{folder} is a folder: name a file in it"
    assert store == f"{folder} cannot be written: Is a directory"


def test_a_folder_that_may_not_be_written(folder: Path, ordinary_user: None):
    problem = f"the folder {folder} cannot be written: give it to the user that runs txlb"
    assert found(folder / "s", folder / "log") == [("access_log.path", problem), ("store", problem)]


def test_files_that_may_not_be_written(folder: Path, request: pytest.FixtureRequest):
    open_database(str(folder / "store.db")).close()
    (folder / "log").touch(0o644)
    folder.chmod(0o777)
    request.getfixturevalue("ordinary_user")
    assert found(folder / "store.db", folder / "log") == [
        ("access_log.path", f"{folder}/log cannot be written: give it to the user that runs txlb"),
        ("store", f"{folder}/store.db cannot be written: Permission denied"),
    ]
    (log := folder / "mine").touch(0o600)
    assert found(log=log) == []


def test_a_log_that_is_a_pipe_is_not_waited_for(folder: Path):
    os.mkfifo(folder / "pipe")
    assert found(log=folder / "pipe") == []
    assert found(folder / "pipe") == [("store", f"{folder}/pipe is not a file: name another")]


def test_a_good_store_is_left_alone(folder: Path):
    open_database(str(folder / "store.db")).close()
    before = state(folder)
    assert found(folder / "store.db") == []
    assert state(folder) == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"listeners: []\n" * 1000, "is not a SQLite file: put it aside or name another"),
        (b"SQLite format 3\0" + bytes(5000), "is not a SQLite file: put it aside or name another"),
    ],
)
def test_a_bad_store_is_told_and_left_alone(folder: Path, content: bytes, why: str):
    (folder / "store.db").write_bytes(content)
    before = state(folder)
    assert found(folder / "store.db") == [("store", f"{folder}/store.db {why}")]
    assert state(folder) == before


def test_the_store_of_another_program(folder: Path):
    with sqlite3.connect(folder / "songs.db") as other:
        other.execute("CREATE TABLE songs (name)")
    other.close()
    ((_, problem),) = found(folder / "songs.db")
    assert problem.endswith("songs.db is a database of something else than txlb: name another file")


def test_a_write_ahead_log_that_was_left_is_read_and_left_alone(folder: Path):
    path = folder / "store.db"
    command = python("-c", STORE, str(path), "{", "0")
    subprocess.run(command, env=child_environment(), check=True, timeout=30)
    before = state(folder)
    assert before["store.db-wal"][0], "nothing is in the file itself yet"
    ((_, problem),) = found(path)
    assert f"{path} is corrupt (malformed value, Expecting property name" in problem
    assert "put it aside or restore a copy" in problem
    assert state(folder) == before


def test_a_store_in_use_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def open_database(path: str) -> None:
        raise ValueError("has been read")

    path = folder / "store.db"
    program = Program(python("-c", STORE, str(path), "{}", "30"))
    try:
        while "ready" not in program.output:
            assert program.returncode is None, program.output
        before = state(folder)
        monkeypatch.setattr(written, "open_database", open_database)
        assert found(path) == []
        assert state(folder) == before
    finally:
        program.stop()
    assert found(path) == [("store", f"{path} has been read")]
