from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.task import Clock

from txlb.net.slices import PAUSE, SECONDS, Slices


def work(clock: Clock, name: str, steps: int, done: list[str]) -> Iterator[None]:
    """Steps of a millisecond each."""
    for _ in range(steps):
        clock.rightNow += 0.001
        done.append(name)
        yield
    done.append(name.upper())


def test_what_fits_into_a_slice_is_done_at_once() -> None:
    clock = Clock()
    done: list[str] = []
    assert Slices(clock).start(work(clock, "a", 1, done)) is None
    assert done == ["a", "A"]
    assert clock.getDelayedCalls() == []


def test_the_rest_takes_turns() -> None:
    clock = Clock()
    done: list[str] = []
    slices = Slices(clock)
    slices.start(work(clock, "a", 9, done))
    assert len(done) <= SECONDS / 0.001 + 1
    slices.start(work(clock, "b", 3, done))
    assert "b" not in done, "the slice of this turn is used up"
    while clock.getDelayedCalls():
        before = len(done)
        clock.advance(PAUSE)
        assert len(done) - before <= SECONDS / 0.001 + 3
    assert done.index("B") < done.index("A"), "in turn"
    assert (done.count("a"), done.count("b")) == (9, 3)


def test_a_stopped_one_goes_no_further() -> None:
    clock = Clock()
    done: list[str] = []
    slices = Slices(clock)
    task = slices.start(work(clock, "a", 100, done))
    assert task is not None
    task.stop()
    clock.pump([PAUSE] * 10)
    assert "A" not in done
    slices.start(work(clock, "b", 100, done))
    slices.stop()
    assert clock.getDelayedCalls() == []
