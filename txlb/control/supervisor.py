"""Workers as child processes: spawned, restarted, fed with generations and sockets, stopped.

Rules:

* A worker that ends is restarted at once; from the second time within `CALM` seconds
  after a restart with a pause of 0.1 s, doubled each time up to `LONGEST_PAUSE`.
* While a worker is not ready its sockets are served by the next ready one: a SO_REUSEPORT
  queue that nobody serves hangs its clients. With none ready they wait in control.
* Gauges of a dead worker's row are zeroed before its successor starts; counters go on.
* A worker that starts is told every standing between its first generation and its sockets.
* A worker whose main loop does not tick for `STUCK_AFTER` seconds is reported, not killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from txlb.control.fleet import OnReports, Publication
from txlb.control.listening import ListeningSockets
from txlb.control.scoreboard import Scoreboard
from txlb.control.worker_process import IReactorForWorkers, Seat, WorkerProcess
from txlb.core.standing import Standing

CALM = 10.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
STUCK_AFTER = 5.0
ANSWER_WITHIN = 5.0


class Restarts:
    """When a worker may start again."""

    def __init__(self) -> None:
        self._crashes = 0
        self._last: float | None = None

    def pause(self, now: float) -> float:
        """It ended now: seconds until its successor starts."""
        calm = self._last is None or now - self._last > CALM
        self._crashes = 0 if calm else self._crashes + 1
        pause = 0.0 if calm else min(FIRST_PAUSE * 2.0 ** min(self._crashes - 1, 16), LONGEST_PAUSE)
        self._last = now + pause
        return pause


def served_by(ready: Sequence[bool]) -> dict[int, list[int]]:
    """By ready worker, the indexes of the sockets it serves: its own and those of the unready before it."""
    count = len(ready)
    serving: dict[int, list[int]] = {index: [index] for index in range(count) if ready[index]}
    if serving:
        for index in range(count):
            step = 0
            while not ready[(index + step) % count]:
                step += 1
            if step:
                serving[(index + step) % count].append(index)
    return serving


class Supervisor:
    """The `Fleet` of ``workers: N``."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorForWorkers,
        scoreboard: Scoreboard,
        sockets: ListeningSockets,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_reports: OnReports = lambda reports: None,
        on_all_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._scoreboard = scoreboard
        self._sockets = sockets
        self._command = command
        self._environment = environment
        self._on_reports = on_reports
        self._on_all_ready = on_all_ready
        self._standings: dict[str, Standing] = {}
        self._publication: Publication | None = None
        self._workers: list[WorkerProcess] = []
        self._restarts: list[Restarts] = []
        self._respawns: dict[int, IDelayedCall] = {}
        self._stopping: Deferred[None] | None = None
        self._heartbeat = LoopingCall(self._check_heartbeats)
        self._heartbeat.clock = reactor
        self._stuck: set[int] = set()
        self._announced = False
        self.restarts = 0

    def start(self) -> None:
        for index in range(self._sockets.per_bind):
            self._restarts.append(Restarts())
            self._workers.append(self._spawn(index))
        self._heartbeat.start(1.0, now=False)

    def publish(self, publication: Publication) -> Deferred[None]:
        self._publication = publication
        waits = [self._feed(worker) for worker in self._workers if worker.linked]
        return DeferredList(waits).addCallback(lambda _: None)

    def set_standings(self, changes: Sequence[Standing]) -> None:
        for standing in changes:
            if standing.is_default:
                self._standings.pop(standing.backend_id, None)
            else:
                self._standings[standing.backend_id] = standing
        for worker in self._workers:
            worker.set_standings(changes)

    def acknowledged(self) -> int:
        latest = 0 if self._publication is None else self._publication.snapshot.generation
        return min((worker.generation for worker in self._workers if not worker.exited), default=latest)

    def up(self) -> list[bool]:
        return [worker.ready for worker in self._workers]

    def pids(self) -> list[int | None]:
        """By worker; None while there is no process."""
        return [None if worker.exited else worker.pid for worker in self._workers]

    def reopen_logs(self) -> None:
        for worker in self._workers:
            worker.link.notify("reopen")

    def connections(self, worker: int, after: int, limit: int) -> Deferred[list[dict[str, Any]]]:
        asked = self._workers[worker]
        if not asked.ready:
            return succeed([])
        answer = asked.link.request("connections", {"after": after, "limit": limit}, timeout=ANSWER_WITHIN)
        return answer.addCallback(lambda fields: fields["connections"])

    def shutdown(self, timeout: float) -> Deferred[None]:
        self._stop()
        for worker in self._workers:
            worker.shutdown(timeout)
        return self._when_ended()

    def kill(self) -> None:
        self._stop()
        for worker in self._workers:
            worker.kill()

    def _stop(self) -> None:
        if self._stopping is None:
            self._stopping = Deferred()
            if self._heartbeat.running:
                self._heartbeat.stop()
            for call in self._respawns.values():
                call.cancel()
            self._respawns.clear()

    def _when_ended(self) -> Deferred[None]:
        assert self._stopping is not None
        if all(worker.exited for worker in self._workers):
            return succeed(None)
        return self._stopping

    def _spawn(self, index: int) -> WorkerProcess:
        memory = self._scoreboard.memory
        assert memory.descriptor is not None
        seat = Seat(index, memory.rows, memory.width, memory.descriptor)
        worker = WorkerProcess(self._reactor, seat, self._shutdown_timeout, self._changed, self._on_reports)
        worker.spawn(self._command, self._environment)
        return worker

    def _shutdown_timeout(self) -> float:
        return 30.0 if self._publication is None else self._publication.snapshot.timeouts.shutdown

    def _feed(self, worker: WorkerProcess) -> Deferred[None]:
        """Send the current generation and the sockets that go with it."""
        assert self._publication is not None
        published = worker.publish(self._publication)
        if not worker.ready:
            worker.set_standings(list(self._standings.values()))
        serving = served_by([other.ready for other in self._workers])
        indexes = serving.get(worker.seat.index, [worker.seat.index])
        served = worker.serve(self._sockets.share(self._publication.snapshot, indexes))
        return DeferredList([published, served]).addCallback(lambda _: None)

    def _share_sockets(self) -> None:
        if self._publication is None or self._stopping is not None:
            return
        for index, indexes in served_by([worker.ready for worker in self._workers]).items():
            self._workers[index].serve(self._sockets.share(self._publication.snapshot, indexes))

    def _changed(self, worker: WorkerProcess) -> None:
        if worker.exited:
            self._ended(worker)
        self._share_sockets()
        if worker.ready and not self._announced and all(self.up()):
            self._announced = True
            self._on_all_ready()

    def _ended(self, worker: WorkerProcess) -> None:
        index = worker.seat.index
        self._stuck.discard(index)
        self._scoreboard.zero_gauges(index)
        if self._stopping is not None:
            if all(other.exited for other in self._workers) and not self._stopping.called:
                self._stopping.callback(None)
            return
        pause = self._restarts[index].pause(self._reactor.seconds())
        self.log.warn(
            "{worker} (pid {pid}) ended; restart in {pause:.1f} s",
            worker=worker.seat.identity,
            pid=worker.pid,
            pause=pause,
        )
        self._respawns[index] = self._reactor.callLater(pause, self._respawn, index)

    def _respawn(self, index: int) -> None:
        del self._respawns[index]
        self.restarts += 1
        try:
            worker = self._spawn(index)
        except OSError as error:
            pause = self._restarts[index].pause(self._reactor.seconds())
            self.log.error(
                "cannot start worker-{n}: {error}; again in {pause:.1f} s",
                n=index + 1,
                error=error,
                pause=pause,
            )
            self._respawns[index] = self._reactor.callLater(pause, self._respawn, index)
            return
        self._workers[index] = worker
        if self._publication is not None:
            self._feed(worker)

    def _check_heartbeats(self) -> None:
        now = int(time.monotonic() * 1000)
        for index, worker in enumerate(self._workers):
            beat = self._scoreboard.worker(index, "heartbeat_ms")
            stuck = worker.ready and beat != 0 and now - beat > STUCK_AFTER * 1000
            if stuck and index not in self._stuck:
                self.log.error(
                    "{worker} (pid {pid}) has not moved for {seconds:.0f} s",
                    worker=worker.seat.identity, pid=worker.pid, seconds=(now - beat) / 1000,
                )  # fmt: skip
                self._stuck.add(index)
            elif not stuck and index in self._stuck:
                self.log.warn("{worker} moves again", worker=worker.seat.identity)
                self._stuck.discard(index)
