from __future__ import annotations

import random
from collections import Counter

from support.choosing import backend, backends, built

from txlb.core.algorithms.power_of_two import PowerOfTwo
from txlb.core.algorithms.two_choices import TwoChoices
from txlb.core.backend import Backend


class Alphabetical(TwoChoices):
    """The later in the list the better."""

    def __init__(self, always_two: bool = True) -> None:
        TwoChoices.__init__(self, always_two)

    def load(self, index: int, context: object) -> float:
        return -float(index)


def counted(algorithm: TwoChoices, tried: list[Backend], picks: int = 6000) -> Counter[str]:
    picked = [algorithm.pick(None, tried) for _ in range(picks)]
    return Counter(one.id for one in picked if one is not None)


def test_of_two_the_better_one() -> None:
    random.seed(1)
    algorithm = Alphabetical()
    algorithm.rebuild(backends("A1 B1 C1"))
    counts = counted(algorithm, [])
    assert counts["A"] < 50  # drawn five times in a row
    assert abs(counts["C"] - 4000) < 250  # in two of three pairs


def test_the_second_may_be_the_same_where_that_keeps_the_weights() -> None:
    random.seed(2)
    algorithm = Alphabetical(always_two=False)
    algorithm.rebuild(backends("A3 B1"))
    assert abs(counted(algorithm, [])["A"] - 6000 * 9 / 16) < 250
    algorithm.rebuild(backends("A1 B1"))
    assert counted(algorithm, [])["A"] < 400


def test_of_two_the_other_one_if_the_better_was_tried() -> None:
    members = backends("A1 B1 C1")
    algorithm = Alphabetical()
    algorithm.rebuild(members)
    assert set(counted(algorithm, [members[2]])) == {"A", "B"}
    assert set(counted(algorithm, members[1:])) == {"A"}
    assert algorithm.pick(None, members) is None


def test_idle_before_busy_and_busy_by_weight() -> None:
    random.seed(4)
    members = backends("A1 B1")
    algorithm = PowerOfTwo()
    algorithm.rebuild(members)
    members[0].active_connections = 1
    assert counted(algorithm, [])["B"] > 5600
    members = backends("A3 B1")
    algorithm.rebuild(members)
    members[0].active_connections, members[1].active_connections = 5, 2
    assert counted(algorithm, [])["A"] > 5600


def test_what_siblings_hold_counts() -> None:
    random.seed(5)
    members = backends("A1 B1")
    algorithm = PowerOfTwo()
    algorithm.rebuild(members)
    members[0].fold(3)
    members[1].active_connections = 2
    assert counted(algorithm, [])["B"] > 5600


def test_full_is_worse_than_busy() -> None:
    random.seed(6)
    members = [backend("A", 1, max_connections=1), backend("B")]
    members[0].active_connections, members[1].active_connections = 1, 50
    algorithm = PowerOfTwo()
    algorithm.rebuild(members)
    assert counted(algorithm, [])["B"] > 5600


def test_it_is_nearly_as_even_as_least_connections() -> None:
    random.seed(8)
    members = [backend(f"b{index}") for index in range(100)]
    algorithm = built(PowerOfTwo(), members)
    for _ in range(1000):
        picked = algorithm.pick(None, [])
        assert picked is not None
        picked.active_connections += 1
    assert max(one.active_connections for one in members) <= 13  # random: about 20
