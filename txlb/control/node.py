"""One txlb: the configuration in force, its sockets, scoreboard and workers, and how it changes.

Rules:

* `bind` opens every listener or none; `start` spawns; the first generation goes out once the store is read
  and backend names are resolved.
* A reload is all or nothing: file, names, columns and new sockets first; only when all
  of them are there is the new generation published. Sockets no listener has any more are closed last.
* What changes the configuration is in `txlb.control.changing`, how it is published in
  `txlb.control.publisher`.
* What `FIXED` names is fixed until restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from txlb.control.certificates import CertificateWatch
from txlb.control.changing import Changing
from txlb.control.configuration import Configuration
from txlb.control.drain import Draining
from txlb.control.fleet import Fleet, OnReports, Reports
from txlb.control.health import HealthChecks
from txlb.control.listening import ListeningSockets
from txlb.control.publisher import Publisher
from txlb.control.rates import Rate
from txlb.control.resolve import IReactorForLookups
from txlb.control.scoreboard import Scoreboard
from txlb.control.standings import Standings
from txlb.control.store import MemoryStore
from txlb.control.targets import Targets
from txlb.core.model import Snapshot
from txlb.core.scoreboard import LISTENER, WORKER
from txlb.core.snapshot import Difference, key_of
from txlb.core.standing import Standing
from txlb.errors import NotServing, TxlbError
from txlb.net.scheduling import give_way

FIXED = ("workers", "admin", "metrics_bind", "store")


class Loaded(Protocol):
    """What the configuration loader returns."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class Reloadable(Protocol):
    """Something outside the snapshot that a reload reads again, such as the admin port's tokens."""

    def prepare(self) -> Callable[[], None]:
        """Read, in a thread; raises `TxlbError`. What is returned puts it in force, once all is well."""


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
        store: Any = None,
        folder: Path = Path(),
    ) -> None:
        """``store`` provides `IStore`; ``folder`` is what relative paths in changes are relative to."""
        self._reactor = reactor
        self._load = load
        self._fleet_factory = fleet
        snapshot = replace(snapshot, generation=1)
        self.configuration = Configuration(snapshot, folder, MemoryStore() if store is None else store)
        self.sockets = ListeningSockets(max(workers, 1))
        self.own_addresses: list[str] = []  # of ours, besides the listeners'
        self.admin_requests: Counter[str] = Counter()  # by what became of them
        self.own_certificates: dict[str, float] = {}  # files besides the listeners', and when they end
        self.workers = workers
        self.rows = max(workers, 1)
        self.scoreboard: Scoreboard | None = None
        self.fleet: Fleet | None = None
        self.rate: Rate | None = None
        self.standings = Standings(reactor, self._send_standings)
        self.health = HealthChecks(reactor, self.standings.set_healthy, pause=give_way if workers else None)
        self._publisher = Publisher(reactor, snapshot, self.sockets, self._published)
        self.drains = Draining(reactor, self.standings, self._up, lambda ids: self.changing.left(ids))
        self.changing = Changing(reactor, self.configuration, self._publisher, self.drains, self.targets)
        self.reloads = Reloads()
        self.reloadables: list[Reloadable] = []
        self.serving = False
        self.draining = False
        self._sampling = LoopingCall(self._sample)
        self._sampling.clock = reactor
        self._certificates = CertificateWatch(reactor, lambda: self.snapshot, self.changing.amend_files)

    @property
    def snapshot(self) -> Snapshot:
        """As published: names resolved."""
        return self._publisher.snapshot

    def bind(self) -> None:
        """Open every listener. Raises `ListenError`."""
        try:
            self.sockets.prepare(self.snapshot)
        except BaseException:
            self.sockets.close()
            raise

    def start(self) -> Deferred[None]:
        """Spawn the workers (raises OSError, `StoreError`); fires when all run the first generation."""
        self.configuration.store.open()
        self.scoreboard = Scoreboard(self.snapshot, self.rows)
        self.drains.scoreboard = self.scoreboard
        self.fleet = self._fleet_factory(self.scoreboard, self.sockets, self._reported)
        self._publisher.scoreboard, self._publisher.fleet = self.scoreboard, self.fleet
        self.fleet.start()
        self._certificates.start()
        self.health.start()
        self.rate = Rate(lambda: self._sum_of_listeners("requests"), self._reactor.seconds)
        self._sampling.start(1.0, now=False)
        return self.changing.one_at_a_time(self._first)

    def reload(self, check: Callable[[], None] = lambda: None) -> Deferred[Difference]:
        """Load the configuration again and put it in force; fails with `TxlbError` and changes nothing.

        ``check``, called when it is its turn, may raise: then it is not tried.
        """
        return self.changing.one_at_a_time(lambda: self._reload(check))

    def status(self, backend_id: str) -> str:
        """HEALTHY, UNHEALTHY or DRAINING: what the operator wants comes before what was observed."""
        if self.standings.of(backend_id).drained:
            return "DRAINING"
        return "HEALTHY" if self.health.is_healthy(backend_id) else "UNHEALTHY"

    def active_connections(self) -> int:
        """Client connections open now, over all workers."""
        assert self.scoreboard is not None
        return self.scoreboard.total(self.scoreboard.columns.worker + WORKER.index("connections"))

    def in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """For what takes long with 10,000 backends: the loop goes on meanwhile."""
        return self._publisher.in_thread(work, *arguments)

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Drain; fires when every worker ended."""
        self.draining = self._publisher.closed = True
        if self._sampling.running:
            self._sampling.stop()
        self.changing.stop()
        self._certificates.stop()
        self.health.stop()
        self.standings.stop()
        self.drains.stop()
        assert self.fleet is not None
        done = self.fleet.shutdown(self.snapshot.timeouts.shutdown if timeout is None else timeout)
        self.sockets.close()  # workers have their copies until they have emptied the queues
        return done.addBoth(lambda result: self.configuration.store.close().addBoth(lambda _: result))

    def close(self) -> None:
        """Give back what is left; after `stop` fired."""
        self.sockets.close()
        if self.scoreboard is not None:
            self.scoreboard.close()

    def targets(self) -> Targets:
        """What backends added over the API may be."""
        own = [*self.sockets.every_address(), *self.own_addresses]
        return Targets(self.snapshot.admin_allowed_backends, own)

    def _up(self) -> list[bool]:
        return [] if self.fleet is None else self.fleet.up()

    def _send_standings(self, changes: Sequence[Standing]) -> None:
        if self.fleet is not None and not self.draining:
            self.fleet.set_standings(changes)

    def _published(self, snapshot: Snapshot) -> None:
        """This is what workers are about to get."""
        self.standings.retain({backend.id for backend in snapshot.backends})
        self.health.apply(snapshot)

    def _reported(self, reports: Reports) -> None:
        if not self.draining:
            self.health.suspect(backend_id for backend_id, _ in reports)

    async def _first(self) -> None:
        await self.changing.first()
        self.serving = True

    async def _reload(self, check: Callable[[], None]) -> Difference:
        if self.draining:
            raise NotServing("txlb is stopping")
        check()
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
        loaded = await self._publisher.in_thread(self._load)
        commits = [await self._publisher.in_thread(one.prepare) for one in self.reloadables]
        self._warn(loaded.warnings)
        difference = await self.changing.load(self._fixed(loaded.snapshot))
        for commit in commits:
            commit()
        return difference

    def _fixed(self, snapshot: Snapshot) -> Snapshot:
        """``snapshot`` with what cannot change while we run as it was."""
        for name in FIXED:
            if getattr(snapshot, name) != getattr(self.snapshot, name):
                self.log.warn("{key}: the change takes effect at the next start", key=key_of(name))
        kept: dict[str, Any] = {name: getattr(self.snapshot, name) for name in FIXED}
        return replace(snapshot, generation=1, **kept)

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
