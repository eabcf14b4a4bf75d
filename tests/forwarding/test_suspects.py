from __future__ import annotations

import pytest
from support.dataplane import Stage, get, ok, stage

from txlb.core.backend import AVOID_SECONDS


def hang(here: Stage, after: float = 0.0) -> float:
    """b0 owes an answer, b1 gave one; when b0 was asked."""
    here.pool.rebuild()
    here.asked(here.client(), get("/hang"), origin=0)
    asked = here.net.loop.now
    here.asked(here.client(), get("/fine"), origin=1).send(ok(b"x"))
    here.net.run_until(lambda: here.pool.answered_at > asked)
    return asked


def test_a_backend_that_hangs_while_its_siblings_answer_is_told() -> None:
    with stage(backends=2) as here:
        suspects = here.sources.suspects
        asked = hang(here)
        suspects.look(asked + suspects.suspect_after - 0.05)
        assert suspects.take() == []
        suspects.look(asked + suspects.suspect_after + 0.05)
        assert suspects.take() == [("b0", "overdue")]
        suspects.look(asked + suspects.suspect_after + 0.15)
        assert suspects.take() == [], "told, and not again so soon"
        suspects.look(asked + 60.0)
        assert suspects.take() == [("b0", "overdue")]
        assert here.backends[0].avoid_until == 0.0, "that is for control to say"


def test_if_nobody_answers_nobody_is_suspect() -> None:
    with stage(backends=2) as here:
        here.asked(here.client(), get(), origin=0)
        here.asked(here.client(), get(), origin=1)
        here.sources.suspects.look(here.net.loop.now + 60.0)
        assert here.sources.suspects.take() == []


def test_the_limit_can_be_set() -> None:
    with stage(backends=2) as here:
        suspects = here.sources.suspects
        suspects.suspect_after = 5.0
        asked = hang(here)
        suspects.look(asked + 4.0)
        assert suspects.take() == []
        suspects.look(asked + 5.1)
        assert suspects.take() == [("b0", "overdue")]


def test_a_backend_may_have_its_own_limit() -> None:
    with stage(backends=2) as here:
        suspects = here.sources.suspects
        asked = hang(here)
        here.backends[0].suspect_after = 5.0
        suspects.look(asked + 4.0)
        assert suspects.take() == []
        suspects.look(asked + 5.1)
        assert suspects.take() == [("b0", "overdue")]


def test_only_who_was_asked_is_looked_at() -> None:
    with stage(backends=3) as here:
        suspects = here.sources.suspects
        asked = hang(here)
        assert [backend.watched for backend in here.backends] == [True, True, False]
        suspects.look(asked + 0.1)
        assert [backend.watched for backend in here.backends] == [True, False, False]
        here.origins[0].last.send(ok(b"late"))
        here.net.settle()
        suspects.look(asked + 0.2)
        assert [backend.watched for backend in here.backends] == [False, False, False]


def test_failures_are_told_once_a_tick() -> None:
    with stage(backends=2) as here:
        for _ in range(3):
            here.pool.rebuild()
            here.asked(here.client(), get(), origin=0).reset()
            here.net.settle()
            here.origins[1].last.send(ok(b"x"))
            here.net.settle()
        assert here.sources.suspects.take() == [("b0", "reset")]
        assert here.sources.suspects.take() == []
        assert here.backends[0].avoid_until == 0.0, "all by one client"


def test_a_refused_connect_is_told_and_avoided_at_once() -> None:
    with stage(backends=2) as here:
        here.origins[0].close()
        here.asked(here.client(), get(), origin=1).send(ok(b"x"))
        here.net.settle()
        assert here.sources.suspects.take() == [("b0", "connect_refused")]
        assert here.backends[0].avoid_until > here.net.loop.now


def test_a_close_on_an_idle_connection_is_no_failure() -> None:
    with stage() as here:
        backend = here.asked(here.client(), get())
        backend.send(ok(b"x"))
        here.net.settle()
        assert here.backend.idle == 1
        backend.reset()
        here.net.settle()
        assert here.backend.idle == 0
        assert (here.backend.errors, here.sources.suspects.take()) == (0, [])


def test_an_unhealthy_backend_is_not_told_again() -> None:
    with stage(backends=2) as here:
        asked = hang(here)
        here.backends[0].healthy = False
        here.sources.suspects.look(asked + 1.0)
        assert here.sources.suspects.take() == []


@pytest.mark.parametrize("clients", [1, 2])
def test_three_failures_in_a_row_of_two_clients_are_avoided_for_a_while(clients: int) -> None:
    with stage(backends=2) as here:
        now = here.net.loop.now
        for number in range(3):
            lease = here.pool.acquire(None, [here.backends[1]], now)
            assert lease is not None
            lease.release(4, now, f"10.0.0.{number % clients}")
        assert here.backends[0].avoid_until == (now + AVOID_SECONDS if clients == 2 else 0.0)
