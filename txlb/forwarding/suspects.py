"""Backends that this worker doubts: found on the tick, told to control.

Rules:

* A backend is told at most once a tick, with the first reason that came up (`txlb.core.outcome.NAMES`, or
  `txlb.core.suspicion.OVERDUE`).
* Looked at are only backends that were asked something since the last tick or still owe an answer: a tick
  costs by traffic, not by the number of backends, and a request costs one comparison.
* What a backend says of ``suspect_after`` goes before what holds for all.
"""

from __future__ import annotations

from typing import cast

from txlb.core.backend import Backend
from txlb.core.suspicion import OVERDUE, Doubt, is_overdue
from txlb.forwarding.http.dispatch import Dispatch


class Suspects:
    """One worker's."""

    suspect_after: float
    raised: list[Backend]  # what backends enter themselves in (`Backend.suspect`)
    _watched: list[Backend]

    def __init__(self) -> None:
        self.suspect_after = 0.3
        self.raised = []
        self._watched = []

    def watch(self, backend: Backend) -> None:
        """It owes an answer from now on."""
        backend.watched = True
        self._watched.append(backend)

    def look(self, now: float) -> None:
        """Whose oldest request waits too long?"""
        still: list[Backend] = []
        for backend in self._watched:
            oldest = backend.oldest
            doubt = backend.doubt
            if oldest is None:
                backend.watched = False
                if doubt is not None:
                    doubt.timely()
                continue
            still.append(backend)
            waiting = cast(Dispatch, oldest)
            pool = waiting.pool
            after = backend.suspect_after or self.suspect_after
            if pool is None or not is_overdue(waiting.asked_at, pool.answered_at, after, now):
                if doubt is not None:
                    doubt.timely()
            elif backend.healthy:
                if doubt is None:
                    doubt = backend.doubt = Doubt()
                if doubt.overdue(after, now):
                    backend.suspect(OVERDUE)
        self._watched = still

    def take(self) -> list[tuple[str, str]]:
        """Id and reason of each, since the last time."""
        told: list[tuple[str, str]] = []
        for backend in self.raised:
            if backend.suspected:
                told.append((backend.id, backend.suspected))
                backend.suspected = ""
        self.raised.clear()
        return told


def line_of(backend: Backend) -> list[Dispatch]:
    """Everyone who waits for the first byte of an answer, oldest first."""
    line: list[Dispatch] = []
    waiting = backend.oldest
    while waiting is not None:
        one = cast(Dispatch, waiting)
        line.append(one)
        waiting = one.newer
    return line
