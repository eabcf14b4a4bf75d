"""Consistent hash: one key, one backend, in every worker, after every restart, on every machine.

Rules:

* The key (`txlb.core.algorithms.hash_key`) is hashed to a slot, the slot has an owner
  (`txlb.core.algorithms.race`): a matter of ids and weights, not of history. If one of n backends leaves, its
  keys are spread over the others and nearly all else stays.
* A key whose backend is tried, full or refused goes to the owner of another slot, the same one everywhere.
* Without a key, ``fallback`` picks: round robin unless told otherwise.

Source: see `txlb.core.algorithms.race`. Cost: O(1) per pick: one look-up, and one BLAKE2b where the key was
not seen lately; a rebuild takes 200,000 steps or 100 per backend, in slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.core.algorithms.base import Algorithm, any_but
from txlb.core.algorithms.hash_key import HashKey
from txlb.core.algorithms.race import RaceTable, next_number
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend

OTHERS: Final = 8  # slots that are looked at after the first


@mypyc_attr(allow_interpreted_subclasses=True)
class ConsistentHash(Algorithm):
    """Options: see `txlb.core.algorithms.hash_key`; ``fallback`` is an algorithm of our own."""

    def __init__(
        self,
        hash_key: str = "client_ip",
        ipv4_prefix: int = 32,
        ipv6_prefix: int = 64,
        fallback: Algorithm | None = None,
    ) -> None:
        Algorithm.__init__(self)
        self._key = HashKey(hash_key, ipv4_prefix, ipv6_prefix)
        self._fallback: Algorithm = RoundRobin() if fallback is None else fallback
        self.trusted = self._fallback.trusted
        self.observes = self._fallback.observes
        self._table = RaceTable()

    def rebuild(self, backends: list[Backend]) -> Iterator[None]:
        for _ in self._table.build([backend for backend in backends if backend.weight > 0]):
            yield
        steps = self._fallback.rebuild(backends)
        if steps is not None:
            for _ in steps:
                yield

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        number = self._key.of(context)
        if number < 0:
            return self._fallback.pick(context, tried)
        backend = self._table.owner(number)
        if backend is None or not tried or backend not in tried:
            return backend
        for _ in range(OTHERS):
            number = next_number(number)
            backend = self._table.owner(number)
            if backend not in tried:
                return backend
        members = self._table.members
        return any_but(members, tried, number % len(members))

    def observe_lease(self, backend: Backend, outcome: int, now: float, seconds: float) -> None:
        self._fallback.observe_lease(backend, outcome, now, seconds)

    def retire(self) -> None:
        self._fallback.retire()
