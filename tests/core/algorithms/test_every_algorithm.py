"""What holds for every algorithm by name, through the pool and alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.choosing import Asking, backend, built

from txlb.core import outcome as outcomes
from txlb.core.algorithms import builtin_factories, factory_for
from txlb.core.algorithms.base import Algorithm
from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec
from txlb.core.pool import Lease, Pool

GOLDEN = Path(__file__).with_name("golden.json")
CONSISTENT = ("consistent_hash", "ip_hash")
EXACT = ("round_robin", "weighted", "least_connections")
every = pytest.mark.parametrize("name", sorted(builtin_factories()))
KEYS = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(10_000)]


def made(name: str) -> Algorithm:
    return factory_for(AlgorithmSpec(name))()


def members_of(weights: list[int], prefix: str = "web") -> list[Backend]:
    return [backend(f"{prefix}-{number}", weight) for number, weight in enumerate(weights)]


def pool_of(name: str, members: list[Backend]) -> Pool:
    return Pool("rule", factory_for(AlgorithmSpec(name)), members)


def asking(number: int) -> Asking:
    return Asking(client_ip=KEYS[number % len(KEYS)], now=number / 1000)


def owners(name: str, members: list[Backend], keys: list[str]) -> list[str]:
    algorithm = built(made(name), members)
    picked = [algorithm.pick(Asking(client_ip=key), []) for key in keys]
    return [one.id for one in picked if one is not None]


def check_only_eligible_and_untried(name: str, weights: list[int], seed: int) -> None:
    """A pool under way: leases come and go, backends fail, fill up, drain; some are tried."""
    dice = random.Random(seed)
    members = members_of(weights)
    for one in members:
        one.limit = dice.choice([2, 1 << 60])
    pool = pool_of(name, members)
    known = [one for one in members if one.is_eligible()]  # at the last rebuild
    leases: list[Lease] = []
    for step in range(40):
        one = dice.choice(members)
        what = dice.randrange(16)
        if what == 0:
            one.healthy = not one.healthy
        elif what == 1:
            one.drained = not one.drained
        elif what == 2:
            pool.rebuild()
            known = [one for one in members if one.is_eligible()]
        elif what <= 6 and leases:
            lease = leases.pop(dice.randrange(len(leases)))
            lease.release(dice.choice([outcomes.OK, outcomes.RESET, outcomes.UNUSED]), step / 10)
        tried = dice.sample(members, dice.randrange(min(4, len(members)) + 1))
        possible = [  # if nobody was left, those that drain
            it
            for it in members
            if (it.is_eligible() or (not known and it.weight and it.healthy))
            and not it.is_full()
            and it not in tried
        ]
        lease_or_none = pool.acquire(asking(dice.randrange(500)), tried, step / 10)
        if lease_or_none is None:
            assert not [it for it in possible if it in known]
        else:
            assert lease_or_none.backend in possible
            leases.append(lease_or_none)


@every
@pytest.mark.parametrize("seed", range(4))
def test_only_eligible_backends_that_were_not_tried(name: str, seed: int) -> None:
    weights = [[1], [3, 0, 1], [1] * 12, [65535, 1, 7]][seed]
    check_only_eligible_and_untried(name, weights, seed)


@given(
    st.sampled_from(sorted(builtin_factories())),
    st.lists(st.integers(0, 20), min_size=1, max_size=6),
    st.integers(0, 1 << 30),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_weights(name: str, weights: list[int], seed: int) -> None:
    check_only_eligible_and_untried(name, weights, seed)


@every
def test_the_algorithm_alone_never_picks_what_was_tried(name: str) -> None:
    members = members_of([1, 5, 2, 1, 9, 1, 1, 3, 1, 1, 1, 1])
    algorithm = built(made(name), members)
    for number in range(200):
        for size in (1, 2, 6, 11):
            tried = random.sample(members, size)
            assert algorithm.pick(asking(number), tried) not in [*tried, None]
        assert algorithm.pick(asking(number), members) is None


@every
@pytest.mark.parametrize("weights", [[1, 1], [3, 1, 2], [10, 1], [1, 2, 3, 4, 5, 6]])
def test_shares_follow_the_weights_within_one_percent(name: str, weights: list[int]) -> None:
    """Counted over leases; with least_connections they stay out, for without load it has no reason to."""
    random.seed(5)
    members = members_of(weights)
    pool = pool_of(name, members)
    total = sum(weights)
    rounds = 20_000 // total * total
    for number in range(rounds):
        lease = pool.acquire(asking(number), None, 0.0)
        assert lease is not None
        if name != "least_connections":
            lease.release(outcomes.UNUSED, 0.0)
    for one, weight in zip(members, weights, strict=True):
        expected = rounds * weight // total
        if name in EXACT:
            assert one.requests == expected
        assert abs(one.requests - expected) <= rounds / 100


@every
def test_shares_follow_the_weights_under_load_too(name: str) -> None:
    """With 200 leases out, each as long as any other."""
    dice = random.Random(7)
    random.seed(7)
    weights = [4, 1, 3, 2]
    members = members_of(weights)
    pool = pool_of(name, members)
    leases: list[Lease] = []
    for _ in range(20_000):
        lease = pool.acquire(asking(dice.randrange(20_000)), None, 0.0)
        assert lease is not None
        leases.append(lease)
        if len(leases) > 200:
            at = dice.randrange(len(leases))
            leases[at], leases[-1] = leases[-1], leases[at]
            leases.pop().release(outcomes.OK, 0.0)
    for one, weight in zip(members, weights, strict=True):
        assert abs(one.requests / 20_000 - weight / 10) <= 0.01, [it.requests for it in members]


@every
def test_nobody_starves(name: str) -> None:
    members = members_of([1] * 50)
    pool = pool_of(name, members)
    for number in range(5_000):
        lease = pool.acquire(asking(number), None, number / 1000)
        assert lease is not None
        lease.release(outcomes.OK, number / 1000 + 0.003)
    assert min(one.requests for one in members) > 0


@every
@pytest.mark.parametrize("weights", [[], [0], [0, 0, 0]])
def test_without_a_backend_there_is_none(name: str, weights: list[int]) -> None:
    members = members_of(weights)
    assert built(made(name), members).pick(asking(1), []) is None
    assert pool_of(name, members).acquire(asking(1), None, 0.0) is None


@every
def test_one_backend_gets_everything(name: str) -> None:
    members = members_of([0, 7])
    algorithm = built(made(name), members)
    assert {algorithm.pick(asking(number), []) for number in range(50)} == {members[1]}
    assert algorithm.pick(asking(1), [members[1]]) is None


@every
def test_ten_thousand_backends(name: str) -> None:
    members = members_of([1 + number % 3 for number in range(10_000)])
    pool = pool_of(name, members)
    seen = Counter[str]()
    for number in range(3_000):
        lease = pool.acquire(asking(number), members[:2], 0.0)
        assert lease is not None
        seen[lease.backend.id] += 1
    assert len(seen) > 2_000
    assert max(seen.values()) < 20
    assert pool.algorithm_errors == 0


@every
def test_it_knows_what_changed_after_a_rebuild(name: str) -> None:
    members = members_of([1, 1, 1])
    pool = pool_of(name, members)
    pool.replace([*members[1:], backend("late", 5)])
    picked = Counter[str]()
    for number in range(400):
        lease = pool.acquire(asking(number), None, 0.0)
        assert lease is not None
        picked[lease.backend.id] += 1
    assert picked["web-0"] == 0
    assert picked["late"] > max(picked["web-1"], picked["web-2"])


def share(members: list[Backend], one: Backend) -> float:
    return one.weight / sum(each.weight for each in members)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("ip_hash", [1] * 10),
        ("consistent_hash", [1, 1]),
        ("consistent_hash", [1] * 10),
        ("consistent_hash", [1] * 100),
        ("consistent_hash", [5, 1, 3, 1]),
        ("consistent_hash", [100, 1, 1]),
        ("consistent_hash", [65535] * 8 + [3000] * 8),
    ],
)
def test_removing_one_moves_its_own_keys_and_few_others(name: str, weights: list[int]) -> None:
    members = members_of(weights)
    before = owners(name, members, KEYS)
    for gone in {0, len(members) // 2, len(members) - 1}:
        after = owners(name, members[:gone] + members[gone + 1 :], KEYS)
        moved = sum(one != other for one, other in zip(before, after, strict=True)) / len(KEYS)
        assert moved <= share(members, members[gone]) + 0.05
        kept = [pair for pair in zip(before, after, strict=True) if pair[0] != members[gone].id]
        assert sum(one != other for one, other in kept) <= 0.02 * len(KEYS)


@pytest.mark.parametrize("name", CONSISTENT)
def test_removing_one_of_many_moves_next_to_nothing(name: str) -> None:
    """3,000 backends: more slots than the least, and fewer of them without the last."""
    members = members_of([1] * 3000)
    before = owners(name, members, KEYS)
    after = owners(name, members[:-1], KEYS)
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 0.01 * len(KEYS)


@pytest.mark.parametrize("name", CONSISTENT)
def test_the_order_of_backends_does_not_matter(name: str) -> None:
    members = members_of([1 + number % 4 for number in range(30)])
    shuffled = random.sample(members, len(members))
    keys = KEYS[:3000]
    assert owners(name, members, keys) == owners(name, shuffled, keys)
    tried = members[:10]
    one, other = built(made(name), members), built(made(name), shuffled)
    for number in range(500):
        assert one.pick(asking(number), tried) is other.pick(asking(number), tried)


def golden() -> dict[str, dict[str, list[str]]]:
    """By algorithm and weights: who owns each of 200 keys, IPv4 and IPv6."""
    keys = [*KEYS[:100], *(f"2001:db8:{number:x}::1" for number in range(100))]
    cases = {"equal": [1] * 10, "weighted": [1, 5, 2, 8, 1, 3]}
    return {
        name: {case: owners(name, members_of(weights), keys) for case, weights in cases.items()}
        for name in CONSISTENT
    }


def test_every_key_goes_where_it_always_went() -> None:
    """golden.json was written once: a change would send every client of every user elsewhere."""
    assert golden() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_a_process_with_other_hashes_agrees() -> None:
    program = "import json, sys, test_every_algorithm as it; json.dump(it.golden(), sys.stdout)"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": "4321", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=50, check=True
    )
    assert json.loads(done.stdout) == golden()
