from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txlb.net.timers import TICK, Timed, TimerWheel

START = 1000.0


class Recording(Timed):
    """Writes down when it fires, and re-arms itself if told to."""

    def __init__(self, wheel: TimerWheel | None = None, again: float = 0.0) -> None:
        super().__init__()
        self.wheel = wheel
        self.again = again
        self.fired: list[float] = []
        self.deadline_seen = -1.0

    def timed_out(self, now: float) -> None:
        self.fired.append(now)
        self.deadline_seen = self.deadline
        if self.wheel is not None and self.again:
            self.wheel.arm(self, now + self.again)


class Broken(Timed):
    def timed_out(self, now: float) -> None:
        raise ValueError("broken")


def run(wheel: TimerWheel, start: float, stop: float, step: float = 0.05) -> None:
    now = start
    while now < stop:
        now += step
        wheel.advance(now)


def test_a_deadline_fires_once_within_a_tick_and_never_early() -> None:
    wheel = TimerWheel(START)
    for seconds in (0.001, 0.05, 0.1, 0.1501, 1.0, 7.77):
        timed = Recording()
        wheel = TimerWheel(START)
        wheel.arm(timed, START + seconds)
        run(wheel, START, START + seconds + 1.0, 0.01)
        assert len(timed.fired) == 1
        assert START + seconds <= timed.fired[0] <= START + seconds + TICK + 0.011


def test_the_deadline_is_cleared_before_the_handler_runs() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START + 0.5)
    wheel.advance(START + 1.0)
    assert timed.deadline_seen == 0.0
    assert timed.filed == 0


def test_a_cleared_deadline_does_not_fire() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START + 0.5)
    timed.deadline = 0.0
    assert wheel.advance(START + 5.0) == 0
    assert timed.fired == []
    wheel.arm(timed, START + 6.0)
    assert wheel.advance(START + 7.0) == 1


def test_moving_later_touches_no_structure_and_is_heeded() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START + 1.0)
    slots = {slot: set(entries) for slot, entries in wheel.slots.items()}
    for seconds in range(2, 1000):
        wheel.arm(timed, START + seconds)
    timed.deadline = START + 3.0  # an attribute store does as well
    assert wheel.slots == slots
    wheel.advance(START + 2.9)
    assert timed.fired == []
    wheel.advance(START + 3.2)
    assert timed.fired == [START + 3.2]


def test_moving_earlier_fires_in_time_and_only_once() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START + 60.0)
    wheel.arm(timed, START + 1.0)
    run(wheel, START, START + 1.2)
    assert len(timed.fired) == 1
    run(wheel, START + 1.2, START + 61.0)  # the old slot comes up
    assert len(timed.fired) == 1


def test_a_stale_entry_does_not_fire_what_was_armed_anew() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START + 5.0)
    wheel.arm(timed, START + 1.0)
    wheel.advance(START + 1.5)
    wheel.arm(timed, START + 30.0)
    wheel.advance(START + 6.0)
    assert len(timed.fired) == 1
    wheel.advance(START + 31.0)
    assert len(timed.fired) == 2


def test_a_handler_may_arm_itself_again() -> None:
    wheel = TimerWheel(START)
    timed = Recording(wheel, 1.0)
    wheel.arm(timed, START + 1.0)
    run(wheel, START, START + 5.9, 0.1)
    assert 4 <= len(timed.fired) <= 5
    for before, after in zip(timed.fired, timed.fired[1:], strict=False):
        assert after - before >= 1.0


def test_a_deadline_in_the_past_fires_with_the_next_advance() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START - 10.0)
    wheel.advance(START + TICK * 1.01)
    assert len(timed.fired) == 1


def test_an_exception_is_kept_and_the_others_still_fire() -> None:
    wheel = TimerWheel(START)
    before, after = Recording(), Recording()
    for timed in (before, Broken(), after):
        wheel.arm(timed, START + 0.5)
    assert wheel.advance(START + 1.0) == 3
    assert before.fired and after.fired
    assert wheel.failures == 1
    assert isinstance(wheel.last_failure, ValueError)


def test_emptied_slots_are_dropped() -> None:
    wheel = TimerWheel(START)
    for index in range(100):
        wheel.arm(Recording(), START + index * 0.3)
    wheel.advance(START + 100.0)
    assert wheel.slots == {}


AFTER = st.integers(0, 500).map(lambda hundredths: hundredths / 100.0)
WHO = st.integers(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), WHO, AFTER),
        st.tuples(st.just("later"), WHO, AFTER),
        st.tuples(st.just("clear"), WHO, AFTER),
        st.tuples(st.just("advance"), WHO, AFTER),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_wheel_agrees_with_a_list_of_deadlines(steps: list[tuple[str, int, float]]) -> None:
    now = START
    wheel = TimerWheel(now)
    timeds = [Recording() for _ in range(4)]
    due: dict[int, float] = {}
    for kind, who, seconds in [*steps, ("advance", 0, 10.0), ("advance", 0, 10.0)]:
        timed = timeds[who]
        if kind == "arm":
            wheel.arm(timed, now + seconds)
            due[who] = now + seconds
        elif kind == "later" and who in due:
            due[who] += seconds
            timed.deadline = due[who]
        elif kind == "clear":
            timed.deadline = 0.0
            due.pop(who, None)
        elif kind == "advance":
            now += seconds
            before = [len(one.fired) for one in timeds]
            wheel.advance(now)
            for index, one in enumerate(timeds):
                fired = len(one.fired) - before[index]
                assert fired <= 1
                if fired:
                    assert due.pop(index) <= now, "early"
                else:
                    assert due.get(index, now) >= now - TICK - 1e-6, "late"
    assert not due


def test_what_is_cancelled_is_not_kept_alive() -> None:
    wheel = TimerWheel(START)
    timed = Recording()
    wheel.arm(timed, START + 60.0)
    wheel.cancel(timed)
    assert not any(wheel.slots.values())
    assert wheel.advance(START + 100.0) == 0
    wheel.arm(timed, START + 101.0)
    assert wheel.advance(START + 102.0) == 1


def test_one_that_fires_may_cancel_another_of_its_slot() -> None:
    wheel = TimerWheel(START)
    both: list[Recording] = []

    class Cancelling(Recording):
        def timed_out(self, now: float) -> None:
            super().timed_out(now)
            for other in both:
                wheel.cancel(other)

    both += [Cancelling(), Cancelling()]
    for timed in both:
        wheel.arm(timed, START + 1.0)
    assert wheel.advance(START + 2.0) == 1


def test_one_whose_time_out_raises_is_ended_and_the_others_still_fire() -> None:
    wheel = TimerWheel(START)
    ended: list[BaseException] = []

    class Raising(Recording):
        def timed_out(self, now: float) -> None:
            raise ValueError("fault")

        def failed(self, why: BaseException) -> None:
            ended.append(why)

    other = Recording()
    for timed in (Raising(), other):
        wheel.arm(timed, START + 1.0)
    wheel.advance(START + 2.0)
    assert [str(why) for why in ended] == ["fault"]
    assert wheel.failures == 1
    assert len(other.fired) == 1
