from __future__ import annotations

import pytest
from support.choosing import backend, round_robin

from txlb.core import outcome
from txlb.core.backend import UNLIMITED, Backend, Watcher
from txlb.core.pool import Pool


def test_eligible_means_healthy_wanted_weighted_and_resolved() -> None:
    it = backend("A")
    assert it.is_eligible()
    it.healthy = False
    assert not it.is_eligible()
    it.healthy, it.drained = True, True
    assert not it.is_eligible()
    it.drained, it.weight = False, 0
    assert not it.is_eligible()
    it.weight, it.address = 1, ""
    assert not it.is_eligible()
    it.address = "127.0.0.1"
    assert it.is_eligible()


def test_the_limit_is_on_leases() -> None:
    it = backend("A", max_connections=2)
    assert it.max_connections == 2
    it.active_connections = 1
    assert not it.is_full()
    it.active_connections = 2
    assert it.is_full()
    assert backend("B").max_connections is None
    assert backend("B").limit == UNLIMITED


@pytest.mark.parametrize(
    ("result", "counter"),
    [
        (outcome.CONNECT_REFUSED, "connect_failures"),
        (outcome.CONNECT_TIMEOUT, "connect_failures"),
        (outcome.CONNECT_FAILED, "connect_failures"),
        (outcome.RESET, "resets"),
        (outcome.TIMEOUT, "timeouts"),
        (outcome.BAD_RESPONSE, "bad_responses"),
    ],
)
def test_a_failure_is_counted_by_kind(result: int, counter: str) -> None:
    it = backend("A")
    it.count_outcome(result, 5.0, "")
    kinds = ("connect_failures", "resets", "timeouts", "bad_responses")
    assert {kind: getattr(it, kind) for kind in kinds if getattr(it, kind)} == {counter: 1}
    assert it.errors == 1


@pytest.mark.parametrize("result", [outcome.OK, outcome.CLIENT_ABORT, outcome.UNUSED])
def test_what_is_no_failure_is_not_counted_as_one(result: int) -> None:
    it = backend("A")
    it.count_outcome(result, 5.0, "")
    assert (it.errors, it.avoid_until) == (0, 0.0)


@pytest.mark.parametrize("result", range(len(outcome.NAMES)))
def test_only_a_failed_connect_is_avoided_and_for_a_second(result: int) -> None:
    it = backend("A")
    it.count_outcome(result, 5.0, "")
    assert it.avoid_until == (6.0 if outcome.is_connect_failure(result) else 0.0)


def test_an_answer_ends_the_avoidance_and_a_client_that_leaves_does_not() -> None:
    it = backend("A")
    it.count_outcome(outcome.CONNECT_REFUSED, 5.0, "")
    it.count_outcome(outcome.CLIENT_ABORT, 5.1, "")
    assert it.avoid_until == 6.0
    it.count_outcome(outcome.OK, 5.2, "")
    assert it.avoid_until == 0.0


def test_an_update_keeps_the_counters() -> None:
    it = backend("A")
    it.requests = 9
    it.count_outcome(outcome.CONNECT_REFUSED, 5.0, "")
    it.update("other", "127.0.0.1", 8080, 7, 3)
    assert (it.host, it.weight, it.max_connections) == ("other", 7, 3)
    assert (it.requests, it.errors) == (9, 1)
    assert it.avoid_until == 6.0


def test_another_address_starts_with_a_clean_record() -> None:
    for address, port in (("127.0.0.2", 8080), ("127.0.0.1", 8081)):
        it = backend("A")
        it.count_outcome(outcome.CONNECT_REFUSED, 5.0, "")
        it.update("A.example", address, port, 1, None)
        assert it.avoid_until == 0.0


def test_algorithms_may_keep_state_on_it() -> None:
    it = Backend("A", "h", "127.0.0.1", 1)
    it.state["ewma"] = 0.5
    assert it.state == {"ewma": 0.5}
    assert backend("B").state == {}


class Counting(Watcher):
    """Counts how often it is told."""

    def __init__(self) -> None:
        self.told = 0

    def relieved(self) -> None:
        self.told += 1


def test_siblings_have_one_limit_together() -> None:
    it = backend("A", max_connections=3)
    it.active_connections = 1
    it.fold(1)
    assert not it.is_full() and it.max_connections == 3
    it.fold(2)
    assert it.is_full() and it.max_connections == 3
    it.fold(5)  # a burst passed it
    assert it.is_full() and it.limit == 0
    it.update(it.host, it.address, it.port, 1, 7)
    assert not it.is_full() and it.limit == 2
    it.fold(0)
    assert it.limit == 7
    it.fold(9)
    it.update(it.host, it.address, it.port, 1, None)
    assert it.limit == UNLIMITED and it.max_connections is None


def test_watchers_are_told_when_a_load_falls_and_only_then() -> None:
    one, watcher = backend("A"), Counting()
    one.watchers.append(watcher)
    pool = Pool("rule", round_robin, [one])
    lease = pool.acquire(None, None, 0.0)
    assert lease is not None
    one.fold(5)
    one.fold(5)
    assert watcher.told == 0
    one.fold(2)
    assert watcher.told == 1
    assert one.elsewhere == 2
    lease.release(outcome.OK, 0.0)
    lease.release(outcome.OK, 0.0)
    assert watcher.told == 2
