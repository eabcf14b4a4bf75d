from __future__ import annotations

import pytest

from benchmarks.scenarios.failures import Outage, judge, percentile
from benchmarks.steady import CUT, OK, Asked
from benchmarks.tries import Tried

CLOCK = 1000.0  # since 1970, when the clock of the outages was at 0
ILL = Outage("kill", 8001, 10.0, 14.0, 15.0)


def last(outage: Outage, *tries: Tried) -> float:
    (seen,) = judge([outage], [], list(tries), CLOCK)
    return seen.last


def at(seconds: float, port: int = 8002, again: bool = False, status: int = 200) -> Tried:
    return Tried(CLOCK + seconds, port, again, status)


def test_the_last_that_was_tried_at_the_failed_one():
    assert last(ILL) == 0.0
    assert last(ILL, at(10.5)) == 0.0, "another's, at once"
    assert last(ILL, at(10.5, 8001), at(10.25, 8001)) == 0.5
    assert last(ILL, at(10.5, again=True)) == 0.5, "there first, then elsewhere"
    assert last(ILL, at(9.5, 8001), at(14.5, 8001), at(14.5, again=True)) == 0.0, "before, and after"


def test_a_restarted_one_may_serve_again():
    restarted = Outage("restart", 8001, 10.0, 14.0, 15.0)
    assert last(restarted, at(10.25, again=True), at(11.0, 8001)) == 0.25
    assert last(restarted, at(10.5, 8001, status=502)) == 0.5


def test_each_request_belongs_to_the_first_failure_that_it_met():
    first, second = Outage("stop", 1, 10.0, 14.0, 15.0), Outage("stop", 2, 20.0, 24.0, 25.0)
    asked = [
        Asked(1.0, 8.0, "503"),  # before both
        Asked(9.0, 2.0, OK),
        Asked(14.5, 20.0, "timeout"),  # outlasts both
        Asked(16.0, 1.0, "closed"),  # between
        Asked(19.0, 3.0, CUT),
        Asked(24.5, 0.5, OK),
    ]
    one, two = judge([first, second], asked, [], CLOCK)
    assert (one.requests, one.errors, one.cut, one.slowest) == (2, 1, 0, 20.0)
    assert (two.requests, two.errors, two.cut, two.slowest) == (2, 0, 1, 3.0)


@pytest.mark.parametrize(("share", "found"), [(0.5, 10.0), (0.95, 19.0), (1.0, 20.0)])
def test_percentiles_are_values_that_came_up(share: float, found: float):
    values = [float(one) for one in range(20, 0, -1)]
    assert percentile(values, share) == found
    assert percentile([3.0], share) == 3.0
