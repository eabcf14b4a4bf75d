"""An admin port of a node with a stand-in plane, and what to call it with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest_twisted
from support.http import Answer, exchange
from support.plane import StandInPlane

from txlb.control.admin import AdminListener
from txlb.control.local import LocalWorker
from txlb.control.node import Node
from txlb.core.model import AdminSpec, BackendSpec, ListenerSpec, Snapshot

SNAPSHOT = Snapshot(
    node_id="lb-1",
    listeners=(ListenerSpec("web", ("127.0.0.1:0",)),),
    backends=(BackendSpec("a", "127.0.0.1", 1, address="127.0.0.1"),),
)
READ_TOKEN = "r" * 43
WRITE_TOKEN = "w" * 43


def token_file(folder: Path, mode: int = 0o600, *more: str) -> str:
    """With one token of each role."""
    path = folder / "tokens"
    lines = [
        f"# made for a test\nreader read sha256:{hashlib.sha256(READ_TOKEN.encode()).hexdigest()}",
        f"operator write sha256:{hashlib.sha256(WRITE_TOKEN.encode()).hexdigest()}  # and more",
        *more,
    ]
    path.touch(mode)
    path.chmod(mode)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


class Admin:
    """A node with its admin listener; ``address`` is where to connect."""

    def __init__(self, reactor: Any, spec: AdminSpec | str) -> None:
        def fleet(scoreboard: Any, sockets: Any, on_reports: Any) -> LocalWorker:
            return LocalWorker(
                lambda: StandInPlane(reactor, scoreboard.row(0), "worker-1", on_reports), sockets
            )

        self.node = Node(reactor, SNAPSHOT, 0, fleet)
        self.node.bind()
        self.listener = AdminListener(AdminSpec(spec) if isinstance(spec, str) else spec)
        self.listener.bind()
        self.started = self.node.start()
        self.listener.start(self.node, reactor)
        where = self.listener.address
        self.address: Any = where[5:] if where.startswith("unix:") else int(where.rpartition(":")[2])

    def stop(self) -> None:
        pytest_twisted.blockon(self.node.stop())
        pytest_twisted.blockon(self.listener.stop())
        self.node.close()

    async def call(
        self, method: str, path: str, token: str | None = None, body: bytes | None = None, **fields: str
    ) -> Answer:
        """One request; ``fields`` with ``_`` for ``-``, ``body`` as JSON unless they say otherwise."""
        given = {"Host": "localhost", "Connection": "close", **fields}
        if token is not None:
            given.setdefault("Authorization", f"Bearer {token}")
        if body is not None:
            given.setdefault("Content_Type", "application/json")
            given["Content_Length"] = str(len(body))
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
        return await exchange(
            self.address, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")
        )
