"""`txlb.control.health` under a clock of the test's: when it wakes up, and what it does then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from support import own_probes
from twisted.internet.task import Clock

from txlb.control.health import BATCH, LINES, SLICE, TICK, HealthChecks
from txlb.core.agenda import AHEAD, SLOT
from txlb.core.model import BackendSpec, ListenerSpec, OwnCheckSpec, RuleSpec, Snapshot
from txlb.net.loop import Handler
from txlb.net.scheduling import GROUP

OWN = OwnCheckSpec("support.own_probes:Scripted", None, 5.0, 2.0, 2, 3)
STEP = 0.00097  # no moment of the checks is a whole number of them
RARELY = replace(OWN, interval=3600.0)
OFF = OwnCheckSpec("off")


def spec(id: str, check: OwnCheckSpec = OWN) -> BackendSpec:
    return BackendSpec(id, "127.0.0.1", 80, address="127.0.0.1", health_check=check)


class Simulated:
    """Health checks of `own_probes.Scripted` under a clock of the test's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.verdicts: list[tuple[str, bool]] = []
        self.awake: list[float] = []  # when the clock was read
        self.cost = 0.0  # seconds that pass while it is
        self.passed = 0.0
        chance = Random(7)
        self.checks = HealthChecks(
            self.clock, lambda *verdict: self.verdicts.append(verdict), self.now, chance.random
        )
        self.clock.addReader = self.clock.removeReader = lambda _: None  # type: ignore[attr-defined]
        self.checks.start()
        self.asked = own_probes.ASKED
        self.asked.clear()
        own_probes.ANSWERS.clear()

    def now(self) -> float:
        if self.awake[-1:] != [self.clock.seconds()]:
            self.awake.append(self.clock.seconds())
        self.passed += self.cost
        return self.clock.seconds() + self.passed

    def apply(self, count: int, check: OwnCheckSpec = OWN, **settings: Any) -> None:
        self.checks.apply(Snapshot(backends=tuple(spec(f"b{n}", check) for n in range(count)), **settings))

    def run(self, seconds: float) -> list[float]:
        """When probes began, to the millisecond."""
        begun = []
        self.awake.clear()
        for _ in range(round(seconds / STEP)):
            before = len(self.asked)
            self.clock.advance(STEP)
            begun += [self.clock.seconds()] * (len(self.asked) - before)
        return begun

    def tick(self, seconds: float) -> list[int]:
        """How many probes began in each tick."""
        counts = []
        for _ in range(round(seconds / TICK)):
            before = len(self.asked)
            self.clock.advance(TICK)
            counts.append(len(self.asked) - before)
        return counts


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    one = Simulated()
    yield one
    one.checks.stop()


def gaps(moments: list[float]) -> list[float]:
    return [later - sooner for sooner, later in pairwise(moments)]


def test_while_nothing_is_due_nothing_wakes_up(simulated: Simulated) -> None:
    simulated.apply(1, OFF)
    simulated.run(10.0)
    assert simulated.awake == []
    simulated.apply(1, RARELY)
    simulated.run(2.0)
    simulated.run(100.0)
    assert len(simulated.awake) <= 100.0 / (AHEAD * SLOT) + 1


def test_while_nothing_is_due_the_loop_ticks_once_a_second(simulated: Simulated) -> None:
    simulated.run(1.5)
    [tick] = simulated.clock.getDelayedCalls()
    assert tick.getTime() - simulated.clock.seconds() == pytest.approx(0.5, abs=0.01)


class Late(Handler):
    """Something on the loop of the probes whose deadline is over, or that is deferred."""

    def __init__(self, simulated: Simulated) -> None:
        super().__init__()
        hosted = simulated.checks._hosted
        assert hosted is not None
        self.loop = hosted.loop
        self.times = 0

    def timed_out(self, now: float) -> None:
        self.loop.defer(self)

    def later(self) -> None:
        self.times += 1


def test_a_turn_looks_at_the_deadlines_of_the_loop(simulated: Simulated) -> None:
    late = Late(simulated)
    simulated.apply(1000)
    simulated.tick(1.1)
    late.loop.wheel.current -= 10  # as if it had not been looked at for a second
    late.loop.wheel.arm(late, 1.0)
    simulated.clock.advance(TICK)
    assert late.times == 1


@pytest.mark.parametrize("deed", ["apply", "suspect", "stop"])
def test_what_the_loop_defers_does_not_wait_for_a_tick(simulated: Simulated, deed: str) -> None:
    late = Late(simulated)
    late.loop.defer(late)
    {
        "apply": lambda: simulated.apply(1),
        "suspect": lambda: simulated.checks.suspect([]),
        "stop": simulated.checks.stop,
    }[deed]()
    assert late.times == 1


def test_few_backends_wake_it_up_for_their_probes_only(simulated: Simulated) -> None:
    simulated.apply(4)
    simulated.run(10.0)
    begun = simulated.run(50.0)
    assert 36 <= len(begun) <= 46
    assert len(simulated.awake) < 1.5 * len(begun)


def test_many_backends_have_a_turn_every_tick(simulated: Simulated) -> None:
    simulated.apply(1000)
    simulated.run(10.0)
    simulated.run(2.0)
    assert len(simulated.awake) == pytest.approx(100, abs=1)
    simulated.clock.advance(simulated.awake[-1] + TICK - simulated.clock.seconds() + 0.007)
    turns = simulated.awake[-1]
    simulated.clock.advance(0.012)
    assert simulated.awake[-1] == turns
    simulated.clock.advance(0.003)  # the one that was late did not put it off
    assert simulated.awake[-1] > turns


def test_who_gives_way_pauses_between_groups(simulated: Simulated) -> None:
    simulated.apply(3 * GROUP + 2)
    at: list[int] = []
    simulated.checks._pause = lambda: at.append(len(simulated.asked))
    for checked in simulated.checks._rounds.checked.values():
        checked.health.due = simulated.clock.seconds()
        simulated.checks._rounds.put(checked.health)
    simulated.clock.advance(TICK)
    assert at == [GROUP, 2 * GROUP, 3 * GROUP]
    assert len(simulated.asked) == 3 * GROUP + 2


def test_what_is_suspected_is_probed_at_once_but_not_in_more_turns(simulated: Simulated) -> None:
    simulated.apply(50, RARELY)
    simulated.run(2.0)
    begun: list[float] = []
    for number in range(50):
        simulated.checks.suspect([f"b{number}"])
        simulated.clock.advance(0.0)
        if not number:
            assert simulated.asked[50:] == ["b0"]
            begun.append(simulated.clock.seconds())
        begun += simulated.run(0.005)
    begun += simulated.run(TICK)
    assert len(begun) == 50
    assert min(gap for gap in gaps(begun) if gap) == pytest.approx(TICK, abs=2 * STEP)


def test_the_end_of_a_probe_is_in_time(simulated: Simulated) -> None:
    own_probes.ANSWERS["b0"] = "hang"
    simulated.apply(1, RARELY)
    begun = simulated.run(1.0)[0]
    simulated.clock.advance(begun + 1.999 - simulated.clock.seconds())
    assert simulated.checks.view("b0").last_reason is None
    simulated.clock.advance(0.002)
    assert simulated.checks.view("b0").last_reason == "not done within 2000 ms"


def test_a_suspicion_ends_a_probe_sooner_and_in_time(simulated: Simulated) -> None:
    own_probes.ANSWERS["b0"] = "hang"
    simulated.apply(1, RARELY)
    simulated.run(1.0)
    simulated.clock.advance(0.0)
    simulated.checks.suspect(["b0"])
    simulated.run(0.195)
    assert simulated.checks.view("b0").last_reason is None
    simulated.run(0.007)
    assert simulated.checks.view("b0").last_reason is not None


def test_in_doubt_each_probe_is_in_time(simulated: Simulated) -> None:
    own_probes.ANSWERS["b0"] = "no"
    simulated.apply(1, replace(OWN, fall=1000))
    begun = simulated.run(5.0)
    assert len(begun) > 35
    assert gaps(begun) == pytest.approx([0.1] * (len(begun) - 1), abs=2 * STEP)


def test_others_numbers_hasten_the_next_probe(simulated: Simulated) -> None:
    simulated.apply(1, RARELY)
    simulated.run(2.0)
    simulated.apply(1, replace(RARELY, interval=10.0))
    assert len(simulated.run(1.0)) == 1


def test_what_waits_for_another_begins_within_a_tick_of_its_end(simulated: Simulated) -> None:
    own_probes.ANSWERS.update(b0="hang", b1="hang")
    simulated.apply(2, replace(RARELY, timeout=60.0), health_check_concurrency=1)
    simulated.run(1.5)
    assert len(simulated.asked) == 1
    own_probes.HANGING[simulated.asked[0]].callback(None)
    simulated.run(TICK + STEP)
    assert set(simulated.asked) == {"b0", "b1"}


def test_the_log_hears_of_verdicts_within_a_tick(simulated: Simulated, lines: list[str]) -> None:
    own_probes.ANSWERS["b0"] = "hang"
    simulated.apply(1, replace(RARELY, fall=1))
    while not simulated.asked:
        simulated.run(STEP)
    own_probes.HANGING["b0"].errback(RuntimeError("no"))
    assert simulated.verdicts == [("b0", False)]
    simulated.run(TICK + STEP)
    assert "backend b0 is UNHEALTHY: no" in lines


def test_slices_of_taking_over_are_a_tick_apart(simulated: Simulated) -> None:
    simulated.cost = SLICE
    simulated.apply(1000, OFF)
    taken = [len(simulated.checks._rounds.checked)]
    while taken[-1] < 1000:
        simulated.clock.advance(TICK)
        taken.append(len(simulated.checks._rounds.checked))
    assert taken == sorted(set(taken))
    simulated.clock.advance(TICK)
    simulated.run(1.0)
    assert simulated.awake == []


def test_the_end_of_a_probe_brings_the_next_one_forward(simulated: Simulated) -> None:
    own_probes.ANSWERS["b0"] = "hang"
    simulated.apply(1, replace(OWN, timeout=60.0))
    simulated.run(2.0)
    own_probes.HANGING["b0"].callback(None)
    assert len(simulated.run(6.0)) == 1


@pytest.mark.parametrize("where", ["outside", "in a turn's verdict", "in a verdict between turns"])
def test_nothing_is_left_of_it(simulated: Simulated, where: str) -> None:
    simulated.apply(3, replace(RARELY, fall=1))
    simulated.run(2.0)
    if where == "outside":
        simulated.checks.stop()
    else:
        own_probes.ANSWERS["b0"] = "hang" if "between" in where else "no"
        simulated.checks._on_verdict = lambda *_: simulated.checks.stop()
        simulated.checks.suspect(["b0"])
        simulated.clock.advance(0.0)
        if "between" in where:
            own_probes.HANGING["b0"].errback(RuntimeError("no"))
    assert simulated.clock.getDelayedCalls() == []


def test_a_thousand_backends_are_spread_over_the_interval(simulated: Simulated) -> None:
    simulated.apply(1000)
    first = simulated.tick(1.1)
    assert set(simulated.asked) == {f"b{n}" for n in range(1000)}  # all of them, within a second
    assert max(first) < 60
    simulated.tick(28.9)
    begun = len(simulated.asked)
    per_tick = simulated.tick(10.0)  # 4 are due per tick
    assert len(simulated.asked) - begun == pytest.approx(2000, rel=0.05)
    assert max(per_tick) <= 16
    assert sum(one == 0 for one in per_tick) < len(per_tick) / 10
    assert simulated.verdicts == []


def test_ten_thousand_are_taken_over_in_slices_and_begun_in_batches(simulated: Simulated) -> None:
    steady = replace(OWN, interval=0.001)
    simulated.apply(10_000, steady)
    counts = simulated.tick(2.0)
    assert max(counts) == BATCH
    assert len(set(simulated.asked)) == 10_000
    simulated.checks.apply(Snapshot())
    simulated.tick(1.0)
    assert sum(simulated.tick(1.0)) == 0


def test_of_many_only_those_that_changed_are_looked_at(simulated: Simulated) -> None:
    specs = [spec(f"b{n}") for n in range(20)]
    udp = ListenerSpec("u", ("127.0.0.1:1",), "udp")
    rule = RuleSpec("r", ("b5",), ("u",))
    simulated.checks.apply(Snapshot(backends=tuple(specs), listeners=(udp,)))
    simulated.tick(2.0)
    after = [
        *specs[:3],
        replace(specs[3], health_check=OwnCheckSpec("off")),
        *specs[5:],
        spec("new"),
    ]
    changed = Snapshot(backends=tuple(after), listeners=(udp,), rules=(rule,))
    now = (changed.health_check, {"b5"}, set[str]())
    taken = simulated.checks._taken
    assert [one.id for one in simulated.checks._others(changed, taken, now)] == ["b3", "b5", "new"]
    simulated.checks.apply(changed)
    simulated.asked.clear()
    simulated.tick(12.0)
    assert set(simulated.asked) == {one.id for one in after} - {"b3"}
    everything = replace(changed, health_check=replace(changed.health_check, interval=9.0))
    now = (everything.health_check, {"b5"}, set())
    assert simulated.checks._others(everything, simulated.checks._taken, now) is everything.backends


def test_many_verdicts_are_few_lines(simulated: Simulated, lines: list[str]) -> None:
    own_probes.ANSWERS.update({f"b{n}": "no" for n in range(150)})
    simulated.apply(150, replace(OWN, interval=0.001, fall=1))
    simulated.tick(0.1)
    assert len(simulated.verdicts) == 150
    told = [line for line in lines if "UNHEALTHY" in line]
    assert len(told) <= 5 * (LINES + 1)
    assert any(re.fullmatch(r"and \d+ more backends are UNHEALTHY, 0 more HEALTHY", line) for line in told)


def test_one_of_ones_own_has_its_time(simulated: Simulated) -> None:
    own_probes.ANSWERS["b0"] = "hang"
    simulated.apply(1)
    simulated.tick(1.0 + 2.0 + 2 * 0.3)
    assert simulated.verdicts == [("b0", False)]
    assert simulated.checks.view("b0").last_reason == "not done within 200 ms"
    own_probes.ANSWERS["b0"] = None
    simulated.tick(5.0)
    assert simulated.verdicts == [("b0", False), ("b0", True)]


def test_a_turn_that_fails_is_not_the_last(simulated: Simulated, logged_failures: list[Any]) -> None:
    simulated.apply(1)
    simulated.checks._rounds.checked["b0"].probe = None  # as no code of ours would
    simulated.tick(1.2)
    assert logged_failures
    logged_failures.clear()
    simulated.apply(2)
    simulated.tick(1.2)
    assert "b1" in simulated.asked
