"""A node with the stand-in plane inside, and what is in the place of its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from support.plane import StandInPlane
from support.ports import free_port

from txlb.control.local import LocalWorker
from txlb.control.node import Node
from txlb.core.model import BackendSpec, ListenerSpec, RuleSpec, Snapshot, TimeoutsSpec


@dataclass
class File:
    """In the place of a configuration file; an exception in ``snapshot`` is raised."""

    snapshot: Any
    warnings: Sequence[str] = ()

    def load(self) -> File:
        if isinstance(self.snapshot, Exception):
            raise self.snapshot
        return self


class Ready:
    """A node with the plane inside, on a free port."""

    def __init__(self, reactor: Any) -> None:
        self.port = free_port()
        snapshot = Snapshot(
            node_id="n",
            listeners=(ListenerSpec("web", (f"127.0.0.1:{self.port}",)),),
            backends=(BackendSpec("a", "127.0.0.1", 80, address="127.0.0.1"),),
            rules=(RuleSpec("r", ("a",)),),
            timeouts=TimeoutsSpec(shutdown=1.0),
        )
        self.file = File(snapshot)

        def fleet(scoreboard: Any, sockets: Any, on_reports: Any) -> LocalWorker:
            return LocalWorker(
                lambda: StandInPlane(reactor, scoreboard.row(0), "worker-1", on_reports), sockets
            )

        self.node = Node(reactor, snapshot, 0, fleet, self.file.load)
        self.node.bind()

    def change(self, **changes: Any) -> None:
        self.file.snapshot = replace(self.file.snapshot, **changes)
