"""`txlb.control.rates`: the mean of the last ten seconds, not more."""

from __future__ import annotations

from twisted.internet.task import Clock

from txlb.control.rates import Rate


class Counter:
    count = 0

    def __call__(self) -> int:
        return self.count


def run(rate: Rate, clock: Clock, counter: Counter, seconds: int, each: int) -> None:
    for _ in range(seconds):
        clock.advance(1)
        counter.count += each
        rate.sample()


def test_nothing_is_zero():
    assert Rate(Counter(), Clock().seconds).per_second() == 0.0


def test_a_young_rate_is_the_mean_since_the_start():
    clock, counter = Clock(), Counter()
    rate = Rate(counter, clock.seconds)
    run(rate, clock, counter, 4, 5)
    assert rate.per_second() == 5.0


def test_what_is_older_than_the_window_does_not_count():
    clock, counter = Clock(), Counter()
    rate = Rate(counter, clock.seconds)
    run(rate, clock, counter, 30, 100)
    assert rate.per_second() == 100.0
    run(rate, clock, counter, 5, 0)
    assert rate.per_second() == 50.0
    run(rate, clock, counter, 5, 0)
    assert rate.per_second() == 0.0


def test_a_counter_that_shrinks_is_no_negative_rate():
    clock, counter = Clock(), Counter()
    counter.count = 10
    rate = Rate(counter, clock.seconds)
    run(rate, clock, counter, 2, -5)
    assert rate.per_second() == 0.0
