"""Algorithms in running workers: options arrive, and workers that do not talk to each other agree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo

from txlb.core.algorithms import builtin_factories

Start = Callable[..., Balancer]
USERS = 24


def rules(algorithm: object) -> list[dict[str, object]]:
    return [{"id": "all", "backends": ["b0", "b1", "b2"], "algorithm": algorithm}]


def test_workers_agree_who_serves_a_user(start_balancer: Start) -> None:
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        algorithm = {"name": "consistent_hash", "hash_key": "header:X-User", "fallback": "LEAST_CONN"}
        balancer = start_balancer(
            [origin.port for origin in origins], workers=2, routing_rules=rules(algorithm)
        )
        for origin in origins:
            stack.enter_context(origin.serving(answering(echo)))
        rounds = 6
        for _ in range(rounds):
            for user in range(USERS):
                with balancer.connect() as client:
                    head = f"GET /{user} HTTP/1.1\nHost: a\nX-User: {user}"
                    assert client.ask(head).status == 200
        lines = balancer.logged(rounds * USERS)
        served = {(line["target"], line["backend"]) for line in lines}
        assert len({line["worker"] for line in lines}) == 2
        assert len(served) == USERS
        assert {backend for _, backend in served} == {"b0", "b1", "b2"}
        balancer.stop()


@pytest.mark.parametrize("name", sorted(builtin_factories()))
def test_every_algorithm_serves(name: str, start_balancer: Start) -> None:
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        balancer = start_balancer([origin.port for origin in origins], routing_rules=rules(name))
        for origin in origins:
            stack.enter_context(origin.serving(answering(echo)))
        with balancer.connect() as client:
            for _ in range(60):
                assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        used = {line["backend"] for line in balancer.logged(60)}
        assert len(used) == (1 if name in ("ip_hash", "consistent_hash") else 3)
        balancer.stop()
