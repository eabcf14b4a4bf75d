"""Every listening socket of this txlb, owned by control for as long as the bind is configured.

Rules:

* A bind has ``per_bind`` sockets, one per worker, kept open here whatever the workers do: a crash
  or a restart of a worker never closes a queue of waiting connections.
* Sockets belong to the bind, not to the listener: a bind that moves to another listener
  keeps them. A UDP bind is another one than the TCP bind of the same address (`key_of`).
* `prepare` is all or nothing: if one bind fails, none of that call stays open. It also switches steering
  (`txlb.net.steering`) on and off, as the listeners say.
* ``unix:/path`` and ``systemd:NAME`` have one queue for all workers: each worker gets a copy of the same
  socket (systemd may pass several under a name). The file of a UNIX socket is removed when its bind is
  closed for good; one that somebody else put there meanwhile stays.
* Whoever may reach the directory may connect to a UNIX socket (mode 0666), as with a TCP port: close the
  directory to keep others out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

from txlb.core.model import ListenerSpec, Snapshot
from txlb.errors import ListenError
from txlb.net.activation import activated
from txlb.net.sockets import bind_udp, close_all, describe, listen_tcp, listen_unix
from txlb.net.steering import steer

OPEN_TO_ALL = 0o666
UDP = "udp:"


class ListeningSockets:
    """The sockets by bind."""

    def __init__(self, per_bind: int, from_systemd: Callable[[str], list[socket.socket]] = activated) -> None:
        self.per_bind = per_bind
        self._from_systemd = from_systemd
        self._groups: dict[str, list[socket.socket]] = {}
        self._files: dict[str, int] = {}  # inode by path of our UNIX sockets
        self._steered: set[str] = set()  # binds whose clients always get the same worker

    def prepare(self, snapshot: Snapshot) -> list[str]:
        """Open what is not open, steer as the listeners say; returns what it opened. Raises `ListenError`."""
        before = set(self._steered)
        opened = self.open(binds_of(snapshot))
        try:
            self._steer({key for key, one in _keys(snapshot) if one.steer == "client" and not is_shared(key)})
        except ListenError:
            self._steer(before)
            self.close(opened)
            raise
        return opened

    def _steer(self, wanted: set[str]) -> None:
        for bind in self._steered ^ wanted:
            if bind in self._groups:
                steer(self._groups[bind], bind in wanted)
            self._steered.symmetric_difference_update({bind})

    def open(self, binds: Iterable[str]) -> list[str]:
        """Listen on every bind that is not open yet; returns those. Raises `ListenError`."""
        opened: list[str] = []
        try:
            for bind in binds:
                if bind not in self._groups:
                    self._groups[bind] = self._listen(bind)
                    opened.append(bind)
        except ListenError:
            self.close(opened)
            raise
        return opened

    def _listen(self, bind: str) -> list[socket.socket]:
        kind, _, name = bind.partition(":")
        if kind == "systemd":
            return self._from_systemd(name)
        if kind == "unix":
            sock = listen_unix(name, OPEN_TO_ALL)
            self._files[name] = os.stat(name).st_ino
            return [sock]
        if kind == "udp":
            return bind_udp(name, self.per_bind)
        return listen_tcp(bind, self.per_bind)

    def share(self, snapshot: Snapshot, indexes: Iterable[int]) -> dict[str, list[socket.socket]]:
        """By listener, the sockets with these indexes of each of its binds, and all of shared ones."""
        wanted = list(indexes)
        return {
            listener.id: [
                sock for bind in listener.bind for sock in self._part(key_of(listener, bind), wanted)
            ]
            for listener in snapshot.listeners
        }

    def _part(self, bind: str, indexes: list[int]) -> list[socket.socket]:
        group = self._groups[bind]
        return group if is_shared(bind) else [group[index] for index in indexes]

    def addresses(self, bind: str) -> str:
        """Where this bind listens in fact (port 0 resolved); UDP ones as ``udp:host:port``."""
        if is_shared(bind):
            return ", ".join(map(describe, self._groups[bind]))
        return (UDP if bind.startswith(UDP) else "") + describe(self._groups[bind][0])

    def addresses_of(self, listener: ListenerSpec) -> str:
        """Where this listener listens, for people."""
        return ", ".join(self.addresses(key_of(listener, bind)) for bind in listener.bind)

    def every_address(self) -> list[str]:
        """Where we listen now."""
        return [describe(group[0]) for group in self._groups.values()]

    def surplus(self, snapshot: Snapshot) -> list[str]:
        """Open binds that no listener of this snapshot has."""
        wanted = binds_of(snapshot)
        return [bind for bind in self._groups if bind not in wanted]

    def close(self, binds: Iterable[str] | None = None) -> None:
        """Close our copies of these binds' sockets, of all by default."""
        for bind in list(self._groups if binds is None else binds):
            close_all(self._groups.pop(bind))
            self._steered.discard(bind)
            self._remove_file(bind.removeprefix("unix:"))

    def _remove_file(self, path: str) -> None:
        inode = self._files.pop(path, None)
        try:
            if inode is not None and os.stat(path).st_ino == inode:
                os.unlink(path)
        except OSError:
            pass  # it is gone, or we are no longer who made it: the next start replaces it


def is_shared(bind: str) -> bool:
    """All workers accept from one queue."""
    return bind.startswith(("unix:", "systemd:"))


def key_of(listener: ListenerSpec, bind: str) -> str:
    """What tells one group of sockets from all others: TCP and UDP may have the same port."""
    return UDP + bind if listener.protocol == "udp" else bind


def binds_of(snapshot: Snapshot) -> dict[str, str]:
    """Every bind of the snapshot, by `key_of`, and the listener it belongs to, in file order."""
    return {key: listener.id for key, listener in _keys(snapshot)}


def _keys(snapshot: Snapshot) -> list[tuple[str, ListenerSpec]]:
    return [(key_of(listener, bind), listener) for listener in snapshot.listeners for bind in listener.bind]
