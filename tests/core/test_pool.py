from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.choosing import Script, backend, backends, pool_of, round_robin, scripted_pool
from zope.interface import implementer

from txlb.core import outcome, pool
from txlb.core.algorithms import native
from txlb.core.algorithms.base import Algorithm
from txlb.core.backend import Backend
from txlb.core.pool import Lease, Pool
from txlb.interfaces import IOutcomeObserver

NOW = 100.0


def leased(it: Pool, tried: list[Backend] | None = None, now: float = NOW) -> Lease:
    lease = it.acquire(None, tried, now)
    assert lease is not None
    return lease


def ids(it: Pool, count: int, now: float = NOW) -> str:
    return "".join(leased(it, None, now).backend.id for _ in range(count))


# Counting


def test_a_lease_is_counted_when_made_and_released_once() -> None:
    it = pool_of("A1")
    [member] = it.backends
    member.touched = False
    lease = leased(it)
    assert (member.active_connections, member.requests, member.touched) == (1, 1, True)
    member.touched = False
    assert lease.release(outcome.OK, NOW)
    assert (member.active_connections, member.requests, member.touched) == (0, 1, True)


def test_the_second_release_does_nothing_and_says_so() -> None:
    it = pool_of("A1")
    lease = leased(it)
    assert lease.release(outcome.OK, NOW)
    assert not lease.release(outcome.RESET, NOW)
    assert (it.backends[0].active_connections, it.backends[0].errors) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from(range(9)), st.booleans()), max_size=60))
def test_leases_and_counts_always_agree(plan: list[tuple[int, bool]]) -> None:
    it = pool_of("A1 B2 C3")
    out: list[Lease] = []
    now = NOW
    for result, hold in plan:
        lease = leased(it, None, now)
        out.append(lease)
        if not hold:
            out.pop(0).release(result, now)
        now += 0.2
        held = Counter(lease.backend.id for lease in out)
        assert {member.id: member.active_connections for member in it.backends} == {
            name: held[name] for name in "ABC"
        }
    assert sum(member.requests for member in it.backends) == len(plan)


def test_two_rules_count_on_one_backend() -> None:
    members = backends("A1")
    one, two = Pool("one", round_robin, members), Pool("two", round_robin, members)
    leased(one)
    leased(two)
    assert members[0].active_connections == 2


# Excluding


def test_a_full_backend_is_passed_over_and_all_full_is_none() -> None:
    members = [backend("A", max_connections=1), backend("B", max_connections=2)]
    it = Pool("rule", round_robin, members)
    assert sorted(ids(it, 3)) == ["A", "B", "B"]
    assert it.acquire(None, None, NOW) is None


def test_tried_backends_are_not_chosen_again_and_the_list_is_left_alone() -> None:
    it = pool_of("A1 B1 C1")
    a, b, c = it.backends
    b.drained = True
    tried = [a]
    assert leased(it, tried).backend is c
    assert tried == [a]
    assert it.acquire(None, [a, c], NOW) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda it: setattr(it, "drained", True),
        lambda it: setattr(it, "healthy", False),
        lambda it: setattr(it, "weight", 0),
        lambda it: setattr(it, "address", ""),
    ],
)
def test_who_became_ineligible_since_the_rebuild_gets_nothing(spoil: Callable[[Backend], None]) -> None:
    it = pool_of("A1 B1")
    spoil(it.backends[0])
    assert ids(it, 4) == "BBBB"
    spoil(it.backends[1])
    assert it.acquire(None, None, NOW) is None


def test_a_failed_connect_is_avoided_for_a_second() -> None:
    it = pool_of("A1 B1")
    assert leased(it).release(outcome.CONNECT_REFUSED, NOW)
    assert ids(it, 6) == "BBBBBB"
    assert set(ids(it, 6, NOW + 0.99)) == {"B"}
    assert set(ids(it, 6, NOW + 1.0)) == {"A", "B"}


def test_the_avoided_are_the_last_resort() -> None:
    it = pool_of("A1 B1")
    a, b = it.backends
    a.avoid_until = b.avoid_until = NOW + 0.5
    assert leased(it).backend in (a, b)
    assert leased(it, [a]).backend is b
    b.drained = True
    assert leased(it).backend is a


def test_an_empty_pool_has_nothing() -> None:
    assert Pool("rule", round_robin, []).acquire(None, None, NOW) is None


def test_after_eight_refused_picks_the_pool_looks_itself() -> None:
    members = [backend(f"b{index}", max_connections=0) for index in range(40)]
    script = Script(*members)
    it = scripted_pool(script, [*members, backend("free")])
    assert leased(it).backend.id == "free"
    assert len(script.seen) == pool.REFUSALS == 8
    assert script.seen[7] == tuple(members[:7])


def test_the_look_starts_elsewhere_each_time() -> None:
    it = scripted_pool(Script(), backends("A1 B1 C1"))
    assert Counter(ids(it, 30)) == {"A": 10, "B": 10, "C": 10}


def test_the_look_is_bounded_and_gets_on() -> None:
    members = [backend(f"b{index}", max_connections=0) for index in range(2 * pool.LOOKS)]
    members[-1].limit = 1
    it = scripted_pool(Script(), members)
    found = [it.acquire(None, None, NOW) for _ in range(2)]
    assert [lease.backend.id for lease in found if lease] == [members[-1].id]
    assert found[0] is None


# Algorithms that fail


@pytest.mark.parametrize("nonsense", [ValueError("no"), "A", 7, backend("stranger")])
def test_a_bad_algorithm_costs_no_request(nonsense: object) -> None:
    members = backends("A1 B1")
    it = scripted_pool(Script(*[nonsense] * 200), members)
    it.touched = False
    assert Counter(ids(it, 10)) == {"A": 5, "B": 5}
    assert it.algorithm_errors >= 10
    assert it.touched


def test_a_bad_algorithm_is_told_once_per_rebuild() -> None:
    it = scripted_pool(Script(ValueError("first"), ValueError("second")), backends("A1"))
    assert it.take_problem() == ""
    ids(it, 2)
    assert "first" in it.take_problem()
    assert it.take_problem() == ""
    it.rebuild()
    assert it.take_problem() == ""


def test_a_stranger_with_a_members_id_is_no_member() -> None:
    [member] = members = backends("A1")
    it = scripted_pool(Script(backend("A")), members)
    assert leased(it).backend is member


def test_a_rebuild_that_raises_leaves_round_robin() -> None:
    class Broken(Script):
        def rebuild(self, backends: list[Backend]) -> None:
            raise ValueError("too many")

    it = scripted_pool(Broken(), backends("A1 B1"))
    assert sorted(ids(it, 2)) == ["A", "B"]
    assert it.algorithm_errors == 1
    assert "too many" in it.take_problem()


# Observers


@implementer(IOutcomeObserver)
class Observer(Script):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, int, float]] = []

    def observe(self, backend: Backend, outcome: int, now: float) -> None:
        self.heard.append((backend.id, outcome, now))


def test_an_observer_hears_every_outcome_once() -> None:
    observer = Observer()
    it = scripted_pool(observer, backends("A1"))
    lease = leased(it)
    lease.release(outcome.TIMEOUT, NOW + 1)
    lease.release(outcome.OK, NOW + 2)
    assert observer.heard == [("A", outcome.TIMEOUT, NOW + 1)]


def test_an_observer_that_raises_does_no_harm() -> None:
    class Bad(Observer):
        def observe(self, backend: Backend, outcome: int, now: float) -> None:
            raise ValueError("deaf")

    it = scripted_pool(Bad(), backends("A1"))
    assert leased(it).release(outcome.OK, NOW)
    assert it.backends[0].active_connections == 0
    assert it.algorithm_errors == 1


# Membership


def test_who_leaves_gets_nothing_more_even_before_the_rebuild() -> None:
    it = pool_of("A1 B1")
    b = it.backends[1]
    it.set_members([b])
    assert ids(it, 3) == "BBB"
    assert it.algorithm_errors == 0
    it.rebuild()
    assert ids(it, 3) == "BBB"


def test_a_foreign_algorithm_is_not_blamed_for_members_that_left() -> None:
    members = backends("A1 B1")
    it = scripted_pool(Script(members[0]), members)
    it.set_members(members[1:])
    assert leased(it).backend is members[1]
    assert it.algorithm_errors == 0


def test_who_comes_is_chosen_after_the_rebuild() -> None:
    members = backends("A1 B1")
    it = Pool("rule", round_robin, members[:1])
    it.replace(members)
    assert set(ids(it, 4)) == {"A", "B"}
    assert it.backends == members


def test_new_weights_count_after_a_rebuild() -> None:
    it = pool_of("A1 B1")
    it.backends[0].weight = 3
    it.rebuild()
    assert ids(it, 4) == "AABA"


def test_only_the_eligible_are_passed_on() -> None:
    members = backends("A1 B0 C1")
    members[2].drained = True
    script = Script()
    scripted_pool(script, members)
    assert script.backends == members[:1]


def test_a_lease_outlives_its_backends_membership() -> None:
    it = pool_of("A1 B1")
    lease = leased(it)
    it.replace([member for member in it.backends if member is not lease.backend])
    assert lease.release(outcome.OK, NOW)
    assert lease.backend.active_connections == 0


class Sliced(Script):
    """Picks its first backend; takes three steps to get ready."""

    def rebuild(self, backends: list[Backend]) -> Iterator[None]:
        for _ in range(3):
            yield
        self.picks = backends[:1] * 100


def sliced() -> Algorithm:
    return native(Sliced())


def test_the_old_algorithm_picks_until_the_new_one_is_ready() -> None:
    it = pool_of("A1 B1")
    it.set_algorithm(sliced)
    steps = it.rebuild_steps()
    for _ in range(3):
        next(steps)
        assert set(ids(it, 2)) == {"A", "B"}
    assert list(steps) == []
    assert ids(it, 3) == "AAA"


def test_an_abandoned_rebuild_changes_nothing() -> None:
    it = pool_of("A1 B1")
    it.set_algorithm(sliced)
    steps = it.rebuild_steps()
    next(steps)
    del steps
    assert ids(it, 4) == "ABAB"


def test_members_that_leave_during_a_rebuild_stay_away_after_it() -> None:
    it = pool_of("A1 B1")
    b = it.backends[1]
    it.set_algorithm(sliced)
    steps = it.rebuild_steps()
    next(steps)
    it.set_members([b])
    assert list(steps) == [None, None]
    assert ids(it, 3) == "BBB"
    assert it.algorithm_errors == 0


# Who is left


def test_those_that_drain_serve_when_nobody_else_is_left() -> None:
    it = pool_of("A1 B1 C1")
    a, b, c = it.backends
    b.drained = True
    c.drained = c.healthy = True
    c.healthy = False
    it.rebuild()
    assert ids(it, 3) == "AAA"
    a.healthy = False
    it.standing_changed()
    assert ids(it, 3) == "BBB", "at once, and nobody who is unhealthy"
    it.rebuild()
    assert ids(it, 3) == "BBB"
    a.healthy = True
    it.rebuild()
    assert ids(it, 2) == "AA"
    assert it.panic_picks == 0


def test_those_that_drain_do_not_serve_because_others_are_full() -> None:
    it = Pool("rule", round_robin, [backend("A", max_connections=1), backend("B")])
    it.backends[1].drained = True
    it.rebuild()
    leased(it)
    assert it.acquire(None, None, NOW) is None
    it.standing_changed()
    assert it.acquire(None, None, NOW) is None


def test_nobody_is_left_without_panic() -> None:
    it = pool_of("A1 B1")
    for member in it.backends:
        member.healthy = False
    it.standing_changed()
    assert it.acquire(None, None, NOW) is None
    it.rebuild()
    assert it.acquire(None, None, NOW) is None


@pytest.mark.parametrize(
    ("threshold", "unhealthy", "panic"),
    [(0.5, "", False), (0.5, "A", False), (0.5, "AB", True), (0.25, "AB", False), (0.25, "ABC", True)],
)
def test_at_or_below_the_threshold_all_are_used(threshold: float, unhealthy: str, panic: bool) -> None:
    it = pool_of("A1 B1 C1 D1")
    it.panic_threshold = threshold
    for member in it.backends:
        member.healthy = member.id not in unhealthy
    it.rebuild()
    got = Counter(ids(it, 12))
    assert set(got) == (set("ABCD") if panic else set("ABCD") - set(unhealthy))
    assert it.panic_picks == (12 if panic else 0)
    for member in it.backends:
        member.healthy = True
    it.rebuild()
    assert set(ids(it, 4)) == set("ABCD")
    assert it.panic_picks == (12 if panic else 0), "over"


def test_panic_leaves_out_what_drains_has_no_weight_or_no_address() -> None:
    it = pool_of("A1 B1 C0 D1 E1")
    it.panic_threshold = 0.5
    a, b, _, d, e = it.backends
    a.healthy = b.healthy = False
    d.drained = True
    e.address = ""
    it.rebuild()
    assert set(ids(it, 20)) == {"A", "B", "D"}, "D is all that is healthy"
    b.healthy = True
    it.rebuild()
    assert set(ids(it, 20)) == {"A", "B"}
    assert it.panic_picks == 40


def test_all_unhealthy_is_a_panic_at_once_after_a_change() -> None:
    it = pool_of("A1 B1")
    it.panic_threshold = 0.5
    for member in it.backends:
        member.healthy = False
    it.standing_changed()
    assert set(ids(it, 10)) == {"A", "B"}
    assert it.panic_picks == 10


def test_before_its_first_rebuild_a_member_is_found_all_the_same() -> None:
    it = Pool("rule", round_robin, [])
    it.set_members(backends("A1 B1"))
    assert set(ids(it, 4)) == {"A", "B"}


def test_who_belongs_to_a_backend_gets_it_while_it_drains_and_whatever_its_weight() -> None:
    home, other = Backend("a", "h", "10.0.0.1", 80, 0), Backend("b", "h", "10.0.0.2", 80)
    pool = Pool("rule", round_robin, [home, other])
    home.drained, home.drain_until = True, 10.0
    lease = pool.acquire_this(home, 5.0)
    assert lease is not None and home.active_connections == 1
    assert pool.acquire_this(home, 10.0) is None
    home.drained = False
    home.limit = 1
    assert pool.acquire_this(home, 11.0) is None  # full
    lease.release(outcome.CONNECT_REFUSED, 11.0)
    assert pool.acquire_this(home, 11.5) is None  # avoided
    home.healthy = False
    assert pool.acquire_this(home, 13.0) is None
    home.healthy = True
    home.address = ""
    assert pool.acquire_this(home, 13.0) is None
    home.address = "10.0.0.1"
    pool.replace([other])
    assert pool.acquire_this(home, 13.0) is None  # no member any more
    pool.replace([home, other])
    assert pool.acquire_this(home, 13.0) is not None
