"""`txlb.core.health`: the machine row by row, and what holds whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from txlb.core import health as h
from txlb.core.health import DOUBTED, HEALTHY, QUICK, RECOVERING, SHORT, UNHEALTHY, Health

NOW = 1000.0


def make(
    interval: float = 5.0, timeout: float = 2.0, rise: int = 2, fall: int = 3, phase: float = 0.5
) -> Health:
    return Health("b", interval, timeout, rise, fall, NOW, phase)


def probe(it: Health, reason: str = "", took: float = 0.01) -> bool:
    """One probe at its time."""
    at = it.due
    it.begin(at)
    return it.finish(at + took, reason, 0.5)


def after(*reasons: str, **numbers: float) -> Health:
    it = make(**numbers)  # type: ignore[arg-type]
    for reason in reasons:
        probe(it, reason)
    return it


def test_it_starts_healthy_and_the_first_probe_is_within_a_second() -> None:
    assert make().is_healthy()
    assert (make(phase=0.0).due, make(phase=1.0).due) == (NOW, NOW + 1.0)
    assert make(interval=0.3, phase=1.0).due == NOW + 0.3


STEPS = {
    # what came before: (state, what comes, state then)
    (): [("", HEALTHY), ("no", DOUBTED), ("suspected", DOUBTED)],
    ("no",): [("", HEALTHY), ("no", DOUBTED), ("suspected", DOUBTED)],
    ("no", "no"): [("", HEALTHY), ("no", UNHEALTHY), ("suspected", DOUBTED)],
    ("no", "no", "no"): [("", RECOVERING), ("no", UNHEALTHY), ("suspected", UNHEALTHY)],
    ("no", "no", "no", ""): [("", HEALTHY), ("no", UNHEALTHY), ("suspected", RECOVERING)],
    ("no", "no", "no", "", ""): [("", HEALTHY), ("no", DOUBTED), ("suspected", DOUBTED)],
}


@pytest.mark.parametrize("before", STEPS, ids=lambda it: ",".join(one or "good" for one in it) or "start")
def test_every_row_of_the_table(before: tuple[str, ...]) -> None:
    for event, expected in STEPS[before]:
        it = after(*before)
        if event == "suspected":
            it.suspect(it.due - 0.001)
        else:
            was = it.is_healthy()
            assert probe(it, event) == (it.is_healthy() != was)
        assert h.STATES[it.state] == h.STATES[expected], event


def test_the_table_is_whole() -> None:
    assert len(h.TABLE) == len(h.STATES)
    assert {len(row) for row in h.TABLE} == {len(h.EVENTS)}


def test_once_is_enough_where_rise_and_fall_are_one() -> None:
    it = make(rise=1, fall=1)
    assert probe(it, "no") and it.state == UNHEALTHY
    assert probe(it) and it.state == HEALTHY


def test_failures_and_successes_must_be_in_a_row() -> None:
    assert after("no", "no", "", "no", "no").state == DOUBTED
    assert after("no", "no", "no", "", "no", "").state == RECOVERING


def test_what_is_counted() -> None:
    it = after("no", "no", "", "no")
    assert (it.consecutive_failures, it.max_consecutive_failures, it.checks) == (1, 2, 4)
    assert it.last_reason == "no"
    assert it.last_check_at > it.last_success_at > NOW
    probe(it)
    assert (it.consecutive_failures, it.last_reason) == (0, "")
    assert it.last_success_at == it.last_check_at


def test_a_healthy_backend_is_probed_every_interval_give_or_take_the_jitter() -> None:
    it = after("", "")
    for fraction, pause in ((0.0, 4.5), (0.5, 5.0), (1.0, 5.5)):
        at = it.due
        it.begin(at)
        it.finish(at + 0.01, "", fraction)
        assert it.due - at == pytest.approx(pause)


def test_the_second_probe_spreads_what_began_within_a_second() -> None:
    first = [make(phase=step / 100) for step in range(100)]
    for step, it in enumerate(first):
        at = it.due
        it.begin(at)
        it.finish(at, "", (step * 37 % 100) / 100)
    times = sorted(it.due - NOW for it in first)
    assert times[0] > 0.4 and times[-1] > 4.5
    for low in range(1, 4):
        assert 10 < sum(low <= at < low + 1 for at in times) < 30


def test_in_doubt_the_next_probe_is_soon() -> None:
    for before in (("no",), ("no", "no", "no", "")):
        it = after(*before)
        assert it.due == pytest.approx(it.started_at + QUICK)
    it = after("no", interval=0.05)
    assert it.due == pytest.approx(it.started_at + 0.05)


def test_a_probe_that_took_longer_than_the_pause_is_followed_at_once() -> None:
    it = make()
    probe(it, "no", took=0.7)
    assert it.due == it.started_at + 0.7


def test_a_refusing_backend_is_out_within_a_quarter_of_a_second_of_the_first_failure() -> None:
    it = after("")
    first = it.due
    for _ in range(3):
        probe(it, "refused", took=0.0)
    assert it.state == UNHEALTHY
    assert it.last_check_at - first < 0.25


def test_a_hang_is_confirmed_within_half_a_second_of_the_suspicion() -> None:
    it = after("", "")
    at = it.last_check_at + 1.0
    assert it.suspect(at)
    assert it.due == at
    while it.is_healthy():
        it.begin(it.due)
        it.finish(it.due, "no answer", 0.5)
    assert it.last_check_at - at < 0.5
    assert it.consecutive_failures == 3


def test_a_suspicion_shortens_the_probe_that_runs() -> None:
    it = after("", "")
    it.begin(it.due)
    started = it.started_at
    assert it.due == started + 2.0
    assert it.suspect(started + 0.5)
    assert it.due == pytest.approx(started + 0.5 + SHORT)
    assert not it.suspect(started + 0.6)


def test_a_suspicion_alone_does_nothing() -> None:
    it = after("", "")
    for _ in range(1000):
        it.suspect(it.last_check_at + 0.2)
        assert not probe(it)
    assert (it.state, it.max_consecutive_failures) == (HEALTHY, 0)


def test_a_suspicion_counts_only_with_the_probe_after_it() -> None:
    it = after("")
    it.suspect(it.last_check_at + 1.0)
    probe(it)
    probe(it, "no")
    assert it.consecutive_failures == 1


def test_suspicions_cause_at_most_one_probe_per_quick() -> None:
    it = after("")
    probes = 0
    now = it.last_check_at
    for _ in range(1000):  # one per millisecond
        now += 0.001
        it.suspect(now)
        if it.due <= now:
            it.begin(now)
            it.finish(now, "", 0.5)
            probes += 1
    assert probes <= 10


def test_one_that_is_down_is_left_alone_by_suspicions() -> None:
    it = after("no", "no", "no", "no", "no", "no")
    due = it.due
    assert not it.suspect(due - 1.0)
    assert (it.due, it.suspected) == (due, False)


def test_patience_is_what_good_probes_take() -> None:
    it = make()
    for _ in range(5):
        probe(it, took=0.3)
    probe(it, "no")
    assert it.patience() == pytest.approx(1.2)
    slow = make()
    for _ in range(6):
        probe(slow, took=1.0)
    probe(slow, "no")
    assert slow.patience() == 2.0  # never more than the timeout
    quick = after("", "no")
    assert quick.patience() == SHORT
    short = after("", "no", timeout=0.1)
    assert short.patience() == 0.1
    assert after("").patience() == after("no", "no", "no").patience() == 2.0  # no doubt about those


def test_a_slow_phase_is_forgotten() -> None:
    it = make()
    for _ in range(6):
        probe(it, took=1.0)
    for _ in range(60):
        probe(it)
    probe(it, "no")
    assert it.patience() == SHORT


def test_one_late_answer_does_not_become_usual() -> None:
    it = after("", "")
    probe(it, took=1.9)
    probe(it, "no")
    assert it.patience() == SHORT
    first = make()
    probe(first, took=1.9)  # txlb and the backend may just have been started
    probe(first, "no")
    assert first.patience() == SHORT
    grown = after("", "")
    for _ in range(8):
        probe(grown, took=0.5)
    probe(grown, "no")
    assert grown.patience() == pytest.approx(2.0)  # it always takes so long, by now


def test_nothing_usual_is_learnt_while_it_is_down() -> None:
    it = after("", "no", "no", "no")
    probe(it, took=1.9)
    probe(it, took=1.9)
    assert it.state == HEALTHY
    probe(it, "no")
    assert it.patience() == SHORT


def test_pauses_double_after_the_fall() -> None:
    it = after("no", "no", "no")
    pauses = []
    for _ in range(9):
        pauses.append(round(it.due - it.started_at, 6))
        probe(it, "no", took=0.0)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_void_probe_says_nothing() -> None:
    it = after("no", "no")
    it.begin(it.due)
    it.void(it.due)
    assert (it.state, it.consecutive_failures, it.checks, it.probing) == (DOUBTED, 2, 2, False)
    assert it.due > it.started_at


def test_other_numbers_keep_what_was_observed() -> None:
    it = after("no", "no")
    it.configure(1.0, 0.5, 1, 3, it.due)
    assert it.consecutive_failures == 2
    assert probe(it, "no") and probe(it)
    it = after("", "", interval=100.0)
    it.configure(1.0, 0.5, 1, 3, NOW + 10.0)
    assert it.due <= NOW + 11.0


class Anything(RuleBasedStateMachine):
    """Probes, suspicions and new numbers in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.it = make()
        self.row: list[bool] = []  # results since the last change of verdict or kind
        self.verdict = True

    @precondition(lambda self: not self.it.probing)
    @rule()
    def begin(self) -> None:
        self.now = max(self.now, self.it.due)
        self.it.begin(self.now)

    @precondition(lambda self: self.it.probing)
    @rule(good=st.booleans(), share=st.floats(0, 1), fraction=st.floats(0, 1))
    def finish(self, good: bool, share: float, fraction: float) -> None:
        it = self.it
        suspected = it.suspected
        self.now = max(self.now, it.started_at + share * (it.due - it.started_at))
        before = it.is_healthy()
        changed = it.finish(self.now, "" if good else "no", fraction)
        if self.row and self.row[-1] != good:
            self.row.clear()
        self.row.append(good)
        assert changed == (it.is_healthy() != before)
        if changed and before:
            assert not good and len(self.row) + suspected >= 1
            assert it.consecutive_failures >= it.fall
            assert len(self.row) * 2 >= it.fall
        if changed and not before:
            assert good and len(self.row) >= it.rise

    @precondition(lambda self: self.it.probing)
    @rule()
    def void(self) -> None:
        self.it.void(self.now)

    @rule(later=st.floats(0, 1))
    def suspect(self, later: float) -> None:
        before = (self.it.is_healthy(), self.it.consecutive_failures)
        due = self.it.due
        if not self.it.probing:
            self.now = min(self.now + later, due)
        self.it.suspect(self.now)
        assert (self.it.is_healthy(), self.it.consecutive_failures) == before
        assert self.it.due <= due

    @rule(interval=st.floats(0.01, 60), rise=st.integers(1, 5), fall=st.integers(1, 5))
    def configure(self, interval: float, rise: int, fall: int) -> None:
        self.it.configure(interval, 2.0, rise, fall, self.now)

    @invariant()
    def something_is_always_due(self) -> None:
        it = self.it
        limit = it.timeout if it.probing else it.interval * (1 + h.JITTER) + QUICK
        assert it.due <= self.now + max(limit, 66.0 if not it.probing else 0.0) + 1e-6

    @invariant()
    def counts_agree(self) -> None:
        it = self.it
        assert it.max_consecutive_failures >= it.consecutive_failures
        assert not (it.consecutive_failures and it.consecutive_successes)
        assert bool(it.last_reason) == bool(it.consecutive_failures)
        assert it.state in (HEALTHY, DOUBTED, UNHEALTHY, RECOVERING)
        assert it.state != DOUBTED or it.consecutive_failures or it.suspected
        assert it.state != HEALTHY or not it.consecutive_failures


TestAnything = Anything.TestCase


@given(st.integers(1, 10), st.integers(1, 10))
def test_exactly_rise_and_fall(rise: int, fall: int) -> None:
    it = make(rise=rise, fall=fall)
    assert [probe(it, "no") for _ in range(fall)] == [False] * (fall - 1) + [True]
    assert [probe(it) for _ in range(rise)] == [False] * (rise - 1) + [True]
