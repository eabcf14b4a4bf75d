"""Long work in a thread, beside a loop that must not wait.

Rules:

* What is done there is Python, so the two share the interpreter's lock; `txlb.control.balancer` has it change
  hands often enough.
* On a processor that the two share, the loop goes first: the thread asks for the longest slices
  (`txlb.net.scheduling`). With the loop's own it would keep the processor for as long as it may, and the loop
  would not even get to ask for the lock.
* Nobody collects garbage meanwhile: what a load of 10,000 backends makes would be looked at again and again,
  up to a million objects at once, and the loop would wait for it. References free nearly all of it anyway.
* A collector that somebody else turned off stays off.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from txlb.net.scheduling import LONGEST, set_slice, slice_of


def patiently(work: Callable[..., Any], *arguments: object) -> Any:
    """``work``'s result; the loop goes first meanwhile."""
    before = slice_of()
    set_slice(LONGEST)
    try:
        return work(*arguments)
    finally:
        set_slice(before or 0.0)


class Background:
    """The threads of one reactor's pool, as long work uses them."""

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor
        self._running = 0
        self._turned_off = False

    def run(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """Call ``work`` in a thread; fires with its result, in the reactor's thread."""
        if not self._running and gc.isenabled():
            gc.disable()
            self._turned_off = True
        self._running += 1
        pool = self._reactor.getThreadPool()
        done = deferToThreadPool(self._reactor, pool, patiently, work, *arguments)
        return done.addBoth(self._ended)

    def _ended(self, result: Any) -> Any:
        self._running -= 1
        if not self._running and self._turned_off:
            self._turned_off = False
            gc.enable()
        return result
