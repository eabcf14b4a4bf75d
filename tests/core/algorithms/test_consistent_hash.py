from __future__ import annotations

import pytest
from support.choosing import Asking, backend, backends, built

from txlb.core import outcome as outcomes
from txlb.core.algorithms import factory_for
from txlb.core.algorithms.consistent_hash import ConsistentHash
from txlb.core.algorithms.least_connections import LeastConnections
from txlb.core.algorithms.peak_ewma import PeakEwma, latency_of
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.model import AlgorithmSpec
from txlb.core.pool import Pool


def test_one_key_one_backend() -> None:
    algorithm = built(ConsistentHash("header:x-user"), backends("A1 B1 C1"))
    picks = {
        user: {algorithm.pick(Asking(f"10.0.0.{number}", x_user=user), []) for number in range(9)}
        for user in map(str, range(60))
    }
    assert all(len(found) == 1 for found in picks.values())
    assert len(set().union(*picks.values())) == 3


def test_without_a_key_round_robin_picks() -> None:
    algorithm = built(ConsistentHash("cookie:id", fallback=RoundRobin(0.0)), backends("A1 B1 C1"))
    picked = [algorithm.pick(Asking(), []) for _ in range(6)]
    assert [one.id for one in picked if one is not None] == list("ABCABC")
    assert len({algorithm.pick(Asking(cookie="id=7"), []) for _ in range(6)}) == 1


def test_the_fallback_is_another_algorithm_by_name() -> None:
    factory = factory_for(
        AlgorithmSpec("consistent_hash", (("hash_key", "header:x-user"), ("fallback", "least_connections")))
    )
    members = backends("A1 B1")
    pool = Pool("rule", factory, members)
    leases = [pool.acquire(Asking(), None, 0.0) for _ in range(4)]
    assert sorted(lease.backend.id for lease in leases if lease is not None) == list("AABB")
    for lease in leases:
        if lease is not None and lease.backend.id == "B":
            lease.release(outcomes.OK, 0.0)
    for _ in range(2):
        lease = pool.acquire(Asking(), None, 0.0)
        assert lease is not None
        assert lease.backend.id == "B"


def test_the_fallback_hears_outcomes_and_is_retired() -> None:
    members = backends("A1 B1")
    pool = Pool("rule", lambda: ConsistentHash("header:x", fallback=PeakEwma()), members)
    lease = pool.acquire(Asking(), None, 10.0)
    assert lease is not None
    lease.release(outcomes.OK, 10.25)
    assert latency_of(lease.backend).value == pytest.approx(0.25)
    pool.set_algorithm(lambda: ConsistentHash("header:x", fallback=LeastConnections()))
    pool.rebuild()
    assert [len(one.watchers) for one in members] == [1, 1]
    pool.close()
    assert [len(one.watchers) for one in members] == [0, 0]


def test_a_key_whose_backend_will_not_do_goes_to_one_other() -> None:
    members = [backend(f"b{index}") for index in range(20)]
    algorithm = built(ConsistentHash(), members)
    seconds = set()
    for number in range(200):
        asking = Asking(f"10.0.0.{number}")
        first = algorithm.pick(asking, [])
        assert first is not None
        found = {algorithm.pick(asking, [first]) for _ in range(3)}
        assert len(found) == 1
        seconds |= found
    assert len(seconds) == 20  # and not all to the same


def test_a_full_backend_keeps_its_keys_for_later() -> None:
    members = [backend("A", 1, max_connections=1), backend("B", 1, max_connections=1)]
    pool = Pool("rule", ConsistentHash, members)
    first = pool.acquire(Asking(), None, 0.0)
    second = pool.acquire(Asking(), None, 0.0)
    assert first is not None
    assert second is not None
    assert {first.backend.id, second.backend.id} == {"A", "B"}
    first.release(outcomes.OK, 0.0)
    again = pool.acquire(Asking(), None, 0.0)
    assert again is not None
    assert again.backend is first.backend


def test_weights_of_nothing_do_not_spoil_a_rebuild_under_way() -> None:
    members = backends("A2 B1")
    algorithm = ConsistentHash()
    building = algorithm.rebuild(members)
    next(building)
    members[0].weight = 0
    members[1].weight = 0
    for _ in building:
        pass
    assert algorithm.pick(Asking(), []) in members


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="must be client_ip"):
        ConsistentHash("colour")
