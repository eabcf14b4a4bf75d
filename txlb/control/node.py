"""One txlb: the configuration in force, its sockets, scoreboard and workers, and how a reload changes them.

Rules:

* `bind` opens every listener or none; `start` spawns; the first generation goes out once
  backend names are resolved.
* A reload is all or nothing: file, names, columns and new sockets first; only when all
  of them are there is the new generation published. Sockets no listener has any more are closed last.
* Reloads happen one after another. Every publication has the next generation.
* ``workers`` and ``admin`` are fixed until restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from txlb.control.fleet import Fleet, OnReports, Publication, Reports
from txlb.control.listening import ListeningSockets, binds_of
from txlb.control.rates import Rate
from txlb.control.resolve import IReactorForLookups, addresses_of, look_up, names_of, with_addresses
from txlb.control.scoreboard import Scoreboard
from txlb.control.standings import Standings
from txlb.core.model import Snapshot
from txlb.core.scoreboard import LISTENER, WORKER, Columns, ColumnsExhausted
from txlb.core.snapshot import Difference, diff
from txlb.core.standing import Standing
from txlb.errors import TxlbError

NAMES_EVERY = 30.0


class Loaded(Protocol):
    """What the configuration loader returns."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def warnings(self) -> Sequence[str]: ...


FleetFactory = Callable[[Scoreboard, ListeningSockets, OnReports], Fleet]


@dataclass(slots=True)
class Reloads:
    """How reloads went since the start."""

    success: int = 0
    failure: int = 0


class Node:
    """Built by a composition root; ``load`` reads the configuration again (in a thread, it may block)."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorForLookups,
        snapshot: Snapshot,
        workers: int,
        fleet: FleetFactory,
        load: Callable[[], Loaded] | None = None,
    ) -> None:
        self._reactor = reactor
        self._load = load
        self._fleet_factory = fleet
        self._lock = DeferredLock()
        self._configured = replace(snapshot, generation=1)  # names not resolved
        self.snapshot = self._configured
        self._published: Publication | None = None
        self.sockets = ListeningSockets(max(workers, 1))
        self.workers = workers
        self.rows = max(workers, 1)
        self.scoreboard: Scoreboard | None = None
        self.fleet: Fleet | None = None
        self.rate: Rate | None = None
        self.standings = Standings(reactor, self._send_standings)
        self.reloads = Reloads()
        self.serving = False
        self.draining = False
        self._sampling = LoopingCall(self._sample)
        self._sampling.clock = reactor
        self._refreshing = LoopingCall(self._refresh)
        self._refreshing.clock = reactor

    def bind(self) -> None:
        """Open every listener. Raises `ListenError`."""
        try:
            self.sockets.open(binds_of(self.snapshot))
        except BaseException:
            self.sockets.close()
            raise

    def start(self) -> Deferred[None]:
        """Spawn the workers (raises OSError); fires when all of them run the first generation."""
        self.scoreboard = Scoreboard(self.snapshot, self.rows)
        self.fleet = self._fleet_factory(self.scoreboard, self.sockets, self._reported)
        self.fleet.start()
        self.rate = Rate(lambda: self._sum_of_listeners("requests"), self._reactor.seconds)
        self._sampling.start(1.0, now=False)
        self._refreshing.start(NAMES_EVERY, now=False)
        return self._lock.run(lambda: Deferred.fromCoroutine(self._publish_first()))

    def reload(self) -> Deferred[Difference]:
        """Load the configuration again and put it in force; fails with `TxlbError` and changes nothing."""
        return self._lock.run(lambda: Deferred.fromCoroutine(self._reload()))

    def active_connections(self) -> int:
        """Client connections open now, over all workers."""
        assert self.scoreboard is not None
        return self.scoreboard.total(self.scoreboard.columns.worker + WORKER.index("connections"))

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Drain; fires when every worker ended."""
        self.draining = True
        for call in (self._sampling, self._refreshing):
            if call.running:
                call.stop()
        self.standings.stop()
        assert self.fleet is not None
        done = self.fleet.shutdown(self.snapshot.timeouts.shutdown if timeout is None else timeout)
        self.sockets.close()  # workers have their copies until they have emptied the queues
        return done

    def close(self) -> None:
        """Give back what is left; after `stop` fired."""
        self.sockets.close()
        if self.scoreboard is not None:
            self.scoreboard.close()

    def _send_standings(self, changes: Sequence[Standing]) -> None:
        if self.fleet is not None and not self.draining:
            self.fleet.set_standings(changes)

    def _reported(self, reports: Reports) -> None:
        """Workers doubt these backends."""

    async def _publish_first(self) -> None:
        snapshot = await self._resolved(self._configured, {})
        assert self.scoreboard is not None
        await self._publish(await self._in_thread(Publication.of, snapshot, self.scoreboard.columns))
        self.serving = True

    async def _reload(self) -> Difference:
        try:
            difference = await self._load_and_publish()
        except BaseException:
            self.reloads.failure += 1
            raise
        self.reloads.success += 1
        return difference

    async def _load_and_publish(self) -> Difference:
        if self._load is None:
            raise TxlbError("there is no configuration file to load again")
        loaded = await self._in_thread(self._load)
        self._warn(loaded.warnings)
        configured = self._fixed(loaded.snapshot)
        snapshot = await self._resolved(configured, addresses_of(self._configured, self.snapshot))
        difference: Difference = await self._in_thread(diff, self.snapshot, snapshot)
        if difference:
            await self._change(snapshot)
            self._configured = configured
        return difference

    async def _change(self, snapshot: Snapshot) -> None:
        """Open what is new, publish, close what is gone."""
        assert self.scoreboard is not None and self.fleet is not None
        snapshot = replace(snapshot, generation=self.snapshot.generation + 1)
        self.scoreboard.reclaim(self.fleet.acknowledged())
        try:
            columns = await self._in_thread(Columns.for_snapshot, snapshot, self.scoreboard.columns)
        except ColumnsExhausted as error:
            raise TxlbError(str(error)) from error
        publication = await self._in_thread(Publication.of, snapshot, columns, self._published)
        if self.draining:
            raise TxlbError("txlb is stopping")
        self.sockets.open(binds_of(snapshot))
        self.scoreboard.columns = columns
        await self._publish(publication)
        if not self.draining:
            self.sockets.close(self.sockets.surplus(snapshot))

    async def _publish(self, publication: Publication) -> None:
        assert self.fleet is not None
        if not self.draining:
            self.snapshot = publication.snapshot
            self._published = publication
            self.standings.retain({backend.id for backend in publication.snapshot.backends})
            await self.fleet.publish(publication)

    async def _resolved(self, configured: Snapshot, known: Mapping[str, str]) -> Snapshot:
        found = await look_up(self._reactor, names_of(configured))
        snapshot, warnings = with_addresses(configured, found, known)
        self._warn(warnings)
        return snapshot

    def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """For what takes long with 10,000 backends: the loop goes on meanwhile."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments)

    def _fixed(self, snapshot: Snapshot) -> Snapshot:
        """``snapshot`` with what cannot change while we run as it was."""
        for name in ("workers", "admin_bind"):
            if getattr(snapshot, name) != getattr(self.snapshot, name):
                self.log.warn("{name}: the change takes effect at the next start", name=name)
        return replace(
            snapshot,
            generation=self.snapshot.generation,
            workers=self.snapshot.workers,
            admin_bind=self.snapshot.admin_bind,
        )

    def _refresh(self) -> Deferred[None]:
        done = self._lock.run(lambda: Deferred.fromCoroutine(self._refresh_names()))
        return done.addErrback(lambda failure: self.log.failure("looking names up again", failure))

    async def _refresh_names(self) -> None:
        """Names may move without any change of the file."""
        names = names_of(self._configured)
        if names and self.serving and not self.draining:
            known = addresses_of(self._configured, self.snapshot)
            found = await look_up(self._reactor, names)
            snapshot, _ = with_addresses(self._configured, found, known)
            if not self.draining and await self._in_thread(diff, self.snapshot, snapshot):
                self.log.info("addresses of backends changed")
                await self._change(snapshot)

    def _sum_of_listeners(self, name: str) -> int:
        assert self.scoreboard is not None
        offset = LISTENER.index(name)
        return sum(
            self.scoreboard.total(base + offset) for base in self.scoreboard.columns.listeners.values()
        )

    def _sample(self) -> None:
        assert self.rate is not None
        self.rate.sample()

    def _warn(self, warnings: Sequence[str]) -> None:
        for warning in warnings:
            self.log.warn("{warning}", warning=warning)
