"""Every listening socket of this txlb, owned by control for as long as the bind is configured.

Rules:

* A bind has ``per_bind`` sockets, one per worker, kept open here whatever the workers do: a crash
  or a restart of a worker never closes a queue of waiting connections.
* Sockets belong to the bind, not to the listener: a bind that moves to another listener
  keeps them.
* `open` is all or nothing: if one bind fails, none of that call stays open.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from txlb.core.model import Snapshot
from txlb.errors import ListenError
from txlb.net.sockets import close_all, describe, listen_tcp


class ListeningSockets:
    """The sockets by bind."""

    def __init__(self, per_bind: int) -> None:
        self.per_bind = per_bind
        self._groups: dict[str, list[socket.socket]] = {}

    def open(self, binds: Iterable[str]) -> list[str]:
        """Listen on every bind that is not open yet; returns those. Raises `ListenError`."""
        opened: list[str] = []
        try:
            for bind in binds:
                if bind not in self._groups:
                    self._groups[bind] = listen_tcp(bind, self.per_bind)
                    opened.append(bind)
        except ListenError:
            self.close(opened)
            raise
        return opened

    def share(self, snapshot: Snapshot, indexes: Iterable[int]) -> dict[str, list[socket.socket]]:
        """By listener, the sockets with these indexes of each of its binds."""
        wanted = list(indexes)
        return {
            listener.id: [self._groups[bind][index] for bind in listener.bind for index in wanted]
            for listener in snapshot.listeners
        }

    def addresses(self, bind: str) -> str:
        """Where this bind listens in fact (port 0 resolved)."""
        return describe(self._groups[bind][0])

    def surplus(self, snapshot: Snapshot) -> list[str]:
        """Open binds that no listener of this snapshot has."""
        return [bind for bind in self._groups if bind not in binds_of(snapshot)]

    def close(self, binds: Iterable[str] | None = None) -> None:
        """Close our copies of these binds' sockets, of all by default."""
        for bind in list(self._groups if binds is None else binds):
            close_all(self._groups.pop(bind))


def binds_of(snapshot: Snapshot) -> dict[str, str]:
    """Every bind of the snapshot and the listener it belongs to, in file order."""
    return {bind: listener.id for listener in snapshot.listeners for bind in listener.bind}
