"""Everything that a scrape says, at one moment: copied fast in the reactor's thread, rendered anywhere.

Rules:

* A picture holds values and copies only: what happens afterwards does not change it.
* `capture` takes time by the size of the scoreboard in bytes, not by the number of series.
* Counters are sums over all workers' rows. A dead worker's row stays until its successor goes on with
  it, so no counter ever falls.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from txlb.control.node import Node
from txlb.control.scoreboard import sums
from txlb.core.health_counts import HealthCounts
from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.standing import Standing


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """See the module."""

    snapshot: Snapshot
    columns: Columns
    rows: list[bytes]  # a copy of the scoreboard
    up: list[bool]
    restarts: int
    reloads: tuple[int, int]  # success, failure
    now_ms: int
    overlay: tuple[int, int] = (0, 0)  # entries in force, and set aside
    admin_requests: Mapping[str, int] = field(default_factory=dict)
    own_certificates: Mapping[str, float] = field(default_factory=dict)
    standings: Mapping[str, Standing] = field(default_factory=dict)  # those not as by default
    health: HealthCounts = field(default_factory=HealthCounts)

    sums: list[int] = field(init=False, default_factory=list)

    def add_up(self) -> None:
        """Take the sums over workers that `at` reads; not in the reactor's thread."""
        self.sums[:] = sums(self.rows)

    def at(self, base: int, block: Sequence[str], name: str) -> int:
        """A field, by name, of the block at ``base``, summed over workers."""
        return self.sums[base + block.index(name)]


def capture(node: Node) -> Picture:
    """The picture of this moment."""
    assert node.scoreboard is not None and node.fleet is not None
    aside = len(node.configuration.composed.set_aside())
    return Picture(
        snapshot=node.snapshot,
        overlay=(len(node.configuration.composed.overlay) - aside, aside),
        columns=node.scoreboard.columns,
        rows=node.scoreboard.copy(),
        up=node.fleet.up(),
        restarts=node.fleet.restarts,
        reloads=(node.reloads.success, node.reloads.failure),
        now_ms=int(time.monotonic() * 1000),
        standings=node.standings.table(),
        admin_requests=dict(node.admin_requests),
        own_certificates=dict(node.own_certificates),
        health=node.health.counts.copy(),
    )
