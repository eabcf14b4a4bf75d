from __future__ import annotations

import pytest

from txlb.control.api.views import quantile
from txlb.core.latency import BOUNDS_US, BUCKETS


def latency(**counts: int) -> list[int]:
    found = [0] * BUCKETS
    for name, count in counts.items():
        found[int(name[1:])] = count
    return found


def test_without_answers_there_is_no_latency() -> None:
    assert quantile(latency(), 0.99) is None


@pytest.mark.parametrize(
    ("counts", "share", "milliseconds"),
    [
        ({"b0": 100}, 0.99, 0.495),
        ({"b0": 100}, 0.5, 0.25),
        ({"b0": 50, "b3": 50}, 0.5, 0.5),
        ({"b0": 98, "b4": 2}, 0.99, 7.5),
        ({"b16": 1}, 0.99, 60_000.0),
    ],
)
def test_a_quantile_lies_between_the_bounds_of_its_bucket(
    counts: dict[str, int], share: float, milliseconds: float
) -> None:
    assert quantile(latency(**counts), share) == milliseconds


def test_it_grows_with_the_share() -> None:
    spread = [1] * BUCKETS
    found = [quantile(spread, share / 100) for share in range(1, 101)]
    assert found == sorted(found, key=lambda it: it or 0.0)
    assert found[-1] == BOUNDS_US[-1] / 1000
