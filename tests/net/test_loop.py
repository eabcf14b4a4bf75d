from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.dataplane import Net, network

from txlb.net.loop import BATCH, ERROR, HANGUP, READ, WRITE, Handler, Loop
from txlb.net.timers import Timed


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


@pytest.fixture
def rough() -> Iterator[Net]:
    """A net whose handlers may raise."""
    net = Net()
    yield net
    net.close()


class Pipe(Handler):
    """Watches a pipe with a byte in it."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK)
        os.write(self.writer, b"x")
        self.heard: list[int] = []
        self.failures: list[BaseException] = []
        self.laters = 0
        self.error: Exception | None = None
        self.fail_again = False
        self.others: list[Pipe] = []
        self.times: list[float] = []
        self.defer_again = 0
        net.loop.add(self.reader, self, READ)

    def ready(self, events: int) -> None:
        self.heard.append(events)
        self.times.append(self.net.loop.now)
        for other in self.others:
            other.close()
        if self.error is not None:
            raise self.error

    def later(self) -> None:
        self.laters += 1
        if self.error is not None:
            raise self.error
        if self.defer_again:
            self.defer_again -= 1
            self.net.loop.defer(self)

    def failed(self, why: BaseException) -> None:
        self.failures.append(why)
        if self.fail_again:
            raise RuntimeError("and again")

    def close(self) -> None:
        if self.reader >= 0:
            self.net.loop.remove(self.reader, True)
            os.close(self.reader)
            os.close(self.writer)
            self.reader = -1


class Pipes:
    """As many as asked for; all closed."""

    def __init__(self) -> None:
        self.made: list[Pipe] = []

    def __call__(self, net: Net) -> Pipe:
        self.made.append(Pipe(net))
        return self.made[-1]


@pytest.fixture
def pipe() -> Iterator[Pipes]:
    pipes = Pipes()
    yield pipes
    for one in pipes.made:
        one.close()


def test_a_wake_up_hands_over_at_most_a_batch_and_the_rest_wakes_again(net: Net, pipe: Pipes) -> None:
    many = [pipe(net) for _ in range(BATCH + 6)]
    net.turn()
    assert sum(len(one.heard) for one in many) == BATCH
    for one in many:
        if one.heard:
            one.close()
    assert net.turn()
    assert all(one.heard for one in many)


def test_interest_is_level_triggered(net: Net, pipe: Pipes) -> None:
    one = pipe(net)
    net.turn()
    net.turn()
    assert one.heard == [READ, READ]
    os.read(one.reader, 10)
    net.turn()
    assert len(one.heard) == 2


def test_interest_can_be_changed_and_taken_back(net: Net) -> None:
    near, _peer = net.pair()
    seen: list[int] = []

    class Writer(Handler):
        def ready(self, events: int) -> None:
            seen.append(events)

    net.loop.add(near.fileno(), Writer(), READ)
    net.turn()
    assert seen == []
    net.loop.modify(near.fileno(), WRITE)
    net.turn()
    assert seen == [WRITE]
    net.loop.remove(near.fileno(), False)
    net.turn()
    assert seen == [WRITE]
    near.close()


def test_an_exception_ends_that_handler_and_not_the_loop(rough: Net, pipe: Pipes) -> None:
    broken, sound = pipe(rough), pipe(rough)
    broken.error = ValueError("broken")
    rough.turn()
    assert broken.failures == [broken.error]
    assert sound.heard == [READ]
    assert rough.loop.failures == 1
    assert rough.loop.last_failure is broken.error


def test_an_exception_while_giving_up_is_contained_too(rough: Net, pipe: Pipes) -> None:
    first, second = pipe(rough), pipe(rough)
    for one in (first, second):
        one.error = ValueError("broken")
        one.fail_again = True
    rough.turn()
    assert first.failures and second.failures
    assert rough.loop.failures == 2
    assert isinstance(rough.loop.last_failure, RuntimeError)


def test_an_exception_in_deferred_work_is_contained(rough: Net, pipe: Pipes) -> None:
    broken, sound = pipe(rough), pipe(rough)
    os.read(broken.reader, 10)
    os.read(sound.reader, 10)
    broken.error = ValueError("broken")
    rough.loop.defer(broken)
    rough.loop.defer(sound)
    rough.turn()
    assert broken.failures == [broken.error]
    assert sound.laters == 1
    assert rough.loop.failures == 1


def test_a_time_out_that_raises_is_contained_and_the_others_fire(rough: Net) -> None:
    class Late(Timed):
        def timed_out(self, now: float) -> None:
            fired.append(now)
            raise ValueError("broken")

    fired: list[float] = []
    rough.loop.arm(Late(), 0.0)
    rough.loop.arm(Late(), 0.0)
    rough.elapse(1.0)
    assert len(fired) == 2
    assert rough.loop.wheel.failures == 2


def test_deferred_work_runs_when_the_batch_is_over_also_what_it_defers(net: Net, pipe: Pipes) -> None:
    order: list[str] = []

    class First(Pipe):
        def ready(self, events: int) -> None:
            order.append("ready")
            net.loop.defer(self)

        def later(self) -> None:
            order.append("later")

    first, second = First(net), First(net)
    net.turn()
    assert order == ["ready", "ready", "later", "later"]
    first.close()
    second.close()
    again = pipe(net)
    os.read(again.reader, 10)
    again.defer_again = 3
    net.loop.defer(again)
    net.turn()
    assert again.laters == 4


def test_deferred_work_also_runs_after_a_tick(net: Net, pipe: Pipes) -> None:
    one = pipe(net)
    net.loop.defer(one)
    net.loop.tick()
    assert one.laters == 1


def test_a_tick_fires_the_deadlines_that_are_due(net: Net) -> None:
    class Late(Timed):
        def timed_out(self, now: float) -> None:
            fired.append(now)

    fired: list[float] = []
    net.loop.arm(Late(), 0.0)
    net.run_until(lambda: net.loop.tick() or fired)
    assert fired == [net.loop.now]


def test_every_decision_of_a_batch_sees_one_time(net: Net, pipe: Pipes) -> None:
    class Slow(Pipe):
        def ready(self, events: int) -> None:
            super().ready(events)
            time.sleep(0.01)

    many = [Slow(net) for _ in range(3)]
    before = net.loop.now
    net.turn()
    assert len({one.times[0] for one in many}) == 1
    assert many[0].times[0] >= before
    net.turn()
    assert many[0].times[1] > many[0].times[0]
    for one in many:
        one.close()


def test_an_event_of_a_descriptor_closed_earlier_in_the_batch_is_dropped(net: Net, pipe: Pipes) -> None:
    first, second = pipe(net), pipe(net)
    first.others, second.others = [second], [first]
    net.turn()
    assert len(first.heard) + len(second.heard) == 1


def test_an_event_of_a_closed_descriptor_is_not_told_to_who_got_its_number(net: Net, pipe: Pipes) -> None:
    """An event was collected for a descriptor that is closed and reused within the same batch."""
    old = pipe(net)
    number = old.reader
    heard: list[int] = []

    class Fresh(Handler):
        def ready(self, events: int) -> None:
            heard.append(events)

    class Replacing(Handler):
        def ready(self, events: int) -> None:
            old.close()
            os.dup2(near.fileno(), number)
            net.loop.add(number, fresh, READ)

    near, _ = net.pair()
    fresh, replacing = Fresh(), Replacing()
    trigger, _ = net.pair()
    net.loop.add(trigger.fileno(), replacing, WRITE)
    net.loop.dispatch([(trigger.fileno(), WRITE), (number, HANGUP | ERROR)])
    assert heard == []
    net.loop.remove(trigger.fileno(), False)
    net.loop.dispatch([(number, READ)])  # of its own it hears from the next batch on
    assert heard == [READ]
    net.loop.remove(number, True)
    os.close(number)
    near.close()
    trigger.close()


class Counting:
    """An epoll set that counts how often it is asked to unregister."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.unregistered = 0

    def register(self, fd: int, events: int) -> None:
        self.epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self.epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        self.unregistered += 1
        self.epoll.unregister(fd)


@pytest.mark.parametrize(
    ("forgets_closed", "closing", "calls"), [(True, True, 0), (True, False, 1), (False, True, 1)]
)
def test_closing_saves_the_system_call_where_the_set_forgets_what_is_closed(
    forgets_closed: bool, closing: bool, calls: int
) -> None:
    poller: Any = Counting()
    loop = Loop(poller, forgets_closed)
    near, far = socket.socketpair()
    loop.add(near.fileno(), Handler(), READ)
    loop.remove(near.fileno(), closing)
    loop.remove(near.fileno(), closing)  # once is enough
    assert poller.unregistered == calls
    assert loop.handlers == {}
    near.close()
    far.close()
    poller.epoll.close()
