from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.choosing import backend, backends
from zope.interface.verify import verifyObject

from txlb.core.algorithms import round_robin as module
from txlb.core.algorithms.round_robin import RoundRobin, due
from txlb.core.backend import Backend
from txlb.interfaces import IAlgorithm


def built(members: list[Backend], start: float = 0.0) -> RoundRobin:
    algorithm = RoundRobin(start)
    algorithm.rebuild(members)
    return algorithm


def picks(algorithm: RoundRobin, count: int, tried: list[Backend] | None = None) -> list[str]:
    chosen = [algorithm.pick(None, tried or []) for _ in range(count)]
    return [backend.id for backend in chosen if backend is not None]


def test_it_honours_the_interface() -> None:
    assert verifyObject(IAlgorithm, RoundRobin())


@pytest.mark.parametrize(
    ("members", "cycle"),
    [
        ("A3 B1 C2", "ACABCA"),
        ("A3 B1", "AABA"),
        ("A1 B1 C1", "ABC"),
        ("A6 B2 C4", "ACABCA"),  # the same weights doubled
        ("A5 B1", "AAABAA"),
        ("A2 B0", "A"),
    ],
)
def test_picks_are_interleaved(members: str, cycle: str) -> None:
    assert "".join(picks(built(backends(members)), 2 * len(cycle))) == 2 * cycle


def test_nothing_to_pick_from() -> None:
    assert built([]).pick(None, []) is None
    assert built(backends("A0 B0")).pick(None, []) is None


weights = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def numbered(values: list[int]) -> list[Backend]:
    return [backend(f"b{index}", weight) for index, weight in enumerate(values)]


@given(weights, st.floats(0, 1, exclude_max=True))
def test_counts_are_exact_in_any_run_of_a_whole_cycle(values: list[int], start: float) -> None:
    algorithm = built(numbered(values), start)
    expected = {f"b{index}": weight for index, weight in enumerate(values)}
    for _ in range(3):
        assert Counter(picks(algorithm, sum(values))) == expected


@given(weights)
def test_picks_are_spread_evenly(values: list[int]) -> None:
    """At any moment each has had its share of the cycle so far, rounded."""
    total = sum(values)
    order = picks(built(numbered(values)), total)
    for index, weight in enumerate(values):
        given_so_far = 0
        for at, name in enumerate(order, 1):
            given_so_far += name == f"b{index}"
            off = abs(given_so_far - Fraction(at * weight, total))
            assert off <= Fraction(1, 2) + Fraction(len(values) * weight, 2 * total)


HEAVY = [60_000, 30_001, 17, 65_535, 1, 9_999]


def exact_order(values: list[int], count: int) -> list[str]:
    dues = sorted(
        (Fraction(2 * k + 1, 2 * weight), index)
        for index, weight in enumerate(values)
        for k in range(min(weight, count))
    )
    return [f"b{index}" for _, index in dues[:count]]


def test_a_cycle_too_long_to_lay_out_has_the_same_order() -> None:
    assert sum(HEAVY) > module.LONGEST_CYCLE
    assert picks(built(numbered(HEAVY)), 3000) == exact_order(HEAVY, 3000)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.999])
def test_a_long_cycle_is_exact_too(start: float) -> None:
    values = [9000, 3, 1, 250]
    algorithm = built(numbered(values), start)
    expected = {f"b{index}": weight for index, weight in enumerate(values)}
    for _ in range(2):
        assert Counter(picks(algorithm, sum(values))) == expected


@given(st.integers(1, 65535), st.integers(1, 65535), st.data())
@settings(max_examples=300)
def test_scaled_deadlines_compare_like_fractions(w: int, v: int, data: st.DataObject) -> None:
    k, j = data.draw(st.integers(0, 3 * w)), data.draw(st.integers(0, 3 * v))
    exact, other = Fraction(2 * k + 1, 2 * w), Fraction(2 * j + 1, 2 * v)
    assert (due(k, w) < due(j, v)) == (exact < other)
    assert (due(k, w) == due(j, v)) == (exact == other)


@pytest.mark.parametrize("step", [0, 1, 40])  # equal weights, a cycle laid out, a heap
def test_the_start_is_random(step: int) -> None:
    members = [backend(f"b{index}", 1 + step * index) for index in range(100)]
    first = {tuple(picks(built(members, -1.0), 3)) for _ in range(8)}
    assert len(first) > 1


def test_the_random_start_gives_each_the_same_chance() -> None:
    firsts = Counter(picks(built(backends("A1 B1 C1 D1"), -1.0), 1)[0] for _ in range(4000))
    assert min(firsts.values()) > 800


def test_tried_backends_are_passed_over() -> None:
    members = backends("A3 B1 C2")
    a, b, c = members
    algorithm = built(members)
    assert set(picks(algorithm, 20, [a, c])) == {"B"}
    assert set(picks(algorithm, 20, [b])) == {"A", "C"}
    assert algorithm.pick(None, [a, b, c]) is None


@pytest.mark.parametrize("heavy", [1000, 60_000])
def test_getting_past_a_heavy_tried_backend_is_bounded(heavy: int) -> None:
    """Without the bound the rest of the heavy one's share would be skipped, thousands of steps."""
    members = [backend("A", heavy), backend("B"), backend("C")]
    algorithm = built(members)
    assert set(picks(algorithm, 10, [members[0]])) == {"B", "C"}
    assert set(picks(algorithm, 10)) == {"A"}  # still in A's share


def test_passing_over_finds_the_only_one_left() -> None:
    members = [backend(f"b{index}") for index in range(50)]
    for left in members:
        tried = [backend for backend in members if backend is not left]
        assert built(members).pick(None, tried) is left


def test_the_next_pick_goes_on_where_the_last_one_ended() -> None:
    algorithm = built(backends("A1 B1 C1 D1"))
    assert picks(algorithm, 9) == list("ABCDABCDA")
    assert all(one != other for one, other in pairwise(picks(algorithm, 40)))
