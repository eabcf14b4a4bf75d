from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from support.choosing import backend, backends

from txlb.core.algorithms.weighted_random import WeightedRandom


def test_the_last_pick_says_nothing_of_the_next() -> None:
    random.seed(11)
    algorithm = WeightedRandom()
    algorithm.rebuild(backends("A1 B1"))
    picked = [algorithm.pick(None, []) for _ in range(8001)]
    pairs = Counter((one.id, two.id) for one, two in pairwise(picked) if one and two)
    assert set(pairs) == {("A", "A"), ("A", "B"), ("B", "A"), ("B", "B")}
    assert all(abs(count - 2000) < 200 for count in pairs.values())


def test_weights_count_among_those_that_are_left() -> None:
    random.seed(12)
    members = backends("A6 B3 C1")
    algorithm = WeightedRandom()
    algorithm.rebuild(members)
    counts = Counter(algorithm.pick(None, [members[0]]) for _ in range(8000))
    assert counts[members[0]] == 0
    assert abs(counts[members[1]] - 6000) < 300


def test_getting_past_a_heavy_tried_backend_is_bounded() -> None:
    members = [backend("A", 65535), backend("B", 1)]
    algorithm = WeightedRandom()
    algorithm.rebuild(members)
    assert {algorithm.pick(None, members[:1]) for _ in range(20)} == {members[1]}
