from __future__ import annotations

import random
from collections import Counter

import pytest
from support.choosing import backend

from txlb.core.algorithms.draw import WeightedDraw


@pytest.mark.parametrize("weights", [[1], [3, 3], [1, 2, 7], [65535, 1], [5, 1, 1, 5]])
def test_each_as_often_as_its_weight_says(weights: list[int]) -> None:
    random.seed(3)
    draw = WeightedDraw([backend(f"b{index}", weight) for index, weight in enumerate(weights)])
    assert draw.uniform == (len(set(weights)) == 1)
    counts = Counter(draw.draw() for _ in range(20_000))
    assert set(counts) <= set(range(len(weights)))
    for index, weight in enumerate(weights):
        assert abs(counts[index] / 20_000 - weight / sum(weights)) < 0.015
