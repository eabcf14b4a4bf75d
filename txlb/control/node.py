"""One txlb: the configuration in force, its sockets, scoreboard and workers, and how it changes.

Rules:

* `bind` opens every listener or none; `start` spawns; the first generation goes out once the store is read
  and backend names are resolved.
* A reload is all or nothing: file, names, columns and new sockets first; only when all
  of them are there is the new generation published. Sockets no listener has any more are closed last.
* A change over the API is validated, then committed, then published. Changes that come while another is on
  its way go together: one commit, one generation; each is accepted or refused for itself.
* Reloads and changes happen one after another. Every publication has the next generation.
* What `FIXED` names is fixed until restart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txlb.control.amendment import Amendment, Edit
from txlb.control.certificates import CertificateWatch
from txlb.control.configuration import Configuration, Draft
from txlb.control.drain import Draining
from txlb.control.fleet import Fleet, OnReports, Reports
from txlb.control.listening import ListeningSockets
from txlb.control.publisher import Publisher
from txlb.control.rates import Rate
from txlb.control.resolve import (
    IReactorForLookups,
    addresses_of,
    look_up,
    names_of,
    permitted,
    with_addresses,
)
from txlb.control.scoreboard import Scoreboard
from txlb.control.standings import Standings
from txlb.control.store import MemoryStore
from txlb.control.targets import Targets
from txlb.core.model import Snapshot
from txlb.core.scoreboard import LISTENER, WORKER
from txlb.core.snapshot import Difference
from txlb.core.standing import Standing
from txlb.errors import TxlbError

NAMES_EVERY = 30.0
FIXED = ("workers", "admin", "metrics_bind", "store")
T = TypeVar("T")
Commit = Callable[[Draft], Coroutine[Any, Any, None]]


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
        self._lock = DeferredLock()
        snapshot = replace(snapshot, generation=1)
        self.configuration = Configuration(snapshot, folder, MemoryStore() if store is None else store)
        self._amendments: list[Amendment] = []
        self.sockets = ListeningSockets(max(workers, 1))
        self.own_addresses: list[str] = []  # of ours, besides the listeners'
        self.workers = workers
        self.rows = max(workers, 1)
        self.scoreboard: Scoreboard | None = None
        self.fleet: Fleet | None = None
        self.rate: Rate | None = None
        self.standings = Standings(reactor, self._send_standings)
        self._publisher = Publisher(reactor, snapshot, self.sockets, self.standings)
        self.drains = Draining(reactor, self.standings, self._up, self._nothing_left)
        self._epoch = time.monotonic() - time.time()  # from the time of day to that of deadlines
        self.reloads = Reloads()
        self.reloadables: list[Reloadable] = []
        self.serving = False
        self.draining = False
        self._sampling = LoopingCall(self._sample)
        self._sampling.clock = reactor
        self._refreshing = LoopingCall(self._refresh)
        self._refreshing.clock = reactor
        self._certificates = CertificateWatch(reactor, lambda: self.snapshot, self.amend_file)

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
        self.rate = Rate(lambda: self._sum_of_listeners("requests"), self._reactor.seconds)
        self._sampling.start(1.0, now=False)
        self._refreshing.start(NAMES_EVERY, now=False)
        self.configuration.store.watch(self._store_changed)
        return self._one_at_a_time(self._publish_first)

    def reload(self) -> Deferred[Difference]:
        """Load the configuration again and put it in force; fails with `TxlbError` and changes nothing."""
        return self._one_at_a_time(self._reload)

    async def change(
        self, edit: Edit, if_match: str | None = None, hosts: Iterable[str] = (), linger: float | None = None
    ) -> None:
        """Change the overlay; returns when it is committed and published. Fails with `TxlbError`.

        ``hosts`` are host names that the change brings, ``linger`` how long what it removes may go on.
        """
        if not self.serving or self.draining:
            raise TxlbError("txlb is stopping" if self.draining else "txlb does not serve yet")
        found = await look_up(self._reactor, hosts)
        if linger is None:
            linger = self.snapshot.timeouts.drain
        one = Amendment(edit, if_match, found, linger)
        self._amendments.append(one)
        if len(self._amendments) == 1:
            self._one_at_a_time(self._amend).addErrback(lambda failure: self.log.failure("change", failure))
        await one.done

    def hasten(self, backend_id: str) -> None:
        """A removed backend goes now, whatever it has open."""
        leaving = self.configuration.leaving.get(backend_id)
        if leaving is not None:
            leaving.until = time.monotonic()
            self._sync_drains()

    def amend_file(self, edit: Callable[[Snapshot], Snapshot]) -> Deferred[bool]:
        """Put in force what ``edit`` (called in a thread) makes of the file; whether that is another."""

        async def amend() -> bool:
            file = self.configuration.composed.file
            edited = await self._publisher.in_thread(edit, file)
            if edited is file or not self.serving or self.draining:
                return False
            draft = self.configuration.draft()
            composed = await self._publisher.in_thread(self.configuration.with_file, edited)
            draft.take(composed, time.monotonic() + self.snapshot.timeouts.drain)
            return bool(await self._put_in_force(draft, await self._resolved(draft, ())))

        return self._one_at_a_time(amend)

    def active_connections(self) -> int:
        """Client connections open now, over all workers."""
        assert self.scoreboard is not None
        return self.scoreboard.total(self.scoreboard.columns.worker + WORKER.index("connections"))

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """Drain; fires when every worker ended."""
        self.draining = self._publisher.closed = True
        for call in (self._sampling, self._refreshing):
            if call.running:
                call.stop()
        self._certificates.stop()
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

    def _reported(self, reports: Reports) -> None:
        """Workers doubt these backends."""

    # -- what changes the configuration: one after another -------------------------------------

    def _one_at_a_time(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Its result. Whoever waits for it may go away; the work goes on."""
        result: Deferred[T] = Deferred()
        self._lock.run(lambda: Deferred.fromCoroutine(work())).addBoth(result.callback)
        return result

    async def _publish_first(self) -> None:
        draft = Draft(await self.configuration.stored(self.configuration.composed.file))
        await self.configuration.keep(draft)
        self.configuration.adopt(draft)
        self._sync_drains()
        snapshot = await self._resolved(draft, names_of(draft.snapshot))
        await deferLater(self._reactor, 0)  # standings go first
        await self._publisher.first(snapshot)
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
        loaded = await self._publisher.in_thread(self._load)
        commits = [await self._publisher.in_thread(one.prepare) for one in self.reloadables]
        self._warn(loaded.warnings)
        draft = self.configuration.draft()
        composed = await self._publisher.in_thread(self.configuration.with_file, self._fixed(loaded.snapshot))
        draft.take(composed, 0.0)
        draft.leaving = {
            id: one for id, one in draft.leaving.items() if id in self.configuration.leaving
        }  # what the file drops goes at once
        snapshot = await self._resolved(draft, names_of(draft.snapshot))
        difference = await self._put_in_force(draft, snapshot)
        for commit in commits:
            commit()
        return difference

    async def _amend(self) -> None:
        """Carry out every change that waits."""
        amendments, self._amendments = self._amendments, []
        draft, targets = self.configuration.draft(), self.targets()
        accepted: list[Amendment] = []
        found: dict[str, str] = {}
        for one in amendments:
            etag = "" if accepted else self.configuration.etag
            try:
                await self._publisher.in_thread(one.apply, draft, etag, targets)
            except Exception:
                one.done.errback(Failure())  # the others have nothing to do with it
            else:
                accepted.append(one)
                found.update(one.addresses)
        if not accepted:
            return
        try:
            snapshot = await self._resolved(draft, (), found)
            await self._put_in_force(draft, snapshot, self.configuration.commit)
        except Exception:
            failure = Failure()
            for one in accepted:
                one.done.errback(failure)
        else:
            for one in accepted:
                one.done.callback(None)

    async def _put_in_force(
        self, draft: Draft, snapshot: Snapshot, commit: Commit | None = None
    ) -> Difference:
        async def keep() -> None:
            await (commit or self.configuration.keep)(draft)
            self.configuration.adopt(draft)

        difference = await self._publisher.put_in_force(snapshot, keep)
        self._sync_drains()
        return difference

    def _store_changed(self, revision: int, changes: Mapping[str, Any]) -> None:
        if self.serving and not self.draining and not self.configuration.committing:
            done = self._one_at_a_time(self._reread)
            done.addErrback(lambda failure: self.log.failure("reading the store again", failure))

    async def _reread(self) -> None:
        """Somebody else changed the store."""
        draft = self.configuration.draft()
        composed = await self.configuration.stored(draft.composed.file)
        draft.take(composed, time.monotonic() + self.snapshot.timeouts.drain)
        snapshot = await self._resolved(draft, names_of(draft.snapshot))
        await self._put_in_force(draft, snapshot)

    def _nothing_left(self, ids: Collection[str]) -> None:
        """Nothing of these removed backends is open any more."""

        async def bury() -> None:
            draft = self.configuration.draft()
            draft.leaving = {id: one for id, one in draft.leaving.items() if id not in ids}
            await self._put_in_force(draft, await self._resolved(draft, ()))

        if not self.draining:
            done = self._one_at_a_time(bury)
            done.addErrback(lambda failure: self.log.failure("removing backends", failure))

    def _sync_drains(self) -> None:
        """Workers learn who drains."""
        configuration = self.configuration
        known = {backend.id for backend in configuration.composed.snapshot.backends}
        until = {
            id: moment + self._epoch for id, moment in configuration.composed.drains().items() if id in known
        }
        until.update((id, one.until) for id, one in configuration.leaving.items())
        self.drains.sync(until, configuration.leaving)

    # -- names ---------------------------------------------------------------------------------

    async def _resolved(
        self, draft: Draft, names: Iterable[str], found: Mapping[str, str] | None = None
    ) -> Snapshot:
        """The draft as it can be published: with what its names are known or ``found`` to be."""
        known = {**addresses_of(self.configuration.snapshot, self.snapshot), **(found or {})}
        fresh = await look_up(self._reactor, names)
        snapshot, warnings = with_addresses(draft.snapshot, fresh, known)
        snapshot, refused = permitted(snapshot, draft.composed.guarded(), self.targets())
        self._warn([*warnings, *refused] if names else refused)
        return replace(snapshot, generation=self.snapshot.generation)

    def _refresh(self) -> Deferred[None]:
        done = self._one_at_a_time(self._refresh_names)
        return done.addErrback(lambda failure: self.log.failure("looking names up again", failure))

    async def _refresh_names(self) -> None:
        """Names may move without any change of the file."""
        draft = self.configuration.draft()
        names = names_of(draft.snapshot)
        if names and self.serving and not self.draining:
            snapshot = await self._resolved(draft, names)
            if not self.draining:
                if await self._put_in_force(draft, snapshot):
                    self.log.info("addresses of backends changed")

    def _fixed(self, snapshot: Snapshot) -> Snapshot:
        """``snapshot`` with what cannot change while we run as it was."""
        for name in FIXED:
            if getattr(snapshot, name) != getattr(self.snapshot, name):
                self.log.warn("{name}: the change takes effect at the next start", name=name)
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
