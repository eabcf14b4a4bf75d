"""A Twisted reactor for worker processes in which the forwarding plane's epoll set is outermost.

Rules:

* One wait for everything: the plane's descriptors are in the set that is waited on, and the
  reactor's own (the link, threads' wake-ups) hang in it as one nested descriptor. So a
  request costs one epoll_wait and none of the reactor's dispatch; what is rare pays instead.
* To protocols, timers and threads it is an ordinary epoll reactor, except that it keeps time when the
  system's clock is set.
* Batch follows batch without the main loop in between, which costs three microseconds: until a timed
  call is due or made, a descriptor of the reactor's own is ready, or somebody stops it.
* Without a `Loop` attached it behaves exactly like Twisted's.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from txlb.net.loop import READ, Handler, Loop


class ReactorEvents(Handler):
    """The reactor's own descriptors, as the plane's set sees them."""

    def __init__(self, turn: Any, loop: Loop) -> None:
        super().__init__()
        self._turn = turn
        self._loop = loop

    def ready(self, events: int) -> None:
        self._loop.interrupt()
        self._turn(0)


class LoopReactor(EPollReactor):
    """An epoll reactor that waits on the set of a `Loop`."""

    _plane: Any = None
    _loop: Loop | None = None
    seconds = staticmethod(time.monotonic)

    def attach(self, loop: Loop, plane: Any) -> None:
        """Wait on ``plane``, the epoll set of ``loop``, from now on."""
        self._loop = loop
        self._plane = plane
        loop.add(self._poller.fileno(), ReactorEvents(self.doPoll, loop), READ)

    def detach(self) -> None:
        """Back to the reactor's own set."""
        self._interrupt()
        if self._loop is not None:
            self._loop.remove(self._poller.fileno(), False)
            self._loop = None
            self._plane = None

    def doIteration(self, timeout: float | None) -> None:
        loop = self._loop
        if loop is None:
            self.doPoll(timeout)
            return
        with contextlib.suppress(InterruptedError):
            loop.serve(self._plane.poll, -1.0 if timeout is None else float(timeout))

    def callLater(self, *args: Any, **kwargs: Any) -> DelayedCall:
        self._interrupt()
        return super().callLater(*args, **kwargs)

    def _moveCallLaterSooner(self, delayedCall: DelayedCall) -> None:
        self._interrupt()
        super()._moveCallLaterSooner(delayedCall)

    def stop(self) -> None:
        self._interrupt()
        super().stop()

    def crash(self) -> None:
        self._interrupt()
        super().crash()

    def _interrupt(self) -> None:
        if self._loop is not None:
            self._loop.interrupt()


def install() -> None:
    """Make it the process's reactor; call it before anything imports the reactor."""
    installReactor(LoopReactor())
