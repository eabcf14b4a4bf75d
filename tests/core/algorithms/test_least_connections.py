from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.choosing import backend, backends

from txlb.core import outcome as outcomes
from txlb.core.algorithms.least_connections import LeastConnections
from txlb.core.backend import Backend
from txlb.core.pool import Lease, Pool


def first_first() -> LeastConnections:
    return LeastConnections(0.0)


def pool_of(members: list[Backend]) -> Pool:
    return Pool("rule", first_first, members)


def take(pool: Pool) -> Lease:
    lease = pool.acquire(None, None, 0.0)
    assert lease is not None
    return lease


def names(pool: Pool, count: int) -> str:
    return "".join(take(pool).backend.id for _ in range(count))


def lowest(members: list[Backend]) -> Fraction:
    return min(Fraction(one.active_connections + 1, one.weight) for one in members)


def test_loads_stand_in_the_ratio_of_weights() -> None:
    """``active/(weight + 1)`` would make this 2:1."""
    members = backends("A3 B1")
    pool = pool_of(members)
    for _ in range(400):
        take(pool)
    assert [one.active_connections for one in members] == [300, 100]


def test_equals_take_turns_also_without_any_load() -> None:
    pool = pool_of(backends("A1 B1 C1"))
    order = ""
    for _ in range(9):
        lease = take(pool)
        order += lease.backend.id
        lease.release(outcomes.OK, 0.0)
    assert order == "ABCABCABC"
    assert Counter(names(pool, 30)) == {"A": 10, "B": 10, "C": 10}


def test_a_pick_that_comes_to_nothing_leaves_the_loads_as_they_are() -> None:
    members = backends("A1 B1")
    algorithm = LeastConnections(0.0)
    for _ in algorithm.rebuild(members):
        pass
    picks = [algorithm.pick(None, []) for _ in range(6)]
    assert picks == [members[0], members[1]] * 3


steps = st.lists(
    st.tuples(st.sampled_from(["take", "other", "release", "fold", "tried"]), st.integers(0, 1000)),
    max_size=120,
)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), steps)
def test_every_pick_is_of_the_least_loaded_whoever_else_uses_the_backends(
    weights: list[int], script: list[tuple[str, int]]
) -> None:
    members = [backend(f"b{index}", weight) for index, weight in enumerate(weights)]
    pool, other = pool_of(members), Pool("other", first_first, members[::2])
    leases: list[Lease] = []
    for what, number in script:
        one = members[number % len(members)]
        if what == "take":
            least = min(Fraction(one.active_connections + one.elsewhere + 1, one.weight) for one in members)
            lease = take(pool)
            chosen = lease.backend
            before = Fraction(chosen.active_connections + chosen.elsewhere, chosen.weight)
            assert before == least
            leases.append(lease)
        elif what == "other":
            leases.append(take(other))
        elif what == "fold":
            one.fold(number // 100)
        elif what == "tried" and len(members) > 1:
            got = pool.acquire(None, [one], 0.0)
            assert got is not None
            chosen = got.backend
            rest = [each for each in members if each is not one]
            chosen.active_connections -= 1
            least = min(Fraction(each.active_connections + each.elsewhere + 1, each.weight) for each in rest)
            assert Fraction(chosen.active_connections + chosen.elsewhere + 1, chosen.weight) == least
            chosen.active_connections += 1
            leases.append(got)
        elif leases:
            leases.pop(number % len(leases)).release(outcomes.OK, 0.0)


def test_full_backends_are_passed_over_and_come_back() -> None:
    members = [backend("A", 10, max_connections=1), backend("B", 1)]
    pool = pool_of(members)
    lease = take(pool)
    assert lease.backend.id == "A"
    assert names(pool, 3) == "BBB"
    lease.release(outcomes.OK, 0.0)
    assert names(pool, 2) == "AB"


def test_when_all_are_full_there_is_none() -> None:
    pool = pool_of([backend(name, 1, max_connections=2) for name in "AB"])
    assert Counter(names(pool, 4)) == {"A": 2, "B": 2}
    assert pool.acquire(None, None, 0.0) is None


def test_who_was_replaced_watches_no_longer() -> None:
    members = backends("A1 B1")
    pool = pool_of(members)
    for _ in range(3):
        pool.rebuild()
    assert [len(one.watchers) for one in members] == [1, 1]
    pool.replace(members[:1])
    assert [len(one.watchers) for one in members] == [1, 0]
    lease = take(pool)
    pool.close()
    assert [len(one.watchers) for one in members] == [0, 0]
    assert lease.release(outcomes.OK, 0.0)
    assert pool.acquire(None, None, 0.0) is None


def test_an_abandoned_rebuild_watches_nothing() -> None:
    members = [backend(f"b{index}") for index in range(1200)]
    algorithm = LeastConnections()
    next(algorithm.rebuild(members))
    assert not any(one.watchers for one in members)


def test_leases_released_while_it_is_built_count() -> None:
    members = [backend(f"b{index}") for index in range(1200)]
    for one in members:
        one.active_connections = 5
    algorithm = LeastConnections(0.0)
    building = algorithm.rebuild(members)
    next(building)
    members[3].active_connections = 0
    for _ in building:
        pass
    assert algorithm.pick(None, []) is members[3]


@pytest.mark.parametrize("attempt", range(3))
def test_the_first_among_equals_is_random(attempt: int) -> None:
    members = [backend(f"b{index}") for index in range(200)]
    seen = set()
    for _ in range(8):
        seen.add(names(Pool("rule", LeastConnections, members), 1))
    assert len(seen) > 1


def test_limits_and_weights_may_change_before_the_rebuild() -> None:
    members = backends("A2 B1")
    pool = pool_of(members)
    members[0].update("a", "127.0.0.1", 80, 0, 3)
    assert names(pool, 5) == "BBBBB"
    assert lowest(members[1:]) == 6
