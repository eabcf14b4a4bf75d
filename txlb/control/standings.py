"""The one table of standings in control: health checks and operators write it, workers are told.

Rules:

* A change goes to every worker in one message per turn of the reactor, with all others of that turn.
* What changes nothing is not sent. A backend that left is forgotten: one that comes back under its id
  starts with a clean slate.
* `Fleet` implementations resend the whole table to a worker that starts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from txlb.core.standing import Standing

Send = Callable[[Sequence[Standing]], object]


class Standings:
    """By backend id; ``send`` gets the changes."""

    def __init__(self, clock: IReactorTime, send: Send) -> None:
        self._clock = clock
        self._send = send
        self._table: dict[str, Standing] = {}
        self._changed: dict[str, Standing] = {}
        self._flush_call: IDelayedCall | None = None

    def of(self, backend_id: str) -> Standing:
        return self._table.get(backend_id) or Standing(backend_id)

    def table(self) -> dict[str, Standing]:
        """A copy of what is not as by default."""
        return dict(self._table)

    def set_healthy(self, backend_id: str, healthy: bool) -> None:
        """What checks observed."""
        self._put(replace(self.of(backend_id), healthy=healthy))

    def set_drained(self, backend_id: str, drained: bool, until: float | None = None) -> None:
        """What the operator wants; ``until`` in seconds of `time.monotonic`."""
        self._put(replace(self.of(backend_id), drained=drained, drain_until=until if drained else None))

    def retain(self, backend_ids: Collection[str]) -> None:
        """A new generation has only these backends."""
        for backend_id in [known for known in self._table if known not in backend_ids]:
            self._put(Standing(backend_id))

    def stop(self) -> None:
        """Nothing is sent any more."""
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None

    def _put(self, standing: Standing) -> None:
        if standing == self.of(standing.backend_id):
            return
        if standing.is_default:
            del self._table[standing.backend_id]
        else:
            self._table[standing.backend_id] = standing
        self._changed[standing.backend_id] = standing
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        changed, self._changed = self._changed, {}
        self._send(list(changed.values()))
