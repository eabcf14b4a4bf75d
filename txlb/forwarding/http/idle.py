"""Idle backend connections, kept for reuse.

Rules:

* The connection used last is reused first (it is the least likely to be stale).
* At most ``max_per_backend`` wait per backend and ``total_limit`` per worker; beyond that a connection is
  closed when its exchange ends. When that limit falls, `give_up` closes one per backend in turn, the one
  used longest ago.
* One that waited ``idle_timeout`` is closed, unless its backend had traffic within that time and has no
  more than ``min_per_backend`` waiting.
* None is kept to a backend that drains.
* One that leads where its backend is no more (it moved, left, or speaks another TLS) is closed when its
  exchange ends.
* One that announced a client (PROXY protocol) is kept for that client's connection alone, one per backend,
  and is closed with it; `min_per_backend` does not count it.
* Whatever arrives on an idle connection, be it a byte or FIN, makes it stale: it leaves at once.
"""

from __future__ import annotations

from typing import cast

from txlb.core.backend import Backend
from txlb.forwarding.http.backend import BackendConnection, IdleStore
from txlb.forwarding.http.sides import ClientSide
from txlb.net.loop import Loop


class IdleConnections(IdleStore):
    """All idle backend connections of one worker; they hang on ``Backend.newest``."""

    total: int
    total_limit: int
    min_per_backend: int
    max_per_backend: int
    idle_timeout: float
    own: set[BackendConnection]  # those kept for one client
    turn: int  # which backend gave one up last

    def __init__(self, loop: Loop, total_limit: int) -> None:
        super().__init__(loop)
        self.total = 0
        self.total_limit = total_limit
        self.min_per_backend = 0
        self.max_per_backend = 1000
        self.idle_timeout = 60.0
        self.own = set()
        self.turn = 0

    def take(self, backend: Backend) -> BackendConnection | None:
        """The connection to ``backend`` that was used last; None if there is none."""
        connection: BackendConnection | None = backend.newest
        if connection is None:
            return None
        older = backend.newest = connection.older
        if older is not None:
            older.newer = None
            connection.older = None
        self.total -= 1
        backend.idle -= 1
        connection.deadline = 0.0
        return connection

    def waiting(self, backend: Backend) -> list[BackendConnection]:
        """Those that `take` would give, in its order."""
        found: list[BackendConnection] = []
        connection: BackendConnection | None = backend.newest
        while connection is not None:
            found.append(connection)
            connection = connection.older
        return found

    def take_own(self, backend: Backend, client: ClientSide, announced: bytes) -> BackendConnection | None:
        """The connection to ``backend`` that is kept for ``client`` and began with ``announced``."""
        kept = client.kept
        if kept is None:
            return None
        connection = cast(BackendConnection | None, kept.get(backend.id))
        if connection is None:
            return None
        self.remove(connection)
        if connection.announced != announced or connection.backend is not backend:
            connection.abort()
            return None
        connection.deadline = 0.0
        return connection

    def put(self, connection: BackendConnection) -> bool:
        """Keep ``connection``; False if there is no room or no use for it."""
        backend = connection.backend
        if connection.port != backend.port or connection.address != backend.address:
            return False
        if connection.secure is not backend.secure:
            return False
        if connection.version != backend.proxy_protocol:
            return False
        if backend.drained or backend.idle >= self.max_per_backend or self.total >= self.total_limit:
            return False
        owner = connection.owner
        if owner is None:
            older: BackendConnection | None = backend.newest
            if older is not None:
                older.newer = connection
                connection.older = older
            backend.newest = connection
        else:
            if owner.kept is None:
                owner.kept = {}
            elif backend.id in owner.kept:
                return False
            owner.kept[backend.id] = connection
            self.own.add(connection)
        self.total += 1
        backend.idle += 1
        backend.touch()
        connection.idle_since = self.loop.now
        self.loop.arm(connection, self.idle_timeout)
        return True

    def remove(self, connection: BackendConnection) -> None:
        """``connection`` closed, or is about to."""
        backend = connection.backend
        owner = connection.owner
        if owner is not None:
            if connection not in self.own:
                return
            self.own.remove(connection)
            if owner.kept is not None:
                owner.kept.pop(backend.id, None)
        elif not _unchain(backend, connection):
            return
        self.total -= 1
        backend.idle -= 1
        backend.touch()

    def expired(self, connection: BackendConnection, now: float) -> None:
        """``connection`` waited for ``idle_timeout``."""
        backend = connection.backend
        newest: BackendConnection | None = backend.newest
        if connection.owner is None and newest is not None and backend.idle <= self.min_per_backend:
            if now - newest.idle_since < self.idle_timeout:
                self.loop.arm(connection, self.idle_timeout)
                return
        self.remove(connection)
        connection.abort()

    def close(self, backend: Backend) -> None:
        """Close all that wait for a backend that left or moved."""
        for own in [own for own in self.own if own.backend is backend]:
            self.remove(own)
            own.abort()
        for connection in self.waiting(backend):
            self.remove(connection)
            connection.abort()

    def give_up(self, count: int, backends: list[Backend]) -> None:
        """Close so many, but at most one of each of ``backends``."""
        for _ in range(len(backends)):
            if count <= 0:
                break
            self.turn = (self.turn + 1) % len(backends)
            backend = backends[self.turn]
            if backend.newest is not None:
                oldest = self.waiting(backend)[-1]
                self.remove(oldest)
                oldest.abort()
                count -= 1

    def client_left(self, client: ClientSide) -> None:
        """Close what was kept for it alone."""
        kept = client.kept
        if kept is not None:
            for side in list(kept.values()):
                connection = cast(BackendConnection, side)
                self.remove(connection)
                connection.abort()


def _unchain(backend: Backend, connection: BackendConnection) -> bool:
    """Out of the chain of ``backend``; False if it is not in it."""
    newer, older = connection.newer, connection.older
    if newer is not None:
        newer.older = older
    elif backend.newest is connection:
        backend.newest = older
    else:
        return False
    if older is not None:
        older.newer = newer
    connection.newer = connection.older = None
    return True
