"""`txlb.net.rounds`: what is due begins, what takes too long ends, results become health and times."""

from __future__ import annotations

from typing import Any

import pytest

from txlb.core import health_counts as results
from txlb.core.health import Health
from txlb.core.model import BackendSpec, HealthCheckSpec
from txlb.net.rounds import Checked, Prober, Rounds

CHECK = HealthCheckSpec(interval=5.0, timeout=2.0, rise=2, fall=3)


class Attempt:
    def __init__(self, key: Any) -> None:
        self.key = key
        self.expired: list[float] = []
        self.cancelled = 0

    def expire(self, seconds: float) -> None:
        self.expired.append(seconds)

    def cancel(self) -> None:
        self.cancelled += 1


class Manual(Prober):
    """Probes that the test ends."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[Attempt] = []
        self.fault: Exception | None = None

    def start(self, key: Any) -> Attempt:
        if self.fault is not None:
            raise self.fault
        self.attempts.append(Attempt(key))
        return self.attempts[-1]


class Scene:
    """Some backends, all due at once, under a clock of the test's."""

    def __init__(self, count: int = 1) -> None:
        self.now = 1000.0
        self.verdicts: list[tuple[str, str]] = []
        self.earlier: list[float] = []
        self.rounds = Rounds(
            lambda: self.now,
            lambda: 0.5,
            lambda checked, reason: self.verdicts.append((checked.spec.id, reason)),
            lambda due: self.earlier.append(due),
        )
        self.probers = [Manual() for _ in range(count)]
        for number, prober in enumerate(self.probers):
            spec = BackendSpec(f"b{number}", "127.0.0.1", 80)
            health = Health(spec.id, 5.0, 2.0, 2, 3, self.now, 0.0)
            self.rounds.checked[spec.id] = Checked(spec, CHECK, health, prober)
            self.rounds.waiting.put(health)

    def turn(self, seconds: float = 0.0, limit: int = 100, sockets: int = 100) -> list[int]:
        """How many probes each has had, some seconds later."""
        self.now += seconds
        self.due = self.rounds.turn(limit, sockets)
        return [len(prober.attempts) for prober in self.probers]

    def end(self, number: int, result: int = results.SUCCESS, reason: str = "") -> None:
        checked = self.rounds.checked[f"b{number}"]
        assert checked.attempt is self.probers[number].attempts[-1]
        self.rounds.probed(checked, result, reason)
        assert checked.attempt is None


def test_each_begins_when_it_is_due_and_again_an_interval_later() -> None:
    scene = Scene()
    assert scene.turn(0.004) == [1]
    assert scene.rounds.counts.lateness[3] == 1  # 2.5 to 5 ms
    assert scene.turn(1.0) == [1]
    scene.end(0)
    assert scene.rounds.counts.results[results.SUCCESS] == 1
    assert scene.turn(1.49) == [1]  # the first pause is a share of the interval
    assert scene.turn(0.02) == [2]


def test_no_more_at_once_than_allowed() -> None:
    scene = Scene(5)
    assert (sum(scene.turn(limit=2)), scene.due) == (2, 2)
    scene.rounds.sockets = 3
    assert (sum(scene.turn(sockets=4)), scene.due) == (3, 1)
    assert (sum(scene.turn(sockets=3)), scene.due) == (3, 0)
    assert (sum(scene.turn()), scene.due) == (5, 2)


def test_what_takes_too_long_is_told_so() -> None:
    scene = Scene()
    scene.turn()
    scene.turn(1.99)
    attempt = scene.probers[0].attempts[0]
    assert attempt.expired == []
    scene.turn(0.02)
    assert attempt.expired == [pytest.approx(2.0)]


def test_three_failures_and_two_successes_are_verdicts() -> None:
    scene = Scene()
    for number in range(1, 4):
        assert scene.turn(0.12) == [number]
        scene.end(0, results.STATUS, "status 500")
    assert scene.verdicts == [("b0", "status 500")]
    for number in range(4, 6):
        assert scene.turn(0.22) == [number]
        scene.end(0)
    assert scene.verdicts == [("b0", "status 500"), ("b0", "")]


def test_what_could_not_be_made_says_nothing() -> None:
    scene = Scene()
    scene.turn()
    scene.end(0, results.VOID, "cannot probe")
    assert scene.rounds.checked["b0"].health.checks == 0
    assert scene.turn(0.12) == [2]


def test_one_that_cannot_be_started_keeps_nobody_back() -> None:
    scene = Scene(3)
    scene.probers[1].fault = ValueError("a fault of ours")
    with pytest.raises(ValueError, match="of ours"):
        scene.turn()
    assert [len(one.attempts) for one in scene.probers] == [1, 0, 1]
    scene.probers[1].fault = None
    assert scene.turn(4.9)[1] == 0
    assert scene.turn(0.12)[1] == 1


def test_suspicion_hastens_the_next_probe() -> None:
    scene = Scene()
    scene.turn()
    scene.end(0)
    scene.now += 0.5
    scene.rounds.suspect(["b0", "unknown"])
    assert scene.turn() == [2]


def test_in_doubt_another_question_is_asked_at_once() -> None:
    scene = Scene()
    deep = Manual()
    checked = scene.rounds.checked["b0"]
    checked.deep = deep
    scene.turn()
    scene.rounds.suspect(["b0"])
    assert scene.probers[0].attempts[0].cancelled == 1
    scene.turn(0.1)
    assert len(deep.attempts) == 1


def test_who_is_forgotten_is_not_probed() -> None:
    scene = Scene(2)
    scene.rounds.forget(scene.rounds.checked["b0"])
    assert scene.turn() == [0, 1]
    scene.rounds.forget(scene.rounds.checked["b1"])
    assert scene.probers[1].attempts[0].cancelled == 1
    assert scene.turn(9.0) == [0, 1]


def test_what_comes_up_before_the_next_turn_is_told() -> None:
    scene = Scene(2)
    scene.rounds.planned = scene.now + 9.0  # the clock that wakes us up went wrong
    scene.turn()
    assert scene.earlier == []
    assert scene.rounds.next_due(scene.now) == scene.now + 2.0  # their time is over
    scene.rounds.planned = scene.now + 2.0
    scene.end(0)  # the next begins later than that
    assert scene.earlier == []
    scene.rounds.suspect(["b0"])
    assert scene.earlier == [scene.now + 0.1]
    scene.rounds.planned = scene.earlier.pop()
    assert scene.rounds.next_due(scene.now) == scene.rounds.planned
    scene.end(1, results.VOID)
    assert scene.earlier == []  # not earlier, just as early
    scene.turn(0.2)
    scene.rounds.planned = scene.now + 1.0
    scene.rounds.suspect(["b0", "b1"])  # under way: less patience
    assert scene.earlier == [pytest.approx(scene.now + 0.2)]
