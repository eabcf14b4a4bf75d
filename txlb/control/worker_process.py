"""One worker process: spawned, fed over its link, watched until it is gone.

Rules:

* The child gets its link as descriptor 3 and nothing else of ours. Its standard error comes back as
  lines for our log; its standard output *is* ours, so that an access log on ``-``
  goes there directly.
* On a new link go ``welcome`` (identity, scoreboard), ``snapshot``, ``sockets``; the worker
  is ready when it answered the last. `READY_WITHIN` seconds without that: it is killed.
* ``sockets`` names the whole set a listener shall be served with, so lending a dead
  sibling's sockets, giving them back and a reload are the same message. Listeners whose set
  did not change are left out.
* A worker that serves and refuses a new generation goes on with the old one.
* A worker whose link ended finishes its requests by itself; one that does not end within
  ``timeouts.shutdown`` is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorProcess,
    IReactorSocket,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from txlb.control.fleet import OnReports, Publication
from txlb.core.standing import Standing
from txlb.net.link import Fields, Link, LinkClosed, LinkError, LinkFactory, LinkTimeout
from txlb.net.shared_memory import write_blob

LINK_FD = 3
READY_WITHIN = 60.0
KILL_GRACE = 2.0
STANDINGS = 1000  # a message
MODULE_PATH = "TXLB_MODULE_PATH"  # in the environment: where a worker looks for modules last


class IReactorForWorkers(IReactorProcess, IReactorSocket, IReactorTime):
    """What a supervisor needs of the reactor."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A place for a worker: what stays when the process in it changes."""

    index: int
    rows: int
    width: int
    scoreboard: int  # descriptor

    @property
    def identity(self) -> str:
        return f"worker-{self.index + 1}"


class WorkerProcess(ProcessProtocol):
    """One life of a worker. ``changed`` is called on ready, link lost and exit; look at the attributes."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorForWorkers,
        seat: Seat,
        shutdown_timeout: Callable[[], float],
        changed: Callable[[WorkerProcess], None],
        on_reports: OnReports,
    ) -> None:
        self._reactor = reactor
        self.seat = seat
        self._shutdown_timeout = shutdown_timeout
        self._changed = changed
        self._on_reports = on_reports
        self._process: IProcessTransport | None = None
        self._deadline: IDelayedCall | None = None
        self._partial = b""
        self._sent: dict[str, tuple[int, ...]] = {}
        self.link = Link(reactor, {"reports": self._reports}, self._link_closed)
        self.pid: int | None = None
        self.generation = 0
        self.ready = False
        self.exited = False
        self.started_at = reactor.seconds()

    @property
    def linked(self) -> bool:
        return self.link.open and not self.exited

    def spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            ours.setblocking(False)
            output = 1 if _is_open(1) else null
            descriptors: dict[int, int | str] = {0: null, 1: output, 2: "r", LINK_FD: theirs.fileno()}
            self._process = self._reactor.spawnProcess(
                self,
                command[0],
                [*command, self.seat.identity],
                env=dict(environment),
                childFDs=descriptors,
            )
            self.pid = self._process.pid
            factory = cast(Any, LinkFactory(self.link))
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        finally:
            ours.close()
            theirs.close()
            os.close(null)
        self._deadline = self._reactor.callLater(READY_WITHIN, self._kill_late, "was not ready in time")
        self._request(
            "welcome",
            {
                "identity": self.seat.identity,
                "index": self.seat.index,
                "rows": self.seat.rows,
                "width": self.seat.width,
                "shutdown": self._shutdown_timeout(),
            },
            [self.seat.scoreboard],
        )

    def publish(self, publication: Publication) -> Deferred[None]:
        """Send a generation, or what is new in it; fires when the worker runs it or is gone."""
        if not self.linked:
            return succeed(None)
        fits = publication.delta and self.ready and self.generation == publication.base
        descriptor = write_blob(publication.delta if fits else publication.encoded)
        try:
            done = self._request("delta" if fits else "snapshot", {}, [descriptor])
        finally:
            os.close(descriptor)
        return done.addCallback(self._acknowledged)

    def serve(self, sockets: Mapping[str, Sequence[socket.socket]]) -> Deferred[None]:
        """Serve these listeners with exactly these sockets; fires when it does or is gone."""
        if not self.linked:
            return succeed(None)
        wanted = {
            listener_id: tuple(os.fstat(sock.fileno()).st_ino for sock in group)
            for listener_id, group in sockets.items()
        }
        changed = {key: len(inodes) for key, inodes in wanted.items() if self._sent.get(key) != inodes}
        stop = [key for key in self._sent if key not in wanted]
        self._sent = wanted
        descriptors = [sock.fileno() for key in changed for sock in sockets[key]]
        done = self._request("sockets", {"listeners": changed, "stop": stop}, descriptors)
        return done.addCallback(self._serving)

    def set_standings(self, changes: Sequence[Standing]) -> None:
        """What it shall think of these backends; in order with generations."""
        for start in range(0, len(changes), STANDINGS):
            rows = [standing.to_row() for standing in changes[start : start + STANDINGS]]
            self.link.notify("standings", rows=rows)

    def shutdown(self, timeout: float) -> None:
        """Ask it to finish and end; killed soon after ``timeout`` if it does not."""
        self.ready = False
        if not self.linked:
            self.kill()
            return
        self._watch(timeout + KILL_GRACE, "did not stop in time")
        self._request("shutdown", {"timeout": timeout}, timeout=timeout + KILL_GRACE + 1)

    def kill(self) -> None:
        """SIGKILL, by pid, if it still runs."""
        if self._process is not None and not self.exited:
            try:
                self._process.signalProcess(signal.SIGKILL)
            except Exception as error:  # it exited a moment ago and is not reaped yet
                self.log.debug("{worker}: {error}", worker=self.seat.identity, error=error)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()[-65536:]
        for line in lines:
            self._line(line)

    def processExited(self, reason: Failure) -> None:
        self.exited = True
        self.ready = False
        self._unwatch()
        self.link.close()
        self._changed(self)

    def processEnded(self, reason: Failure) -> None:
        if self._partial:
            self._line(self._partial)
            self._partial = b""

    def _reports(self, fields: Fields, descriptors: list[int]) -> None:
        self._on_reports([(backend_id, reason) for backend_id, reason in fields["reports"]])

    def _line(self, line: bytes) -> None:
        self.log.info("{worker}: {line}", worker=self.seat.identity, line=line.decode("utf-8", "replace"))

    def _request(
        self, kind: str, fields: Fields, descriptors: Sequence[int] = (), timeout: float = READY_WITHIN
    ) -> Deferred[Fields | None]:
        done: Deferred[Fields | None] = self.link.request(kind, fields, descriptors, timeout)  # type: ignore[assignment]
        return done.addErrback(self._request_failed, kind)

    def _request_failed(self, failure: Failure, kind: str) -> None:
        failure.trap(LinkClosed, LinkError, LinkTimeout)
        if failure.check(LinkClosed):
            return
        if kind in ("snapshot", "delta") and self.ready and failure.check(LinkError):
            # It goes on with what it has; killing every worker at once over this would help nobody.
            self.log.error(
                "{worker} refuses the new generation and stays with {generation}: {error}",
                worker=self.seat.identity,
                generation=self.generation,
                error=failure.getErrorMessage(),
            )
            return
        # A worker that cannot take what it is told is of no use, and would keep its sockets from a sibling.
        self.log.error(
            "{worker}: {kind}: {error}; killing it",
            worker=self.seat.identity,
            kind=kind,
            error=failure.getErrorMessage(),
        )
        self.kill()

    def _acknowledged(self, answer: Fields | None) -> None:
        if answer is not None:
            self.generation = int(answer["generation"])

    def _serving(self, answer: Fields | None) -> None:
        if answer is None or self.ready or not self.linked:
            return
        self.ready = True
        self._unwatch()
        self._changed(self)

    def _link_closed(self) -> None:
        self.ready = False
        if not self.exited:
            self._watch(self._shutdown_timeout() + KILL_GRACE, "lost its link and did not end")
            self._changed(self)

    def _watch(self, seconds: float, why: str) -> None:
        self._unwatch()
        self._deadline = self._reactor.callLater(seconds, self._kill_late, why)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _kill_late(self, why: str) -> None:
        self._deadline = None
        self.log.error("{worker} {why}; killing it", worker=self.seat.identity, why=why)
        self.kill()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def worker_environment(environment: Mapping[str, str], root: str, on_path: bool) -> dict[str, str]:
    """The environment of workers: ours, with ``root`` (where our txlb lies) first in PYTHONPATH.

    ``on_path`` says that every interpreter finds ``root`` by itself (site-packages): naming
    it would put it in front of the standard library.
    """
    result = dict(environment)
    if not on_path:
        rest = result.get("PYTHONPATH")
        result["PYTHONPATH"] = f"{root}{os.pathsep}{rest}" if rest else root
    return result


def default_command() -> list[str]:
    """How a worker is started; ``-P`` keeps the current directory out of its path."""
    return [sys.executable, "-P", "-m", "txlb.worker"]
