"""`txlb.control.scoreboard`: sums over workers, rows of the dead, columns of what is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from txlb.control.scoreboard import Scoreboard, sums
from txlb.core.model import BackendSpec, ListenerSpec, Snapshot
from txlb.core.scoreboard import BACKEND, LISTENER, WORKER, Columns

SNAPSHOT = Snapshot(
    generation=1,
    listeners=(ListenerSpec("w", ()),),
    backends=(BackendSpec("a", "h", 1), BackendSpec("b", "h", 2)),
)


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    one = Scoreboard(SNAPSHOT, 3)
    yield one
    one.close()


def test_a_total_and_the_sums_of_a_copy_agree(board: Scoreboard):
    column = board.columns.listeners["w"] + LISTENER.index("requests")
    for index in range(3):
        board.row(index)[column] = 10**index
    assert board.total(column) == 111
    copied = sums(board.copy())
    assert copied[column] == 111
    assert len(copied) == board.columns.used


def test_gauges_of_one_worker_are_zeroed_and_nothing_else(board: Scoreboard):
    gauge = board.columns.backends["a"] + BACKEND.index("active")
    counter = board.columns.backends["a"] + BACKEND.index("requests")
    for index in range(3):
        board.row(index)[gauge] = board.row(index)[counter] = 5
    board.zero_gauges(1)
    assert (board.total(gauge), board.total(counter)) == (10, 15)


def test_columns_that_are_freed_are_zeroed_in_every_row(board: Scoreboard):
    gone = board.columns.backends["b"] + BACKEND.index("requests")
    for index in range(3):
        board.row(index)[gone] = 7
    board.columns = Columns.for_snapshot(Snapshot(2, backends=SNAPSHOT.backends[:1]), board.columns)
    board.reclaim(1)
    assert board.total(gone) == 21
    board.reclaim(2)
    assert board.total(gone) == 0


def test_fields_of_a_worker_are_its_own(board: Scoreboard):
    board.row(2)[WORKER.index("ticks")] = 4
    assert [board.worker(index, "ticks") for index in range(3)] == [0, 0, 4]
