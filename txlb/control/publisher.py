"""From a snapshot to what every worker runs.

Rules:

* Nothing is published in part: columns and bytes are made, sockets opened and the change committed first.
* Every publication has the next generation. Sockets that no listener has any more are closed last.
* What takes long with 10,000 backends runs in a thread.
* A worker that does not acknowledge is waited for `ACKNOWLEDGED_WITHIN` seconds, no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from txlb.control.background import Background
from txlb.control.fleet import Fleet, Publication
from txlb.control.listening import ListeningSockets
from txlb.control.resolve import IReactorForLookups
from txlb.control.scoreboard import Scoreboard
from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns, ColumnsExhausted
from txlb.core.snapshot import Difference, diff
from txlb.errors import NotServing, TxlbError

ACKNOWLEDGED_WITHIN = 5.0
Commit = Callable[[], Coroutine[Any, Any, None]]


class Publisher:
    """What is published; ``snapshot`` is the one in force, names resolved."""

    def __init__(
        self,
        reactor: IReactorForLookups,
        snapshot: Snapshot,
        sockets: ListeningSockets,
        on_published: Callable[[Snapshot], None],
    ) -> None:
        self._reactor = reactor
        self._background = Background(reactor)
        self.snapshot = snapshot
        self._sockets = sockets
        self._on_published = on_published  # told before the workers are
        self._published: Publication | None = None
        self.scoreboard: Scoreboard | None = None
        self.fleet: Fleet | None = None
        self.closed = False  # nothing is published any more

    async def first(self, snapshot: Snapshot) -> None:
        """The first generation."""
        publication = await self.in_thread(self._prepared, snapshot)
        await self._publish(publication)

    async def put_in_force(self, snapshot: Snapshot, commit: Commit) -> Difference:
        """Prepare, open what is new, commit, publish, close what is gone."""
        assert self.scoreboard is not None and self.fleet is not None
        difference: Difference = await self.in_thread(diff, self.snapshot, snapshot)
        publication = None
        if difference:
            snapshot = replace(snapshot, generation=self.snapshot.generation + 1)
            self.scoreboard.reclaim(self.fleet.acknowledged())
            publication = await self.in_thread(self._prepared, snapshot)
        if self.closed:
            raise NotServing("txlb is stopping")
        opened = self._sockets.prepare(snapshot)
        try:
            await commit()
        except BaseException:
            self._sockets.close(opened)
            self._sockets.prepare(self.snapshot)  # steered as before
            raise
        if publication is not None and not self.closed:
            await self._publish(publication)
            if not self.closed:
                self._sockets.close(self._sockets.surplus(snapshot))
        return difference

    def _prepared(self, snapshot: Snapshot) -> Publication:
        assert self.scoreboard is not None
        try:
            columns = Columns.for_snapshot(snapshot, self.scoreboard.columns)
        except ColumnsExhausted as error:
            raise TxlbError(str(error)) from error
        return Publication.of(snapshot, columns, self._published)

    async def _publish(self, publication: Publication) -> None:
        assert self.fleet is not None and self.scoreboard is not None
        if not self.closed:
            self.snapshot = publication.snapshot
            self._published = publication
            self.scoreboard.columns = publication.columns
            self._on_published(publication.snapshot)
            await self._for_a_while(self.fleet.publish(publication))

    def _for_a_while(self, done: Deferred[None]) -> Deferred[None]:
        """``done``, or `ACKNOWLEDGED_WITHIN` seconds."""
        result: Deferred[None] = Deferred()
        limit = self._reactor.callLater(ACKNOWLEDGED_WITHIN, lambda: result.callback(None))

        def finish(_: object) -> None:
            if limit.active():
                limit.cancel()
                result.callback(None)

        done.addBoth(finish)
        return result

    def in_thread(self, work: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        """For what takes long with 10,000 backends: the loop goes on meanwhile."""
        return self._background.run(work, *arguments)
