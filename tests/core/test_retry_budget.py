from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core.retry_budget import RetryBudget


def spend(budget: RetryBudget, now: float) -> int:
    """As many retries as it allows at this moment."""
    count = 0
    while budget.allows(now):
        budget.charge(now)
        count += 1
    return count


def test_a_share_of_the_first_attempts_may_be_tried_again() -> None:
    budget = RetryBudget(0.2, 10.0, 0.0)
    assert not budget.allows(100.0), "there was nothing to retry"
    for _ in range(50):
        budget.count_first(100.0)
    assert spend(budget, 100.5) == 10


def test_a_few_per_second_are_always_allowed() -> None:
    budget = RetryBudget(0.2, 10.0, 3.0)
    assert spend(budget, 100.0) == 30
    budget = RetryBudget(0.2, 10.0, 3.0)
    for _ in range(1000):
        budget.count_first(100.0)
    assert spend(budget, 100.0) == 200, "whichever is more, not both"


def test_what_is_older_than_the_window_counts_no_more() -> None:
    budget = RetryBudget(0.5, 10.0, 0.0)
    for _ in range(10):
        budget.count_first(100.0)
    assert spend(budget, 108.9) == 5
    assert spend(budget, 110.1) == 0, "the first attempts are too old"
    for _ in range(10):
        budget.count_first(112.0)
    assert spend(budget, 112.0) == 0, "the retries are not"
    assert spend(budget, 119.0) == 5


def test_a_steady_stream_gets_its_share() -> None:
    budget = RetryBudget(0.2, 10.0, 0.0)
    retries = 0
    for step in range(10_000):
        now = 50.0 + step * 0.01
        budget.count_first(now)
        if budget.allows(now):
            budget.charge(now)
            retries += 1
    assert retries == pytest.approx(2000, rel=0.15)


@pytest.mark.parametrize("idle", [10.0, 11.0, 10_000.0])
def test_after_a_long_silence_it_starts_anew(idle: float) -> None:
    budget = RetryBudget(0.2, 10.0, 1.0)
    for _ in range(1000):
        budget.count_first(100.0)
    assert spend(budget, 100.0) == 200
    assert spend(budget, 100.0 + idle + 1.0) == 10


def test_nothing_is_allowed_without_share_and_minimum() -> None:
    budget = RetryBudget(0.0, 10.0, 0.0)
    for _ in range(100):
        budget.count_first(1.0)
    assert not budget.allows(1.0)


def test_other_settings_keep_what_was_counted() -> None:
    budget = RetryBudget(0.0, 10.0, 0.0)
    for _ in range(100):
        budget.count_first(1.0)
    budget.configure(0.1, 10.0, 0.0)
    assert spend(budget, 1.0) == 10


@given(
    st.floats(0.0, 1.0),
    st.floats(0.1, 60.0),
    st.floats(0.0, 5.0),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), max_size=60),
)
def test_it_never_allows_more_than_the_window_does(
    share: float, window: float, least: float, steps: list[tuple[float, bool]]
) -> None:
    budget = RetryBudget(share, window, least)
    now = 1000.0
    firsts: list[float] = []
    retries: list[float] = []
    for later, again in steps:
        now += later
        if not again:
            budget.count_first(now)
            firsts.append(now)
        elif budget.allows(now):
            lately = sum(1 for one in firsts if one > now - window)
            spent = sum(1 for one in retries if one > now - 0.9 * window)
            assert spent < max(share * lately, least * window) + 1e-6
            budget.charge(now)
            retries.append(now)
