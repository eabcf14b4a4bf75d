"""`txlb.net.reactor_time` under every kind of reactor, with a clock that is set while time goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import LoopingCall

from txlb.net.loop_reactor import LoopReactor
from txlb.net.reactor_time import use_monotonic_time


class Clocks:
    """The time of day, which may be set, and the other one."""

    def __init__(self, monotonic: float) -> None:
        self.wall = 1_700_000_000.0
        self.monotonic = monotonic

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture(params=[1000.0, 1_900_000_000.0], ids=["up since lately", "clock far behind"])
def clocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks(request.param)
    monkeypatch.setattr(ReactorBase, "seconds", staticmethod(lambda: clocks.wall))
    monkeypatch.setattr("txlb.net.reactor_time.time", SimpleNamespace(monotonic=lambda: clocks.monotonic))
    monkeypatch.setattr(LoopReactor, "seconds", staticmethod(lambda: clocks.monotonic))
    return clocks


@pytest.fixture(params=[EPollReactor, PollReactor, SelectReactor, LoopReactor])
def reactor(request: pytest.FixtureRequest, clocks: Clocks) -> Iterator[Any]:
    reactor = request.param()
    yield reactor
    reactor.waker.connectionLost(None)
    if isinstance(reactor, EPollReactor):
        reactor._poller.close()


def run(reactor: Any, clocks: Clocks, seconds: float) -> None:
    """Let it go through this time in small steps."""
    for _ in range(round(seconds * 10)):
        clocks.advance(0.1)
        reactor.runUntilCurrent()


def test_it_goes_on_when_the_clock_is_set_back(reactor: Any, clocks: Clocks) -> None:
    use_monotonic_time(reactor)
    assert reactor.seconds() == clocks.monotonic
    called: list[str] = []
    looping = LoopingCall(called.append, "tick")
    looping.clock = reactor
    looping.start(1.0, now=False)
    moved = reactor.callLater(50.0, called.append, "moved")
    clocks.wall -= 3600.0
    assert reactor.timeout() == pytest.approx(1.0, abs=0.01)
    moved.reset(2.05)
    run(reactor, clocks, 2.5)
    assert called == ["tick", "tick", "moved"]
    assert reactor.timeout() == pytest.approx(0.5, abs=0.01)
    looping.stop()


def test_what_was_scheduled_before_comes_when_it_would_have(reactor: Any, clocks: Clocks) -> None:
    called: list[str] = []
    calls = {name: reactor.callLater(at, called.append, name) for name, at in [("c", 3), ("a", 1), ("b", 2)]}
    gone = reactor.callLater(0.5, called.append, "gone")
    reactor.timeout()  # they are in its heap
    gone.cancel()
    reactor.callLater(1.5, called.append, "new")
    delayed = reactor.callLater(0.2, called.append, "delayed")
    delayed.reset(4.0)
    late = reactor.callLater(0.1, called.append, "late")
    clocks.advance(0.5)
    use_monotonic_time(reactor)
    clocks.wall -= 3600.0
    assert late.active() and calls["a"].getTime() == pytest.approx(clocks.monotonic + 0.5)
    reactor.runUntilCurrent()
    assert called == ["late"]
    run(reactor, clocks, 4.0)
    assert called == ["late", "a", "new", "b", "c", "delayed"]
    assert reactor.getDelayedCalls() == []


def test_twice_is_once(reactor: Any, clocks: Clocks) -> None:
    call = reactor.callLater(1.0, lambda: None)
    use_monotonic_time(reactor)
    due = call.getTime()
    use_monotonic_time(reactor)
    assert call.getTime() == pytest.approx(due) == pytest.approx(clocks.monotonic + 1.0)
    call.cancel()


def test_a_worker_s_reactor_does_so_by_itself() -> None:
    assert LoopReactor.seconds is time.monotonic
