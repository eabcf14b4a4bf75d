"""``workers: 0``: the forwarding plane inside control, behind the same interface as child processes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from txlb.control.fleet import Publication
from txlb.control.listening import ListeningSockets, key_of
from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.standing import Standing


class Plane(Protocol):
    """The seam to the forwarding plane, as `txlb.forwarding.plane.ForwardingPlane` offers it."""

    def apply(self, snapshot: Snapshot, columns: Columns) -> None: ...
    def set_standings(self, changes: Sequence[Standing]) -> None: ...
    def listen(self, listener_id: str, sockets: list[socket.socket]) -> None: ...
    def stop_listening(self, listener_id: str | None = None) -> None: ...
    def start(self) -> None: ...
    def shutdown(self, timeout: float) -> Deferred[None]: ...
    def abort(self) -> None: ...
    def connections(self, after: int, limit: int) -> list[dict[str, object]]: ...
    def reopen_logs(self) -> None: ...


class LocalWorker:
    """The one worker that is no process."""

    restarts = 0

    def __init__(self, plane: Callable[[], Plane], sockets: ListeningSockets) -> None:
        self._build = plane
        self._sockets = sockets
        self._plane: Plane | None = None
        self._listening: dict[str, tuple[str, ...]] = {}
        self._generation = 0
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        self._plane = self._build()
        self._plane.start()

    def publish(self, publication: Publication) -> Deferred[None]:
        assert self._plane is not None
        snapshot = publication.snapshot
        binds = {
            listener.id: tuple(key_of(listener, bind) for bind in listener.bind)
            for listener in snapshot.listeners
        }
        for listener_id, bind in list(self._listening.items()):
            if binds.get(listener_id) != bind:
                self._plane.stop_listening(listener_id)
                del self._listening[listener_id]
        self._plane.apply(snapshot, publication.columns)
        for listener_id, sockets in self._sockets.share(snapshot, (0,)).items():
            if listener_id not in self._listening:
                self._plane.listen(listener_id, [sock.dup() for sock in sockets])
                self._listening[listener_id] = binds[listener_id]
        self._generation = snapshot.generation
        return succeed(None)

    def set_standings(self, changes: Sequence[Standing]) -> None:
        assert self._plane is not None
        self._plane.set_standings(changes)

    def acknowledged(self) -> int:
        return self._generation

    def up(self) -> list[bool]:
        return [self._plane is not None and self._stopped is None]

    def reopen_logs(self) -> None:
        if self._plane is not None:
            self._plane.reopen_logs()

    def connections(self, worker: int, after: int, limit: int) -> Deferred[list[dict[str, Any]]]:
        return succeed(self._plane.connections(after, limit) if self._plane is not None else [])

    def shutdown(self, timeout: float) -> Deferred[None]:
        if self._plane is None:
            return succeed(None)
        self._stopped = self._plane.shutdown(timeout)
        return self._stopped

    def kill(self) -> None:
        if self._plane is not None:
            self._plane.abort()
