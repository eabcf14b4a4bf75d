from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support.hosted_echo
from support.processes import child_environment, python

from txlb.net.loop import READ, Handler, Loop
from txlb.net.loop_reactor import LoopReactor


def test_everything_works_under_it_in_a_process_of_its_own() -> None:
    script = Path(support.hosted_echo.__file__)
    done = subprocess.run(
        python(str(script), "loop", "nested"),
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout == "fine\n", done.stderr


@pytest.fixture
def reactor() -> Iterator[LoopReactor]:
    reactor = LoopReactor()
    yield reactor
    reactor.detach()
    reactor.waker.connectionLost(None)
    reactor._poller.close()


class Pipe(Handler):
    """A pipe with a byte in it, on a loop or on a reactor."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.writer = os.pipe()
        os.write(self.writer, b"x")
        self.heard = 0

    def ready(self, events: int) -> None:
        self.heard += 1

    # as a reader of the reactor's

    def fileno(self) -> int:
        return self.reader

    def logPrefix(self) -> str:
        return "pipe"

    def doRead(self) -> None:
        self.heard += 1

    def connectionLost(self, reason: object) -> None:
        pass

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def test_one_wait_serves_the_planes_descriptors_and_the_reactors_own(reactor: LoopReactor) -> None:
    plane = select.epoll()
    loop = Loop(plane, True)
    inner, own = Pipe(), Pipe()
    loop.add(inner.reader, inner, READ)
    reactor.addReader(own)
    reactor.attach(loop, plane)
    reactor.doIteration(1.0)
    assert (inner.heard, own.heard) == (1, 1)
    reactor.removeReader(own)
    reactor.doIteration(0)
    assert (inner.heard, own.heard) == (2, 1)
    reactor.detach()
    assert list(loop.handlers) == [inner.reader]
    reactor.addReader(own)
    reactor.doIteration(1.0)  # an ordinary epoll reactor again
    assert (inner.heard, own.heard) == (2, 2)
    reactor.removeReader(own)
    for pipe in (inner, own):
        pipe.close()
    plane.close()


def test_without_a_loop_it_is_an_ordinary_reactor(reactor: LoopReactor) -> None:
    own = Pipe()
    reactor.addReader(own)
    reactor.doIteration(1.0)
    assert own.heard == 1
    reactor.removeReader(own)
    own.close()


def test_it_waits_no_longer_than_told(reactor: LoopReactor) -> None:
    plane = select.epoll()
    reactor.attach(Loop(plane, True), plane)
    reactor.doIteration(0.01)
    reactor.detach()
    reactor.detach()
    plane.close()


def test_an_exception_in_the_reactors_own_turn_does_not_end_the_loop(reactor: LoopReactor) -> None:
    plane = select.epoll()
    loop = Loop(plane, True)
    inner = Pipe()
    loop.add(inner.reader, inner, READ)
    reactor.attach(loop, plane)

    def broken(timeout: float) -> None:
        raise ValueError("broken")

    events = loop.handlers[reactor._poller.fileno()]
    events._turn = broken  # type: ignore[attr-defined]
    loop.dispatch([(reactor._poller.fileno(), READ), (inner.reader, READ)])
    assert inner.heard == 1 and loop.failures == 1
    reactor.detach()
    inner.close()
    plane.close()


def test_it_can_be_installed() -> None:
    script = (
        "from txlb.net.loop_reactor import LoopReactor, install; install();"
        "from twisted.internet import reactor; assert isinstance(reactor, LoopReactor); print('fine')"
    )
    done = subprocess.run(
        [*python("-c", script)], env=child_environment(), capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "fine\n", done.stderr


class Reader(Pipe):
    """Does something the third time."""

    def __init__(self, deed: Callable[[], object]) -> None:
        super().__init__()
        self.deed = deed

    def ready(self, events: int) -> None:
        super().ready(events)
        if self.heard == 3:
            self.deed()


@pytest.mark.parametrize("deed", ["callLater", "reset", "stop", "crash", "callFromThread", "detach"])
def test_batch_follows_batch_until_the_reactor_has_something_to_do(reactor: LoopReactor, deed: str) -> None:
    delayed = reactor.callLater(3600, lambda: None)
    reactor.runUntilCurrent()
    deeds: dict[str, Callable[[], object]] = {
        "callLater": lambda: reactor.callLater(0, lambda: None),
        "reset": lambda: delayed.reset(0),
        "stop": reactor.stop,
        "crash": reactor.crash,
        "callFromThread": lambda: reactor.callFromThread(lambda: None),
        "detach": reactor.detach,
    }
    reactor._started = reactor.running = True
    plane = select.epoll()
    loop = Loop(plane, True)
    inner = Reader(deeds[deed])
    loop.add(inner.reader, inner, READ)
    reactor.attach(loop, plane)
    reactor.doIteration(50.0)
    assert inner.heard == (4 if deed == "callFromThread" else 3)
    reactor.detach()
    plane.close()
    inner.close()


def test_it_comes_back_when_a_timed_call_is_due(reactor: LoopReactor) -> None:
    plane = select.epoll()
    loop = Loop(plane, True)
    inner = Pipe()
    loop.add(inner.reader, inner, READ)
    reactor.attach(loop, plane)
    reactor.doIteration(0.02)
    assert inner.heard > 1
    heard = inner.heard
    reactor.doIteration(0)
    assert inner.heard == heard + 1
    reactor.detach()
    plane.close()
    inner.close()
