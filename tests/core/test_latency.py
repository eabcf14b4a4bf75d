from __future__ import annotations

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from txlb.core.latency import BOUNDS_US, BUCKETS, bucket_of


def test_bounds_are_half_a_millisecond_to_a_minute() -> None:
    assert (BOUNDS_US[0], BOUNDS_US[-1]) == (500, 60_000_000)
    assert list(BOUNDS_US) == sorted(set(BOUNDS_US))
    assert len(BOUNDS_US) + 1 == BUCKETS


def test_a_bound_belongs_to_its_own_bucket() -> None:
    for index, bound in enumerate(BOUNDS_US):
        assert bucket_of(bound) == index
        assert bucket_of(bound + 1) == index + 1


@given(st.integers(0, 100_000_000))
def test_the_comparisons_are_a_bisection(us: int) -> None:
    assert bucket_of(us) == bisect_left(BOUNDS_US, us)
