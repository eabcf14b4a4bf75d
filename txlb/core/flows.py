"""The flows of one UDP listener: how many there may be, whose they are, which of them must go.

Rules:

* At most ``max_flows``, and ``max_per_source`` of one source (`source_of`: an IPv4 address, or the /64 of an
  IPv6 one). Past the first a flow is evicted, past the second the newcomer is refused.
* A flow is *fresh* until its client has sent again after an answer came (`settle`): who forges source
  addresses never gets there. The victim is the least recently used fresh flow while those are more than a
  quarter of the table, else the least recently used settled one; so a flood of new sources displaces itself,
  and new clients always have a quarter of the room.
* Both directions count as use (`touch`). A flow unused for ``idle`` seconds is expired.
* Every operation takes constant time, whatever the number of flows.
* ``homes``: a flow is filed in a dict of its owner's, by the owner's key; whoever leaves the table leaves
  that, too.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any, final

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Flow:
    """What one client address exchanges with a listener: its place in the table."""

    home: dict[Any, Flow]
    key: Any
    source: str
    used: float  # monotonic seconds
    settled: bool
    order: Order | None  # the list it is in; None = it has left the table
    older: Flow | None
    newer: Flow | None

    def __init__(self, home: dict[Any, Flow], key: Any, source: str, now: float) -> None:
        self.home = home
        self.key = key
        self.source = source
        self.used = now
        self.settled = False
        self.order = None
        self.older = None
        self.newer = None


@final
class Order:
    """Flows from the least to the most recently used."""

    oldest: Flow | None
    newest: Flow | None
    count: int

    def __init__(self) -> None:
        self.oldest = None
        self.newest = None
        self.count = 0

    def append(self, flow: Flow) -> None:
        newest = self.newest
        flow.order = self
        flow.older = newest
        flow.newer = None
        if newest is None:
            self.oldest = flow
        else:
            newest.newer = flow
        self.newest = flow
        self.count += 1

    def remove(self, flow: Flow) -> None:
        older = flow.older
        newer = flow.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        flow.order = None
        flow.older = None
        flow.newer = None
        self.count -= 1


@final
class FlowTable:
    """All flows of one listener in one worker."""

    max_flows: int
    max_per_source: int
    idle: float
    fresh: Order
    settled: Order
    sources: dict[str, int]

    def __init__(self, max_flows: int, max_per_source: int, idle: float) -> None:
        self.max_flows = max_flows
        self.max_per_source = max_per_source
        self.idle = idle
        self.fresh = Order()
        self.settled = Order()
        self.sources = {}

    def __len__(self) -> int:
        return self.fresh.count + self.settled.count

    def admits(self, source: str) -> bool:
        """This source may have one more."""
        return self.sources.get(source, 0) < self.max_per_source

    def victim(self) -> Flow | None:
        """Who must go before another is added: None while there is room."""
        return self.least() if self.fresh.count + self.settled.count >= self.max_flows else None

    def least(self) -> Flow | None:
        """Who goes first when something runs short; None if there is nobody."""
        fresh, settled = self.fresh, self.settled
        if settled.oldest is None or fresh.count * 4 > self.max_flows:
            return fresh.oldest
        return settled.oldest

    def add(self, flow: Flow) -> None:
        """A new flow; `admits` and `victim` were asked."""
        flow.home[flow.key] = flow
        self.fresh.append(flow)
        self.sources[flow.source] = self.sources.get(flow.source, 0) + 1

    def remove(self, flow: Flow) -> bool:
        """It has ended; False if it had before."""
        order = flow.order
        if order is None:
            return False
        order.remove(flow)
        del flow.home[flow.key]
        left = self.sources[flow.source] - 1
        if left:
            self.sources[flow.source] = left
        else:
            del self.sources[flow.source]
        return True

    def touch(self, flow: Flow, now: float) -> None:
        """It was used."""
        flow.used = now
        order = flow.order
        if order is not None and order.newest is not flow:
            order.remove(flow)
            order.append(flow)

    def settle(self, flow: Flow) -> None:
        """Its client sent again after an answer."""
        flow.settled = True
        order = flow.order
        if order is self.fresh:
            order.remove(flow)
            self.settled.append(flow)

    def expired(self, now: float, most: int) -> list[Flow]:
        """At most ``most`` flows that are idle for too long; they are still in the table."""
        found: list[Flow] = []
        for order in (self.fresh, self.settled):
            flow = order.oldest
            while flow is not None and flow.used + self.idle <= now and len(found) < most:
                found.append(flow)
                flow = flow.newer
        return found

    def next_expiry(self) -> float:
        """When the next one may expire; 0.0 if there is none."""
        earliest = 0.0
        for order in (self.fresh, self.settled):
            flow = order.oldest
            if flow is not None and (earliest == 0.0 or flow.used + self.idle < earliest):
                earliest = flow.used + self.idle
        return earliest


def source_of(address: str) -> str:
    """What of a client's address counts as one source."""
    if ":" not in address:
        return address
    bare = address.partition("%")[0]
    parsed = IPv6Address(bare)
    mapped = parsed.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return parsed.exploded[:19]
