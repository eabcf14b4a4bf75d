"""Algorithms in running workers: options arrive, and workers that do not talk to each other agree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo

from txlb.core.algorithms import builtin_factories

Start = Callable[..., Balancer]
USERS = 24
EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_algorithm.py"


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


def test_an_algorithm_of_ones_own_lies_beside_the_file(start_balancer: Start) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 20
    beside = {"custom_algorithm.py": source}
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        ports = [origin.port for origin in origins]
        balancer = start_balancer(
            ports, workers=2, beside=beside, routing_rules=rules("custom_algorithm:FillUp")
        )
        for origin in origins:
            stack.enter_context(origin.serving(answering(echo)))
        for _ in range(20):
            with balancer.connect() as client:
                assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        lines = balancer.logged(20)
        assert {line["backend"] for line in lines} == {"b0"}  # never more than one at a time
        assert len({line["worker"] for line in lines}) == 2
        balancer.stop()


BROKEN = """
class Broken:
    def rebuild(self, backends): pass
    def pick(self, context, tried): raise RuntimeError("out of ideas")
"""


def test_one_that_raises_costs_nobody_a_request_and_is_told_once(start_balancer: Start) -> None:
    beside = {"broken.py": BROKEN}
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin()) for _ in range(3)]
        ports = [origin.port for origin in origins]
        balancer = start_balancer(ports, beside=beside, routing_rules=rules("broken:Broken"))
        for origin in origins:
            stack.enter_context(origin.serving(answering(echo)))
        with balancer.connect() as client:
            for _ in range(12):
                assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        served = [line["backend"] for line in balancer.logged(12)]
        assert [served.count(name) for name in ("b0", "b1", "b2")] == [4, 4, 4]
        balancer.stop()
        assert balancer.program.output.count("out of ideas") == 1
