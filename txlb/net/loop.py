"""The inner event loop: one epoll set that the reactor hosts as a single descriptor.

Rules:

* Handlers are told what happened (`Handler.ready`) and do the system calls
  themselves; interest is level-triggered.
* One wake-up handles at most `BATCH` events, so that timers and the reactor's own
  descriptors are never starved; what is left over wakes the reactor again.
* An exception in a handler ends that handler (`Handler.failed`), never the loop.
* A descriptor's number may be closed and used again within a batch: who is added in a batch
  hears of its events from the next one on.
* ``now`` is read once a batch: every decision of a batch sees one time.
* Whoever calls `Loop.serve` gets control back when its time is over, or after the batch in which somebody
  called `Loop.interrupt`.
* A `Loop` knows nothing of Twisted; `txlb.net.hosting` puts it under a reactor.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.net.splice import PipeStore
from txlb.net.timers import Timed, TimerWheel

BATCH: Final = 64
READ: Final = 0x001  # EPOLLIN
WRITE: Final = 0x004  # EPOLLOUT
ERROR: Final = 0x008  # EPOLLERR
HANGUP: Final = 0x010  # EPOLLHUP
ENDED: Final = 0x2000  # EPOLLRDHUP: the other side has ended; only told by epoll, and only if asked for


@mypyc_attr(allow_interpreted_subclasses=True)
class Handler(Timed):
    """One descriptor's owner."""

    __slots__ = ()

    def ready(self, events: int) -> None:
        """``events`` (READ, WRITE, ERROR, HANGUP, or-ed) hold now."""

    def later(self) -> None:
        """What `Loop.defer` promised: the running batch is over."""

    def failed(self, why: BaseException) -> None:
        """`ready` raised ``why``: give up the descriptor; must not raise."""


class Loop:
    """Descriptors, their handlers and the time of the running batch."""

    now: float
    wheel: TimerWheel
    poller: Any
    handlers: dict[int, Handler]
    forgets_closed: bool
    deferred: list[Handler]
    dispatching: bool
    interrupted: bool
    added: set[int]  # descriptors, in the running batch
    pipes: PipeStore
    opened: int  # connections so far: each has its number
    failures: int
    last_failure: BaseException | None

    def __init__(self, poller: Any, forgets_closed: bool) -> None:
        """``poller`` has the methods of ``select.epoll`` (register, modify, unregister).

        ``forgets_closed``: closing a descriptor unregisters it, as epoll does, which
        saves a system call per connection.
        """
        self.now = monotonic()
        self.wheel = TimerWheel(self.now)
        self.opened = 0
        self.poller = poller
        self.handlers = {}
        self.forgets_closed = forgets_closed
        self.deferred = []
        self.dispatching = False
        self.interrupted = False
        self.added = set()
        self.pipes = PipeStore()
        self.failures = 0
        self.last_failure = None

    def add(self, fd: int, handler: Handler, events: int) -> None:
        self.handlers[fd] = handler
        if self.dispatching:
            self.added.add(fd)
        self.poller.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self.poller.modify(fd, events)

    def remove(self, fd: int, closing: bool) -> None:
        """Forget ``fd``; ``closing`` promises that the caller closes it at once."""
        if self.handlers.pop(fd, None) is not None and not (closing and self.forgets_closed):
            self.poller.unregister(fd)

    def park(self, fd: int) -> None:
        """Be told nothing of ``fd`` until it is added again; its handler is known meanwhile."""
        self.poller.unregister(fd)

    def arm(self, timed: Timed, seconds: float) -> None:
        """Time ``timed`` out ``seconds`` from now."""
        self.wheel.arm(timed, self.now + seconds)

    def cancel(self, timed: Timed) -> None:
        """No deadline any more; call it when ``timed`` ends."""
        self.wheel.cancel(timed)

    def defer(self, handler: Handler) -> None:
        """Call ``handler.later()`` when the running batch or tick is over."""
        self.deferred.append(handler)

    def run_deferred(self) -> None:
        """Do what was deferred, and what that defers."""
        while self.deferred:
            handlers = self.deferred
            self.deferred = []
            for handler in handlers:
                try:
                    handler.later()
                except Exception as why:
                    self.contain(handler, why)

    def tick(self) -> None:
        """Fire the deadlines that are due."""
        self.now = monotonic()
        self.wheel.advance(self.now)
        if self.deferred:
            self.run_deferred()

    def serve(self, poll: Any, seconds: float) -> None:
        """Wait for batches by ``poll(seconds, BATCH)`` and hand them out, for ``seconds`` (< 0: no end)."""
        self.interrupted = False
        left = seconds
        until = monotonic() + seconds
        while True:
            self.dispatch(poll(left, BATCH))
            if self.interrupted:
                return
            if seconds >= 0.0:
                left = until - self.now
                if left <= 0.0:
                    return

    def interrupt(self) -> None:
        """Have `serve` return once the running batch is over."""
        self.interrupted = True

    def dispatch(self, events: list[tuple[int, int]]) -> None:
        """Hand one batch of ``(fd, events)`` to the handlers."""
        self.now = monotonic()
        handlers = self.handlers
        added = self.added
        self.dispatching = True
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is None or (added and fd in added):
                continue
            try:
                handler.ready(mask)
            except Exception as why:
                self.contain(handler, why)
        self.dispatching = False
        if added:
            added.clear()
        if self.deferred:
            self.run_deferred()

    def contain(self, handler: Handler, why: Exception) -> None:
        """``handler`` raised ``why``: it ends, nobody else."""
        self.failures += 1
        self.last_failure = why
        try:
            handler.failed(why)
        except Exception as again:
            self.last_failure = again
