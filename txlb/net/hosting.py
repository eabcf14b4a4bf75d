"""Puts a `Loop` under a Twisted reactor.

Rules:

* With epoll the whole inner set is one readable descriptor of the reactor; one wake-up of the reactor is at
  most one batch of events, those included that come while the first of them are handled.
* Whoever is to give way to others (``pause``) handles the events of a batch in groups of `GROUP` and pauses
  after each whole one.
* Under a `LoopReactor` (worker processes) it is the other way round: the reactor waits on
  the inner set.
* Where there is no epoll (`ReactorPoller`), the same handlers are driven by the reactor's own
  addReader/addWriter, a descriptor each.
* Nothing leaves `doRead` as an exception: the reactor would drop the whole inner set. A tick
  that raises is logged, and the next one comes.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor, IReadWriteDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from txlb.net.loop import BATCH, ERROR, HANGUP, READ, WRITE, Loop
from txlb.net.scheduling import GROUP
from txlb.net.timers import TICK


@implementer(IReadDescriptor)
class EpollDescriptor:
    """The inner epoll set, as the reactor sees it."""

    def __init__(self, epoll: Any, loop: Loop, pause: Callable[[], None] | None = None) -> None:
        self._epoll = epoll
        self._loop = loop
        self._pause = pause
        self._group = BATCH if pause is None else GROUP

    def fileno(self) -> int:
        return int(self._epoll.fileno())

    def logPrefix(self) -> str:
        return "txlb"

    def doRead(self) -> None:
        left = BATCH
        while left > 0 and not self._epoll.closed:
            events = self._epoll.poll(0, min(left, self._group))
            if not events:
                return
            self._loop.dispatch(events)
            left -= len(events)
            if self._pause is not None and len(events) == self._group:
                self._pause()

    def connectionLost(self, reason: Any) -> None:
        """The reactor stops; whoever owns the loop closes what is open."""


@implementer(IReadWriteDescriptor)
class ReactorDescriptor:
    """One handler's descriptor on the reactor itself."""

    def __init__(self, fd: int, loop: Loop) -> None:
        self._fd = fd
        self._loop = loop
        self.interest = 0

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "txlb"

    def doRead(self) -> None:
        self._loop.dispatch([(self._fd, READ)])

    def doWrite(self) -> None:
        if self.interest & WRITE:  # not if reading, a moment ago, ended it
            self._loop.dispatch([(self._fd, WRITE)])

    def connectionLost(self, reason: Any) -> None:
        self._loop.dispatch([(self._fd, ERROR | HANGUP)])


class ReactorPoller:
    """What `Loop` asks of a poller, done by the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._descriptors: dict[int, ReactorDescriptor] = {}
        self.loop: Loop | None = None

    def register(self, fd: int, events: int) -> None:
        assert self.loop is not None
        self._descriptors[fd] = ReactorDescriptor(fd, self.loop)
        self.modify(fd, events)

    def modify(self, fd: int, events: int) -> None:
        descriptor = self._descriptors[fd]
        changed = descriptor.interest ^ events
        descriptor.interest = events
        if changed & READ:
            (self._reactor.addReader if events & READ else self._reactor.removeReader)(descriptor)
        if changed & WRITE:
            (self._reactor.addWriter if events & WRITE else self._reactor.removeWriter)(descriptor)

    def unregister(self, fd: int) -> None:
        self.modify(fd, 0)
        del self._descriptors[fd]

    def close(self) -> None:
        """Watch nothing more."""
        for fd in list(self._descriptors):
            self.unregister(fd)


class HostedLoop:
    """A running `Loop` and what keeps it running."""

    log = Logger()

    def __init__(
        self, reactor: Any, use_epoll: bool | None = None, pause: Callable[[], None] | None = None
    ) -> None:
        """``use_epoll``: None = where there is one. ``pause`` lets others have the processor for a moment."""
        self._reactor = reactor
        self._epoll: Any = None
        self._descriptor: EpollDescriptor | None = None
        self._attached = False
        self._poller: ReactorPoller | None = None
        self._ticking: LoopingCall | None = None
        if use_epoll is None:
            use_epoll = hasattr(select, "epoll")
        if use_epoll:
            self._epoll = select.epoll()
            self.loop = Loop(self._epoll, True)
            self._descriptor = EpollDescriptor(self._epoll, self.loop, pause)
        else:
            self._poller = ReactorPoller(reactor)
            self.loop = Loop(self._poller, False)
            self._poller.loop = self.loop

    def start(self, on_tick: Any, period: float = TICK) -> None:
        """Watch, and tick every ``period`` seconds: deadlines first, then ``on_tick()``."""
        if self._epoll is not None:
            from txlb.net.loop_reactor import LoopReactor  # cannot be imported where there is no epoll

            self._attached = isinstance(self._reactor, LoopReactor)
        if self._attached:
            self._reactor.attach(self.loop, self._epoll)
        elif self._descriptor is not None:
            self._reactor.addReader(self._descriptor)

        def tick() -> None:
            try:
                self.loop.tick()
                on_tick()
            except Exception:
                self.log.failure("a tick failed")

        self._ticking = LoopingCall(tick)
        self._ticking.clock = self._reactor
        self._ticking.start(period, now=True)

    def stop(self) -> None:
        """Watch no more; what is still registered is forgotten."""
        if self._ticking is not None and self._ticking.running:
            self._ticking.stop()
        if self._attached:
            self._attached = False
            self._reactor.detach()
        elif self._descriptor is not None:
            self._reactor.removeReader(self._descriptor)
        elif self._poller is not None:
            self._poller.close()
        self._descriptor = None
        self.loop.pipes.close()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
