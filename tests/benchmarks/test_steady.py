from __future__ import annotations

import pytest

from benchmarks.steady import next_time


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (10.0, 10.25),
        (10.125, 10.25),
        (10.25, 10.25),  # at once
        (10.375, 10.5),
        (12.0625, 12.25),  # after a long answer: its own place, not where it came free
        (9.0, 10.25),  # asked early: time went by in a sleep that was too short
    ],
)
def test_a_client_keeps_to_its_own_times(now: float, then: float):
    assert next_time(10.0, 0.25, now) == then
