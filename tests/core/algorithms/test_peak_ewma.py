from __future__ import annotations

import random
from collections import Counter
from math import exp

import pytest
from support.choosing import Asking, backends

from txlb.core import outcome as outcomes
from txlb.core.algorithms.peak_ewma import DECAY, LONGEST, PENALTY, Latency, PeakEwma, latency_of
from txlb.core.backend import Backend
from txlb.core.pool import Pool


def counted(members: list[Backend], now: float, picks: int = 4000) -> Counter[str]:
    algorithm = PeakEwma()
    algorithm.rebuild(members)
    picked = [algorithm.pick(Asking(now=now), []) for _ in range(picks)]
    return Counter(one.id for one in picked if one is not None)


def test_a_peak_counts_at_once_and_fades() -> None:
    latency = Latency()
    latency.add(0.010, 100.0)
    latency.add(0.500, 100.0)
    assert latency.value == 0.5
    latency.add(0.010, 100.0)
    assert latency.value == 0.5  # no time has passed
    latency.add(0.010, 100.0 + DECAY)
    assert latency.value == pytest.approx(0.5 * exp(-1) + 0.010 * (1 - exp(-1)))
    assert latency.seen(100.0 + 2 * DECAY) == pytest.approx(latency.value * exp(-1))
    assert latency.seen(50.0) == latency.value


def test_the_quick_one_gets_more_until_it_is_busy() -> None:
    random.seed(1)
    members = backends("A1 B1")
    latency_of(members[0]).add(0.010, 0.0)
    latency_of(members[1]).add(0.040, 0.0)
    assert counted(members, 1.0)["A"] > 3700
    members[0].active_connections = 2  # 10 ms × 3 < 40 ms
    assert counted(members, 1.0)["A"] > 3700
    members[0].active_connections = 4  # 10 ms × 5 > 40 ms
    assert counted(members, 1.0)["B"] > 3700


def test_load_is_by_weight() -> None:
    members = backends("A4 B1")
    for one in members:
        latency_of(one).add(0.010, 0.0)
    algorithm = PeakEwma()
    algorithm.rebuild(members)
    members[0].active_connections, members[1].active_connections = 4, 2
    assert algorithm.load(0, Asking()) == pytest.approx(0.020)
    assert algorithm.load(1, Asking()) == pytest.approx(0.030)


def test_one_that_nobody_knows_gets_one_request_at_a_time() -> None:
    random.seed(2)
    members = backends("A1 B1")
    latency_of(members[0]).add(0.010, 0.0)
    assert counted(members, 0.0)["B"] > 3700
    members[1].active_connections = 1
    assert counted(members, 0.0)["A"] > 3700


def test_the_pool_tells_how_long_leases_lasted() -> None:
    members = backends("A1")
    pool = Pool("rule", PeakEwma, members)
    lease = pool.acquire(Asking(), None, 5.0)
    assert lease is not None
    lease.release(outcomes.OK, 5.125)
    assert latency_of(members[0]).value == pytest.approx(0.125)
    pool.rebuild()
    assert latency_of(members[0]).value == pytest.approx(0.125)


def observed(outcome: int, seconds: float, before: float = 0.1) -> float:
    (member,) = backends("A1")
    latency_of(member).add(before, 0.0)
    PeakEwma().observe_lease(member, outcome, 0.0, seconds)
    return latency_of(member).value


def test_failing_quickly_is_not_being_quick() -> None:
    assert observed(outcomes.CONNECT_REFUSED, 0.001) == PENALTY
    assert observed(outcomes.TIMEOUT, 5.0) == 5.0


def test_leaving_early_is_not_being_quick() -> None:
    assert observed(outcomes.CLIENT_ABORT, 0.001) == 0.1
    assert observed(outcomes.CLIENT_ABORT, 3.0) == 3.0


def test_what_was_not_used_says_nothing_and_tunnels_little() -> None:
    assert observed(outcomes.UNUSED, 3.0) == 0.1
    assert observed(outcomes.OK, 3600.0) == LONGEST


def test_a_slow_one_is_tried_again() -> None:
    random.seed(3)
    members = backends("A1 B1")
    latency_of(members[0]).add(5.0, 0.0)
    latency_of(members[1]).add(0.010, 0.0)
    assert counted(members, 1.0)["A"] < 300
    latency_of(members[1]).add(0.010, 90.0)
    assert counted(members, 90.0)["A"] > 3700


def test_notes_of_somebody_else_under_our_name_are_replaced() -> None:
    (member,) = backends("A1")
    member.state["peak_ewma"] = "?"
    assert latency_of(member).value == 0.0
