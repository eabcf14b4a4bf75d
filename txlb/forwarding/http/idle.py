"""Backend connections: reuse an idle one, or open another.

Rules:

* The connection used last is reused first (it is the least likely to be stale).
* At most ``max_per_backend`` wait per backend and `total_limit` per worker; beyond that a
  connection is closed when its exchange ends.
* One that waited ``idle_timeout`` is closed, unless its backend had traffic within that time
  and has no more than ``min_per_backend`` waiting.
* Whatever arrives on an idle connection, be it a byte or FIN, makes it stale: it leaves at once.
"""

from __future__ import annotations

from txlb.core.backend import Backend
from txlb.forwarding.http.backend import BackendConnection, IdleStore
from txlb.net.loop import Loop


class IdleConnections(IdleStore):
    """All idle backend connections of one worker."""

    waiting: dict[str, list[BackendConnection]]
    total: int
    total_limit: int
    min_per_backend: int
    max_per_backend: int
    idle_timeout: float
    loop: Loop

    def __init__(self, loop: Loop, total_limit: int) -> None:
        self.waiting = {}
        self.total = 0
        self.total_limit = total_limit
        self.min_per_backend = 0
        self.max_per_backend = 1000
        self.idle_timeout = 60.0
        self.loop = loop

    def take(self, backend: Backend) -> BackendConnection | None:
        """The connection to ``backend`` that was used last; None if there is none."""
        waiting = self.waiting.get(backend.id)
        if not waiting:
            return None
        connection = waiting.pop()
        self.total -= 1
        backend.idle -= 1
        connection.deadline = 0.0
        return connection

    def put(self, connection: BackendConnection) -> bool:
        """Keep ``connection``; False if there is no room for it."""
        backend = connection.backend
        waiting = self.waiting.get(backend.id)
        if waiting is None:
            waiting = self.waiting[backend.id] = []
        if len(waiting) >= self.max_per_backend or self.total >= self.total_limit:
            return False
        waiting.append(connection)
        self.total += 1
        backend.idle += 1
        backend.touched = True
        connection.idle_since = self.loop.now
        self.loop.arm(connection, self.idle_timeout)
        return True

    def remove(self, connection: BackendConnection) -> None:
        """``connection`` closed, or is about to."""
        backend = connection.backend
        waiting = self.waiting.get(backend.id)
        if waiting is not None and connection in waiting:
            waiting.remove(connection)
            self.total -= 1
            backend.idle -= 1
            backend.touched = True
            if not waiting:
                del self.waiting[backend.id]

    def expired(self, connection: BackendConnection, now: float) -> None:
        """``connection`` waited for ``idle_timeout``."""
        waiting = self.waiting.get(connection.backend.id)
        if waiting is not None and len(waiting) <= self.min_per_backend:
            newest = waiting[len(waiting) - 1]
            if now - newest.idle_since < self.idle_timeout:
                self.loop.arm(connection, self.idle_timeout)
                return
        self.remove(connection)
        connection.abort()

    def close_backend(self, backend_id: str) -> None:
        """Close all that wait for a backend that left or moved."""
        for connection in list(self.waiting.get(backend_id, [])):
            self.remove(connection)
            connection.abort()

    def close_oldest(self, count: int) -> None:
        """Make room: descriptors are short."""
        oldest: list[BackendConnection] = []
        for waiting in self.waiting.values():
            oldest.append(waiting[0])
            if len(oldest) >= count:
                break
        for connection in oldest:
            self.remove(connection)
            connection.abort()

    def close_all(self) -> None:
        """Shutdown."""
        for backend_id in list(self.waiting):
            self.close_backend(backend_id)
