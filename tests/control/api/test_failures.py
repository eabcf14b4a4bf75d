"""`txlb.control.api.failures`: who must wait, and for how long."""

from __future__ import annotations

import pytest

from txlb.control.api.failures import LIMIT, SOURCES, WINDOW, Failures, source_of


def test_after_too_many_a_source_waits_until_its_window_ends():
    failures = Failures()
    for number in range(LIMIT):
        assert failures.wait("a", 100.0 + number) == 0.0
        failures.add("a", 100.0 + number)
    assert failures.wait("a", 120.0) == WINDOW - 20.0
    assert failures.wait("b", 120.0) == 0.0
    assert failures.wait("a", 100.0 + WINDOW) == 0.0
    failures.add("a", 100.0 + WINDOW)
    assert failures.wait("a", 101.0 + WINDOW) == 0.0  # a new window


def test_a_slow_trickle_never_waits():
    failures = Failures()
    for number in range(100):
        now = number * WINDOW / (LIMIT - 1)
        failures.add("a", now)
        assert failures.wait("a", now) == 0.0


def test_the_table_is_bounded():
    failures = Failures()
    for number in range(SOURCES + 10):
        for _ in range(LIMIT):
            failures.add(str(number), 1.0)
    waiting = [number for number in range(SOURCES + 10) if failures.wait(str(number), 2.0)]
    assert waiting == list(range(10, SOURCES + 10))


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("unix:uid=0", "unix:uid=0"),
    ],
)
def test_what_counts_as_one_source(peer: str, source: str):
    assert source_of(peer) == source
