"""Everything that changes the configuration, one after another.

Rules:

* A change over the API is validated, then committed, then published. Changes that come while another is on
  its way go together: one commit, one generation; each is accepted or refused for itself.
* Reloads, changes, new addresses of names and the end of removed backends wait for each other. Whoever
  asked may go away; what was begun goes on.
* An address that a backend of the API may not have is as good as none, whenever its name resolves to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txlb.config.overlay import read_again
from txlb.control.amendment import Amendment, Edit
from txlb.control.configuration import Configuration, Draft
from txlb.control.drain import Draining
from txlb.control.publisher import Publisher
from txlb.control.resolve import (
    IReactorForLookups,
    addresses_of,
    look_up,
    names_of,
    permitted,
    with_addresses,
)
from txlb.control.targets import Targets
from txlb.core.model import Snapshot
from txlb.core.snapshot import Difference
from txlb.errors import NotServing

NAMES_EVERY = 30.0
T = TypeVar("T")
Commit = Callable[[Draft], Coroutine[Any, Any, None]]


class Changing:
    """``targets`` says what backends added over the API may be, ``drains`` tells workers who drains."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorForLookups,
        configuration: Configuration,
        publisher: Publisher,
        drains: Draining,
        targets: Callable[[], Targets],
    ) -> None:
        self._reactor = reactor
        self.configuration = configuration
        self._publisher = publisher
        self._drains = drains
        self._targets = targets
        self._lock = DeferredLock()
        self._amendments: list[Amendment] = []
        self._deadlines: dict[tuple[str, float], float] = {}  # of drains, by id and time of day
        self._begun = False
        self._refreshing = LoopingCall(self.refresh)
        self._refreshing.clock = reactor

    @property
    def _idle(self) -> bool:
        """Before the first generation, and when txlb stops."""
        return not self._begun or self._publisher.closed

    def one_at_a_time(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Its result. Whoever waits for it may go away; the work goes on."""
        result: Deferred[T] = Deferred()
        self._lock.run(lambda: Deferred.fromCoroutine(work())).addBoth(result.callback)
        return result

    async def first(self) -> None:
        """The first generation: the file, and what the store has."""
        draft = Draft(await self.configuration.stored(self.configuration.composed.file))
        await self.configuration.keep(draft)
        self.configuration.adopt(draft)
        self._sync_drains()
        snapshot = await self._resolved(draft, names_of(draft.snapshot))
        await deferLater(self._reactor, 0)  # standings go first
        await self._publisher.first(snapshot)
        self._begun = True
        self.configuration.store.watch(self._store_changed)
        self._refreshing.start(NAMES_EVERY, now=False)

    async def load(self, file: Snapshot) -> Difference:
        """Another file."""
        draft = self.configuration.draft()
        composed = await self._publisher.in_thread(self.configuration.with_file, file)
        draft.take(composed, 0.0)
        draft.leaving = {
            id: one for id, one in draft.leaving.items() if id in self.configuration.leaving
        }  # what the file drops goes at once
        return await self._put_in_force(draft, await self._resolved(draft, names_of(draft.snapshot)))

    def amend_files(self, edit: Callable[[Snapshot], Snapshot]) -> Deferred[bool]:
        """Put in force what ``edit`` (called in a thread) makes of file and additions; True if it is new."""

        async def amend() -> bool:
            draft = self.configuration.draft()
            composed = await self._publisher.in_thread(read_again, draft.composed, edit)
            if composed is draft.composed or self._idle:
                return False
            draft.take(composed, time.monotonic() + self._publisher.snapshot.timeouts.drain)
            return bool(await self._put_in_force(draft, await self._resolved(draft, ())))

        return self.one_at_a_time(amend)

    async def change(
        self, edit: Edit, if_match: str | None = None, hosts: Iterable[str] = (), linger: float | None = None
    ) -> None:
        """Change the overlay; returns when it is committed and published. Fails with `TxlbError`.

        ``hosts`` are host names that the change brings, ``linger`` how long what it removes may go on.
        """
        if self._idle:
            raise NotServing("txlb is stopping" if self._publisher.closed else "txlb does not serve yet")
        found = await look_up(self._reactor, hosts)
        if linger is None:
            linger = self._publisher.snapshot.timeouts.drain
        one = Amendment(edit, if_match, found, linger)
        self._amendments.append(one)
        if len(self._amendments) == 1:
            self.one_at_a_time(self._amend).addErrback(lambda failure: self.log.failure("change", failure))
        await one.done

    def hasten(self, backend_id: str) -> None:
        """A removed backend goes now, whatever it has open."""
        leaving = self.configuration.leaving.get(backend_id)
        if leaving is not None:
            leaving.until = time.monotonic()
            self._sync_drains()

    def stop(self) -> None:
        """Names are looked up no more."""
        if self._refreshing.running:
            self._refreshing.stop()

    def left(self, ids: Collection[str]) -> None:
        """Nothing of these removed backends is open any more."""

        async def bury() -> None:
            draft = self.configuration.draft()
            draft.leaving = {id: one for id, one in draft.leaving.items() if id not in ids}
            await self._put_in_force(draft, await self._resolved(draft, ()))

        if not self._idle:
            done = self.one_at_a_time(bury)
            done.addErrback(lambda failure: self.log.failure("removing backends", failure))

    async def _resolved(
        self, draft: Draft, names: Iterable[str], found: Mapping[str, str] | None = None
    ) -> Snapshot:
        """The draft as it can be published: with what its names are known or ``found`` to be."""
        known = {**addresses_of(self.configuration.snapshot, self._publisher.snapshot), **(found or {})}
        fresh = await look_up(self._reactor, names)
        snapshot, warnings = with_addresses(draft.snapshot, fresh, known)
        snapshot, refused = permitted(snapshot, draft.composed.guarded(), self._targets())
        self._warn([*warnings, *refused] if names else refused)
        return replace(snapshot, generation=self._publisher.snapshot.generation)

    def refresh(self) -> Deferred[None]:
        done = self.one_at_a_time(self._refresh_names)
        return done.addErrback(lambda failure: self.log.failure("looking names up again", failure))

    async def _refresh_names(self) -> None:
        """Names may move without any change of the file."""
        draft = self.configuration.draft()
        names = names_of(draft.snapshot)
        if names and not self._idle:
            snapshot = await self._resolved(draft, names)
            if not self._publisher.closed:
                if await self._put_in_force(draft, snapshot):
                    self.log.info("addresses of backends changed")

    async def _amend(self) -> None:
        """Carry out every change that waits."""
        amendments, self._amendments = self._amendments, []
        draft, targets = self.configuration.draft(), self._targets()
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
        if not self._idle and not self.configuration.committing:
            done = self.one_at_a_time(self._reread)
            done.addErrback(lambda failure: self.log.failure("reading the store again", failure))

    async def _reread(self) -> None:
        """Somebody else changed the store."""
        draft = self.configuration.draft()
        composed = await self.configuration.stored(draft.composed.file)
        draft.take(composed, time.monotonic() + self._publisher.snapshot.timeouts.drain)
        snapshot = await self._resolved(draft, names_of(draft.snapshot))
        await self._put_in_force(draft, snapshot)

    def _sync_drains(self) -> None:
        """Workers learn who drains; a deadline that is known stays, whatever the system's clock is set to."""
        configuration = self.configuration
        known = {backend.id for backend in configuration.composed.snapshot.backends}
        epoch = time.monotonic() - time.time()
        self._deadlines = {
            drain: self._deadlines.get(drain, drain[1] + epoch)
            for drain in configuration.composed.drains().items()
            if drain[0] in known
        }
        until = {id: deadline for (id, _), deadline in self._deadlines.items()}
        until.update((id, one.until) for id, one in configuration.leaving.items())
        self._drains.sync(until, configuration.leaving)

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self.log.warn("{warning}", warning=warning)
