"""Backends in the order of their load, always exact: what least_connections picks from.

Rules:

* Load is (active + elsewhere + 1)/weight, as an integer in 2**-32 (two different fractions of weights up to
  65535 are further apart than that). A backend that is full comes last.
* Of equal loads, who got to that load first is first: ties rotate.
* Leases come and go without us (other rules, the pool's own looks). A heap of lower bounds stays exact: a
  load that rose is corrected when its backend reaches the top, and one that falls is told by its `Watcher`.
* Cost: O(log n) per pick and per release, one correction per lease; `watch` and `unwatch` are O(n).
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import i64

from txlb.core.backend import Backend, Watcher

SCALE_BITS: Final = 32
FULL: Final = 1 << 62


@final
class Place(Watcher):
    """One backend's place in the order."""

    backend: Backend
    weight: i64
    load: i64  # never above the true one between two picks
    ticket: i64  # when it got to that load
    at: i64  # index in the heap; -1 = taken out for a moment
    _order: LoadOrder

    def __init__(self, order: LoadOrder, backend: Backend, ticket: i64) -> None:
        self._order = order
        self.backend = backend
        self.weight = backend.weight
        self.ticket = ticket
        self.at = -1
        self.load = 0
        self.load = self.true_load(0)

    def true_load(self, more: i64) -> i64:
        """The load with so many ``more`` leases."""
        backend = self.backend
        active: i64 = backend.active_connections + more
        if active >= backend.limit:
            return FULL
        elsewhere: i64 = backend.elsewhere
        return ((active + elsewhere + 1) << SCALE_BITS) // self.weight

    def relieved(self) -> None:
        self._order.correct(self)


@final
class LoadOrder:
    """A binary heap of places."""

    _heap: list[Place]
    _tickets: i64
    _expected: Place | None  # got one more lease in advance

    def __init__(self) -> None:
        self._heap = []
        self._tickets = 0
        self._expected = None

    def add(self, backend: Backend, ticket: int) -> None:
        """``backend`` takes part; ``ticket`` orders it among equals."""
        place = Place(self, backend, ticket)
        if place.ticket >= self._tickets:
            self._tickets = place.ticket + 1
        self._push(place)

    def watch(self) -> None:
        """Hear of every release from now on."""
        for place in list(self._heap):
            place.backend.watchers.append(place)
            if place.load != place.true_load(0):
                self.correct(place)

    def unwatch(self) -> None:
        for place in self._heap:
            if place in place.backend.watchers:
                place.backend.watchers.remove(place)

    def take(self, tried: list[Backend]) -> Backend | None:
        """The least loaded that is not tried; it is counted on getting a lease. None = all full or tried."""
        self._look_back()
        aside: list[Place] | None = None
        place = self._first()
        while place is not None and tried and place.backend in tried:
            if aside is None:
                aside = []
            aside.append(place)
            self._remove_first()
            place = self._first()
        if aside is not None:
            for one in aside:
                self._push(one)
        if place is None or place.load >= FULL:
            return None
        place.load = place.true_load(1)
        place.ticket = self._next_ticket()
        self._sink(place)
        self._expected = place
        return place.backend

    def correct(self, place: Place) -> None:
        """Its load is another one: behind those that have this load already."""
        place.load = place.true_load(0)
        place.ticket = self._next_ticket()
        self._rise(place)
        self._sink(place)

    def _look_back(self) -> None:
        """The last pick may have been refused."""
        place = self._expected
        if place is not None:
            self._expected = None
            if place.load != place.true_load(0):
                self.correct(place)

    def _first(self) -> Place | None:
        """The least loaded, after correcting whose load rose."""
        while self._heap:
            place = self._heap[0]
            load = place.true_load(0)
            if load <= place.load:
                place.load = load
                return place
            place.load = load
            place.ticket = self._next_ticket()
            self._sink(place)
        return None

    def _next_ticket(self) -> i64:
        ticket = self._tickets
        self._tickets = ticket + 1
        return ticket

    def _push(self, place: Place) -> None:
        place.at = len(self._heap)
        self._heap.append(place)
        self._rise(place)

    def _remove_first(self) -> None:
        heap = self._heap
        heap[0].at = -1
        last = heap.pop()
        if heap:
            last.at = 0
            heap[0] = last
            self._sink(last)

    def _rise(self, place: Place) -> None:
        heap = self._heap
        at = place.at
        while at > 0:
            above = (at - 1) >> 1
            other = heap[above]
            if other.load < place.load or (other.load == place.load and other.ticket < place.ticket):
                break
            heap[at] = other
            other.at = at
            at = above
        heap[at] = place
        place.at = at

    def _sink(self, place: Place) -> None:
        heap = self._heap
        size: i64 = len(heap)
        at = place.at
        while True:
            below = 2 * at + 1
            if below >= size:
                break
            other = heap[below]
            if below + 1 < size:
                right = heap[below + 1]
                if right.load < other.load or (right.load == other.load and right.ticket < other.ticket):
                    below += 1
                    other = right
            if place.load < other.load or (place.load == other.load and place.ticket < other.ticket):
                break
            heap[at] = other
            other.at = at
            at = below
        heap[at] = place
        place.at = at
