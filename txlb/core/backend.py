"""The live object of one backend: what changes while traffic flows.

Rules:

* One object per backend id and worker, shared by every pool that uses it: its counts are exact sums over all
  rules.
* ``active_connections`` counts leases (`txlb.core.pool`), ``connections`` open transports, ``idle`` those of
  them that wait for reuse. Gauges go both ways; everything else only grows.
* Status is derived, never stored: ``healthy`` is what was observed, ``drained`` what the operator wants,
  ``address`` is "" while the host does not resolve. Weight 0 means: no new traffic.
* ``avoid_until`` is this worker's own memory of a failed connect, or of too many failures in a row
  (`txlb.core.suspicion`): not chosen before that time while another will do.
* What raises doubt about a healthy backend enters it in ``suspects``, once until somebody takes it out.
* Whoever orders backends by load is told at once when a load falls (`Watcher`); that it rose can be seen.
* ``elsewhere`` counts the leases that sibling workers hold, as far as somebody tells us (`fold`). They count
  towards ``max_connections``, so siblings together pass it by no more than they took since that was told.
"""

from __future__ import annotations

from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from txlb.core import outcome as outcomes
from txlb.core.answers import Answers
from txlb.core.suspicion import Doubt

AVOID_SECONDS: Final = 1.0  # health checks decide beyond that
UNLIMITED: Final = 1 << 60


@mypyc_attr(allow_interpreted_subclasses=True)
class Watcher:
    """Somebody's entry for one backend, in ``Backend.watchers`` as long as it is of use."""

    def relieved(self) -> None:
        """The backend's load fell: a lease was released."""
        raise NotImplementedError


@final
class Backend(Answers):
    """One address that serves."""

    __slots__ = (
        "_state",
        "active_connections",
        "address",
        "avoid_until",
        "bad_responses",
        "bytes_in",
        "bytes_out",
        "cell",
        "cells",
        "connect_failures",
        "connections",
        "doubt",
        "drain_until",
        "drained",
        "elsewhere",
        "errors",
        "healthy",
        "host",
        "id",
        "idle",
        "limit",
        "most",
        "newest",
        "oldest",
        "port",
        "proxy_protocol",
        "resets",
        "secure",
        "suspect_after",
        "suspected",
        "suspects",
        "timeouts",
        "watched",
        "watchers",
        "weight",
        "youngest",
    )
    id: str
    host: str
    address: str  # the IP address that host resolved to; "" = it does not
    port: int
    weight: int
    proxy_protocol: int  # version of the PROXY header that connections begin with; 0 = none
    most: int  # leases at a time, of all workers together; UNLIMITED = no limit
    limit: int  # what that leaves to this worker
    healthy: bool
    drained: bool
    drain_until: float  # monotonic seconds: who belongs to it may come till then; meaningless unless drained
    avoid_until: float  # monotonic seconds; 0.0 = nothing against it
    doubt: Doubt | None  # None = nobody doubts it
    suspect_after: float  # how long an answer may take; 0.0 = as with all
    suspected: str  # why, until that is told; "" = told, or nothing to tell
    suspects: list[Backend] | None  # whoever tells looks there; None = nobody does
    watched: bool  # somebody looks at ``oldest`` from time to time
    active_connections: int
    elsewhere: int
    watchers: list[Watcher]
    connections: int
    idle: int
    secure: Any  # how TLS to it is spoken (`txlb.net.tls.Origin`), None = not at all
    newest: Any  # the idle connection used last, None = none: the forwarding plane's business
    oldest: Any  # who waits longest for the first byte of an answer, None = nobody: its business, too
    youngest: Any
    errors: int  # failures of any kind: the sum of the four below
    connect_failures: int
    timeouts: int
    resets: int
    bad_responses: int
    bytes_in: int  # received from the backend
    bytes_out: int  # sent to it
    cell: Answers | None  # where its last answer was counted by listener and rule,
    cells: dict[str, Answers] | None  # and among which, by backend id: most often it is the same again
    _state: dict[str, object] | None

    def __init__(
        self, id: str, host: str, address: str, port: int, weight: int = 1, max_connections: int | None = None
    ) -> None:
        Answers.__init__(self)
        self.id = id
        self.host = host
        self.address = address
        self.port = port
        self.weight = weight
        self.proxy_protocol = 0
        self.secure = None
        self.most = self.limit = UNLIMITED if max_connections is None else max_connections
        self.healthy = True
        self.drained = False
        self.drain_until = 0.0
        self.avoid_until = 0.0
        self.doubt = None
        self.suspect_after = 0.0
        self.suspected = ""
        self.suspects = None
        self.watched = False
        self.active_connections = 0
        self.elsewhere = 0
        self.watchers = []
        self.connections = 0
        self.idle = 0
        self.newest = None
        self.oldest = None
        self.youngest = None
        self.errors = 0
        self.connect_failures = 0
        self.timeouts = 0
        self.resets = 0
        self.bad_responses = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.cell = None
        self.cells = None
        self._state = None

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.address or self.host}:{self.port} active={self.active_connections}>"

    @property
    def max_connections(self) -> int | None:
        return None if self.most == UNLIMITED else self.most

    @property
    def state(self) -> dict[str, object]:
        """The algorithms' own notes; they last across rebuilds."""
        if self._state is None:
            self._state = {}
        return self._state

    def is_eligible(self) -> bool:
        """May get new traffic, room aside."""
        return self.healthy and not self.drained and self.weight > 0 and self.address != ""

    def is_full(self) -> bool:
        return self.active_connections >= self.limit

    def fold(self, elsewhere: int) -> None:
        """Sibling workers hold so many leases now."""
        fell = elsewhere < self.elsewhere
        self.elsewhere = elsewhere
        self._share()
        if fell:
            self.tell_watchers()

    def _share(self) -> None:
        if self.most != UNLIMITED:
            self.limit = max(self.most - self.elsewhere, 0)

    def tell_watchers(self) -> None:
        for watcher in self.watchers:
            watcher.relieved()

    def update(self, host: str, address: str, port: int, weight: int, max_connections: int | None) -> None:
        """The configuration changed; counters stay. A new place starts with a clean record."""
        if address != self.address or port != self.port:
            self.trust()
        self.host = host
        self.address = address
        self.port = port
        self.weight = weight
        self.most = self.limit = UNLIMITED if max_connections is None else max_connections
        self._share()

    def trust(self) -> None:
        """Nothing is held against it any more."""
        self.avoid_until = 0.0
        self.doubt = None
        self.suspected = ""

    def suspect(self, reason: str) -> None:
        """Have control look at it."""
        suspects = self.suspects
        if suspects is not None and self.healthy and not self.suspected:
            self.suspected = reason
            suspects.append(self)

    def count_outcome(self, outcome: int, now: float, client: str) -> None:
        """What one lease came to: failures by kind, and whether to avoid this backend for a while."""
        if outcome == outcomes.OK:
            self.avoid_until = 0.0
            doubt = self.doubt
            if doubt is not None:
                doubt.answered()
        elif outcomes.is_connect_failure(outcome):
            self.errors += 1
            self.connect_failures += 1
            self.avoid_until = now + AVOID_SECONDS
            self.suspect(outcomes.NAMES[outcome])
        elif outcome <= outcomes.BAD_RESPONSE:
            self.errors += 1
            if outcome == outcomes.RESET:
                self.resets += 1
            elif outcome == outcomes.TIMEOUT:
                self.timeouts += 1
            else:
                self.bad_responses += 1
            doubt = self.doubt
            if doubt is None:
                doubt = self.doubt = Doubt()
            if doubt.failed(client):
                self.avoid_until = now + AVOID_SECONDS
            self.suspect(outcomes.NAMES[outcome])
