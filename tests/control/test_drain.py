"""`txlb.control.drain`: who drains, what is left, who waits."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

import pytest
from twisted.internet.task import Clock

from txlb.control.drain import LOOK_EVERY, SETTLED_WITHIN, Draining, Left
from txlb.control.scoreboard import Scoreboard
from txlb.control.standings import Standings
from txlb.core.model import BackendSpec, Snapshot
from txlb.core.scoreboard import BACKEND, WORKER


class Scene:
    """Two workers that tick when told; backend a."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.board = Scoreboard(Snapshot(backends=(BackendSpec("a", "10.0.0.1", 80),)), 2)
        self.standings = Standings(self.clock, lambda changes: None)
        self.up = [True, True]
        self.finished: list[str] = []
        self.draining = Draining(self.clock, self.standings, lambda: self.up, self._finished)
        self.draining.scoreboard = self.board

    def _finished(self, ids: Collection[str]) -> None:
        self.finished += ids

    def open(self, **gauges: int) -> None:
        base = self.board.columns.backends["a"]
        for name, value in gauges.items():
            self.board.row(0)[base + BACKEND.index(name)] = value

    def tick(self, rows: Collection[int] = (0, 1), times: int = 2) -> None:
        for row in rows:
            self.board.row(row)[WORKER.index("ticks")] += times
        self.clock.advance(LOOK_EVERY)

    def drain(self, seconds: float = 60.0, leaving: Collection[str] = ()) -> None:
        self.draining.sync({"a": time.monotonic() + seconds}, leaving)


@pytest.fixture
def here() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.draining.stop()
    scene.standings.stop()
    assert [call for call in scene.clock.getDelayedCalls() if call.active()] == []
    scene.board.close()


def test_workers_learn_who_drains_until_when(here: Scene) -> None:
    here.draining.sync({"a": 70.0}, ())
    assert here.standings.of("a").drain_until == 70.0
    assert here.draining.until("a") == 70.0
    here.draining.sync({}, ())
    assert not here.standings.of("a").drained
    assert here.draining.until("a") is None


def test_what_is_left_is_a_sum_over_workers(here: Scene) -> None:
    here.open(active=3, connections=7, idle=2)
    assert here.draining.left("a") == Left(3, 2, 5)
    assert here.draining.left("gone") == Left(0, 0, 0)


def test_nothing_is_believed_before_every_worker_ticked_twice(here: Scene) -> None:
    here.drain()
    done: list[bool] = []
    here.draining.wait("a", 30.0).addCallback(done.append)
    here.tick(times=1)
    here.tick(rows=(0,))
    assert done == []
    here.tick(rows=(1,), times=1)
    assert done == [True]


def test_a_worker_that_is_not_up_is_not_waited_for(here: Scene) -> None:
    here.up = [True, False]
    here.drain()
    settled: list[None] = []
    here.draining.settled().addCallback(settled.append)
    here.tick(rows=(0,))
    assert settled == [None]


def test_a_worker_that_hangs_is_not_waited_for_long(here: Scene) -> None:
    here.drain()
    settled: list[None] = []
    here.draining.settled().addCallback(settled.append)
    here.clock.advance(SETTLED_WITHIN + LOOK_EVERY)
    assert settled == [None]


def test_a_wait_ends_when_nothing_is_open(here: Scene) -> None:
    here.open(active=1)
    here.drain()
    done: list[bool] = []
    here.draining.wait("a", 30.0).addCallback(done.append)
    here.tick()
    assert done == []
    here.open(active=0)
    here.tick()
    assert done == [True]


def test_a_wait_ends_after_its_time(here: Scene) -> None:
    here.open(active=1)
    here.drain()
    done: list[bool] = []
    here.draining.wait("a", 1.0).addCallback(done.append)
    here.clock.pump([LOOK_EVERY] * 11)
    assert done == [False]


def test_a_wait_for_what_does_not_drain_ends_at_once(here: Scene) -> None:
    done: list[bool] = []
    here.draining.wait("a", 30.0).addCallback(done.append)
    here.clock.advance(LOOK_EVERY)
    assert done == [True]


def test_whoever_went_away_waits_no_more(here: Scene) -> None:
    here.open(active=1)
    here.drain()
    wait = here.draining.wait("a", 30.0)
    wait.addErrback(lambda _: None)
    wait.cancel()
    here.tick()
    assert not here.draining._looking.running


def test_a_leaving_backend_is_handed_over_once_when_nothing_is_open(here: Scene) -> None:
    here.open(connections=1)
    here.drain(leaving=["a"])
    done: list[bool] = []
    here.draining.wait("a", 30.0).addCallback(done.append)
    here.tick()
    assert here.finished == []
    here.open(connections=0)
    here.tick()
    here.tick()
    assert here.finished == ["a"]
    assert done == []  # until it is gone in fact
    here.draining.sync({}, ())
    here.tick()
    assert done == [True]


def test_a_leaving_backend_goes_soon_after_its_deadline_whatever_is_open(here: Scene) -> None:
    here.open(connections=1)
    here.drain(seconds=-10.0, leaving=["a"])
    here.tick()
    assert here.finished == ["a"]
