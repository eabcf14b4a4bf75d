"""Who owns which slot of a hash table: the backend whose runner gets there first.

Rules:

* Each backend sends a runner through the slots, in an order and from a start that follow from BLAKE2b over
  its id; it makes ``weight`` steps per unit of time. A slot is owned by whoever comes first.
* So the table depends on ids and weights alone: not on the order of backends, not on history, not on the
  machine. Shares follow the weights. If a backend leaves, its own slots change hands and hardly any other:
  nobody else is faster or slower for it.
* The race stops when each slot was visited `VISITS` times on average; the few that nobody reached (5 %)
  belong to the owner of the next slot that somebody did.
* There are `LEAST_SLOTS` slots, or `SLOTS_EACH` per backend where that is more. The table grows by splitting
  single slots (linear hashing), so that one backend more or less moves next to nothing.

Source: weighted rendezvous hashing (Schindelhauer, Schomaker) on Maglev's table. Cost: O(1) per look-up; a
build takes `VISITS` steps per slot in slices of `SLICE`, and 8 bytes a slot stay (40 while it runs).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, final

from mypy_extensions import i64

from txlb.core.backend import Backend

LEAST_SLOTS: Final = 65536
SLOTS_EACH: Final = 32
VISITS: Final = 3.0
SLICE: Final = 4096
KEY: Final = b"txlb backend"
MULTIPLIER: Final = 1664525  # of Numerical Recipes' generator: full period with any odd increment
BITS: Final = 0xFFFFFFFF
NEVER: Final = 1e300


def next_number(number: int) -> int:
    """Where a key goes whose backend will not do."""
    following = (number * MULTIPLIER + 1013904223) & BITS
    return following ^ (following >> 16)


def id_of(backend: Backend) -> str:
    return backend.id


@final
class Runner:
    """One backend on its way through the slots."""

    _backend: Backend
    _weight: float
    _steps: float  # so far, and a fraction to begin with: the first is as likely at any moment. Exact.
    _place: i64
    _increment: i64

    def __init__(self, backend: Backend, weight: float) -> None:
        digest = blake2b(backend.id.encode(), digest_size=12, key=KEY).digest()
        self._backend = backend
        self._weight = weight
        self._place = int.from_bytes(digest[:4], "big")
        self._increment = int.from_bytes(digest[4:8], "big") | 1
        self._steps = int.from_bytes(digest[8:], "big") / 4294967296.0

    def run(self, end: float, limit: i64, owners: list[Backend | None], times: list[float]) -> i64:
        """Go on until ``end``, ``limit`` steps at most; how many there were."""
        size: i64 = len(owners)
        wide: i64 = (1 << size_bits(size)) - 1
        narrow: i64 = wide >> 1
        backend = self._backend
        weight = self._weight
        steps = self._steps
        place = self._place
        increment = self._increment
        done: i64 = 0
        while done < limit:
            time = steps / weight
            if time >= end:
                break
            slot: i64 = (place ^ (place >> 16)) & wide
            if slot >= size:
                slot &= narrow
            if time < times[slot]:
                times[slot] = time
                owners[slot] = backend
            place = (place * MULTIPLIER + increment) & BITS
            steps += 1.0
            done += 1
        self._place = place
        self._steps = steps
        return done


def size_bits(size: i64) -> i64:
    """Bits of the largest slot number, and one more: 2**(bits - 1) ≤ size < 2**bits."""
    bits: i64 = 0
    while size:
        size >>= 1
        bits += 1
    return bits


@final
class RaceTable:
    """Owners by slot; empty until `build` is exhausted."""

    members: list[Backend]  # in the order of their ids
    _slots: list[Backend | None]
    _wide: int

    def __init__(self) -> None:
        self.members = []
        self._slots = []
        self._wide = 0

    def owner(self, number: int) -> Backend | None:
        """Of the slot of a 32-bit number; None in an empty table."""
        slots = self._slots
        if not slots:
            return None
        slot = number & self._wide
        if slot >= len(slots):
            slot &= self._wide >> 1
        return slots[slot]

    def build(self, backends: list[Backend]) -> Iterator[None]:
        """``backends`` have a weight above 0; in any order."""
        if not backends:
            return
        size = max(LEAST_SLOTS, SLOTS_EACH * len(backends))
        order = sorted(backends, key=id_of)  # at a dead heat the lower id wins
        weights = [float(backend.weight) for backend in order]
        yield
        end = VISITS * size / sum(weights)
        owners: list[Backend | None] = [None] * size
        times = [NEVER] * size
        left = SLICE
        for index in range(len(order)):
            runner = Runner(order[index], weights[index])
            left -= 10  # a runner costs about as much as so many steps
            while True:
                left -= runner.run(end, left, owners, times) if left > 0 else 0
                if left > 0:
                    break
                left = SLICE
                yield
        following = next((one for one in owners if one is not None), None)  # of the last slot: the first
        for above in range(size, 0, -SLICE):
            below = max(0, above - SLICE)
            following = fill(owners, below, above, following)
            del times[below:]  # all at once would take milliseconds
            yield
        self._wide = (1 << int(size_bits(size))) - 1
        self._slots = owners
        self.members = order


def fill(owners: list[Backend | None], below: i64, above: i64, following: Backend | None) -> Backend | None:
    """What nobody reached belongs to the owner of the next slot, ``following`` after the last of these."""
    slot = above
    while slot > below:
        slot -= 1
        found = owners[slot]
        if found is None:
            owners[slot] = following
        else:
            following = found
    return following
