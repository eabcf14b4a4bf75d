"""A worker process: the forwarding plane and the link to control, nothing else.

``python -P -m txlb.worker IDENTITY`` with the link as descriptor 3. Rules:

* SIGINT and SIGTERM are ignored: Ctrl-C and service managers signal the whole group,
  but when to stop is for control to say (``shutdown``, or the end of the link).
* ``snapshot``, ``delta``, ``standings`` and ``sockets`` are carried out one at a time, in order; the first
  snapshot at one go, later ones in slices between which the loop serves.
* The link ends: stop listening, finish requests, end within ``timeouts.shutdown``.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Generator
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText, globalLogBeginner
from twisted.python.failure import Failure

from txlb.core.delta import State, decode_delta, patch
from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import decode, decode_now
from txlb.core.standing import standings_of
from txlb.net.link import Fields, Handler, Link, LinkFactory, close_descriptors
from txlb.net.scheduling import set_slice
from txlb.net.shared_memory import SharedMemory, read_blob
from txlb.net.slices import Slices

LINK_FD = 3
GC_THRESHOLDS = (50_000, 20, 100)
MODULE_PATH = "TXLB_MODULE_PATH"

PlaneFactory = Callable[[Any, memoryview, str, Callable[[list[tuple[str, str]]], None]], Any]


class Worker:
    """Carries out what control says."""

    log = Logger()

    def __init__(self, reactor: Any, plane: PlaneFactory) -> None:
        self._reactor = reactor
        self._build = plane
        self._plane: Any = None
        self._state: State = (Snapshot(), Columns(0))
        self._memory: SharedMemory | None = None
        self._order = DeferredLock()
        self._slices = Slices(reactor)
        self._listening: set[str] = set()
        self._shutdown_timeout = 30.0
        self._ending = False
        self._frozen = False
        self.link = Link(
            reactor,
            {
                "welcome": self._welcome,
                "snapshot": self._in_order(self._snapshot),
                "delta": self._in_order(self._delta),
                "standings": self._in_order(self._set_standings),
                "sockets": self._in_order(self._sockets),
                "shutdown": self._shutdown,
                "reopen": self._reopen,
                "connections": self._connections,
            },
            self._link_closed,
        )

    def _in_order(self, handler: Handler) -> Handler:
        """``handler``, once what was asked before is done."""

        def run(fields: Fields, descriptors: list[int]) -> Deferred[Any]:
            return self._order.run(cast(Any, handler), fields, descriptors)

        return run

    def _welcome(self, fields: Fields, descriptors: list[int]) -> None:
        self._shutdown_timeout = fields["shutdown"]
        self._memory = SharedMemory.adopt(descriptors[0], fields["rows"], fields["width"])
        row = self._memory.row(fields["index"])
        self._plane = self._build(self._reactor, row, fields["identity"], self._report)
        others = [self._memory.row(index) for index in range(fields["rows"]) if index != fields["index"]]
        self._plane.watch_siblings(others)
        self._plane.start()

    def _snapshot(self, fields: Fields, descriptors: list[int]) -> Deferred[Any]:
        data = read_blob(descriptors[0])
        if not self._frozen:
            return succeed(self._apply(decode_now(data)))
        return self._in_slices(decode(data)).addCallback(self._apply)

    def _delta(self, fields: Fields, descriptors: list[int]) -> Deferred[Any]:
        done = self._in_slices(decode_delta(read_blob(descriptors[0])))
        return done.addCallback(lambda delta: self._apply(patch(self._state, delta)))

    def _in_slices(self, steps: Generator[None, None, Any]) -> Deferred[Any]:
        """The generator's value, once it has run to its end."""
        result: list[Any] = []

        def run() -> Generator[None, None, None]:
            result.append((yield from steps))

        task = self._slices.start(run())
        done: Deferred[Any] = succeed(None) if task is None else task.whenDone()
        return done.addCallback(lambda _: result[0])

    def _apply(self, state: State) -> Fields:
        snapshot, columns = state
        for listener_id in self._listening - {listener.id for listener in snapshot.listeners}:
            self._plane.stop_listening(listener_id)
            self._listening.discard(listener_id)
        self._plane.apply(snapshot, columns)
        self._state = state
        self._shutdown_timeout = snapshot.timeouts.shutdown
        return {"generation": snapshot.generation}

    def _set_standings(self, fields: Fields, descriptors: list[int]) -> None:
        self._plane.set_standings(standings_of(fields["rows"]))

    def _report(self, reports: list[tuple[str, str]]) -> None:
        self.link.notify("reports", reports=reports)

    def _sockets(self, fields: Fields, descriptors: list[int]) -> None:
        if self._ending:
            close_descriptors(descriptors)
            return
        for listener_id in fields["stop"]:
            if listener_id in self._listening:
                self._plane.stop_listening(listener_id)
                self._listening.discard(listener_id)
        start = 0
        for listener_id, count in fields["listeners"].items():
            group = [socket.socket(fileno=descriptor) for descriptor in descriptors[start : start + count]]
            start += count
            if listener_id in self._listening:
                self._plane.stop_listening(
                    listener_id
                )  # the set is whole: it has the old ones that stay, too
            self._plane.listen(listener_id, group)
            self._listening.add(listener_id)
        self._freeze()

    def _freeze(self) -> None:
        """Everything that lives as long as we do is out of the collector's way."""
        if not self._frozen:
            self._frozen = True
            gc.collect()
            gc.freeze()

    def _shutdown(self, fields: Fields, descriptors: list[int]) -> None:
        self._end(fields["timeout"])

    def _reopen(self, fields: Fields, descriptors: list[int]) -> None:
        if self._plane is not None:
            self._plane.reopen_logs()

    def _connections(self, fields: Fields, descriptors: list[int]) -> Fields:
        return {"connections": self._plane.connections(fields["after"], fields["limit"])}

    def _link_closed(self) -> None:
        if not self._ending:
            self.log.warn("control is gone; finishing what is in flight")
            self._end(self._shutdown_timeout)

    def _end(self, timeout: float) -> None:
        if self._ending:
            return
        self._ending = True
        self._listening.clear()
        done = succeed(None) if self._plane is None else self._plane.shutdown(timeout)
        done.addErrback(self._failed)
        done.addCallback(lambda _: self._reactor.stop())

    def _failed(self, failure: Failure) -> None:
        self.log.failure("shutting down", failure)


def log_to_control(event: LogEvent) -> None:
    """One line (and a traceback) on standard error, which control logs under our name."""
    level = event.get("log_level", LogLevel.info)
    if level > LogLevel.debug:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        name = "" if level is LogLevel.info else f"{level.name}: "
        print(f"{name}{text}", file=sys.stderr, flush=True)  # noqa: T201


def main(plane: PlaneFactory | None = None) -> None:
    """Run until control says otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.set_threshold(*GC_THRESHOLDS)
    set_slice(0.0)  # ours, not the long one of control
    observers = [cast(ILogObserver, log_to_control)]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
    if hasattr(select, "epoll"):
        from txlb.net.loop_reactor import install

        install()
    if os.environ.get(MODULE_PATH):
        sys.path.append(os.environ[MODULE_PATH])
    if plane is None:
        from txlb.forwarding.plane import ForwardingPlane

        plane = ForwardingPlane
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    worker = Worker(reactor, plane)
    reactor.adoptStreamConnection(LINK_FD, socket.AF_UNIX, LinkFactory(worker.link))
    os.close(LINK_FD)
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
