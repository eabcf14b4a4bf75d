"""Draining, as control sees it: who drains until when, what is left of it, and who waits for the end.

Rules:

* `sync` says who drains from now on; workers hear of it by their standings, those that start later too.
* What is left is read from the scoreboard, which workers write ten times a second: nothing is believed about
  a backend before every worker that serves has ticked twice since the last change (`settled`).
* A wait ends when nothing is open, or after its time; it never holds up anything else.
* Leaving backends (removed ones) are handed over for good when nothing of theirs is open, at worst
  `GRACE` after their deadline, when workers have cut off the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from txlb.control.scoreboard import Scoreboard
from txlb.control.standings import Standings
from txlb.core.scoreboard import BACKEND

LOOK_EVERY = 0.1
GRACE = 1.0
SETTLED_WITHIN = 2.0  # a worker that does not tick is not waited for any longer


@dataclass(frozen=True, slots=True)
class Left:
    """What a backend has open, over all workers."""

    active: int  # exchanges, tunnels, sessions
    idle: int
    open: int  # connections that carry something, or exchanges, whichever is more


@dataclass(slots=True)
class Wait:
    backend_id: str
    deadline: float
    done: Deferred[bool]


class Draining:
    """``up`` says which workers serve; ``finished`` takes the ids of leaving backends with nothing open."""

    def __init__(
        self,
        clock: IReactorTime,
        standings: Standings,
        up: Callable[[], list[bool]],
        finished: Callable[[Collection[str]], object],
    ) -> None:
        self._clock = clock
        self._standings = standings
        self._up = up
        self._finished = finished
        self._until: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._handed_over: set[str] = set()
        self._waits: list[Wait] = []
        self._settling: list[Deferred[None]] = []
        self._ticks: list[int] = []
        self._changed_at = 0.0
        self.scoreboard: Scoreboard | None = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def sync(self, until: Mapping[str, float], leaving: Collection[str]) -> None:
        """These drain, until then (seconds of `time.monotonic`); those ``leaving`` among them for good."""
        for id in self._until.keys() - until.keys():
            self._standings.set_drained(id, False)
        for id, deadline in until.items():
            if self._until.get(id) != deadline:
                self._standings.set_drained(id, True, deadline)
        if self._until != until or self._leaving != set(leaving):
            self._changed()
        self._until = dict(until)
        self._leaving = set(leaving)
        self._handed_over &= self._leaving
        self._run()

    def until(self, backend_id: str) -> float | None:
        return self._until.get(backend_id)

    def left(self, backend_id: str) -> Left:
        """Of a backend that the scoreboard does not have: nothing."""
        assert self.scoreboard is not None
        base = self.scoreboard.columns.backends.get(backend_id)
        if base is None:
            return Left(0, 0, 0)
        active, connections, idle = (
            self.scoreboard.total(base + BACKEND.index(name)) for name in ("active", "connections", "idle")
        )
        return Left(active, idle, max(active, connections - idle))

    def settled(self) -> Deferred[None]:
        """Fires when the scoreboard shows what the last change did."""
        done: Deferred[None] = Deferred()
        self._settling.append(done)
        self._run()
        return done

    def wait(self, backend_id: str, seconds: float) -> Deferred[bool]:
        """True when it has nothing open or does not drain, a leaving one when it is gone; else False."""
        wait = Wait(backend_id, self._clock.seconds() + seconds, Deferred(self._forget))
        self._waits.append(wait)
        self._run()
        return wait.done

    def stop(self) -> None:
        """Every wait ends."""
        if self._looking.running:
            self._looking.stop()
        self._settle()
        waits, self._waits = self._waits, []
        for wait in waits:
            wait.done.callback(False)

    def _changed(self) -> None:
        self._changed_at = self._clock.seconds()
        self._ticks = self._now_ticks()

    def _now_ticks(self) -> list[int]:
        board = self.scoreboard
        return [] if board is None else [board.worker(index, "ticks") for index in range(len(self._up()))]

    def _has_settled(self) -> bool:
        if self._clock.seconds() - self._changed_at > SETTLED_WITHIN:
            return True
        pairs = zip(self._up(), self._ticks, self._now_ticks(), strict=False)
        return all(not up or now >= before + 2 for up, before, now in pairs)

    def _run(self) -> None:
        if (self._waits or self._settling or self._leaving) and not self._looking.running:
            self._looking.start(LOOK_EVERY, now=False)

    def _settle(self) -> None:
        settling, self._settling = self._settling, []
        for done in settling:
            done.callback(None)

    def _look(self) -> None:
        if self._has_settled():
            self._settle()
            gone = [id for id in self._leaving - self._handed_over if self._is_over(id)]
            if gone:
                self._handed_over.update(gone)
                self._finished(gone)
        now = self._clock.seconds()
        for wait in list(self._waits):
            over = wait.backend_id not in self._until or (
                wait.backend_id not in self._leaving
                and self._has_settled()
                and self.left(wait.backend_id).open == 0
            )
            if over or now >= wait.deadline:
                self._waits.remove(wait)
                wait.done.callback(over)
        if not (self._waits or self._settling or self._leaving) and self._looking.running:
            self._looking.stop()

    def _is_over(self, id: str) -> bool:
        return self.left(id).open == 0 or time.monotonic() > self._until.get(id, 0.0) + GRACE

    def _forget(self, done: Deferred[bool]) -> None:
        """A wait was cancelled: whoever asked is gone."""
        self._waits = [wait for wait in self._waits if wait.done is not done]
