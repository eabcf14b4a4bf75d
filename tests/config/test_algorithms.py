from __future__ import annotations

import re

import pytest
from support.configuration import problems

from txlb.config.algorithms import LATER, parse_algorithm


@pytest.mark.parametrize("text", ["round_robin", "ROUND_ROBIN", "Round-Robin"])
def test_names_in_any_case(text: str) -> None:
    assert parse_algorithm(text) == "round_robin"


@pytest.mark.parametrize("text", ["least_connections", "LEAST_CONN", "Least-Conn", "LEAST_CONNECTIONS"])
def test_least_connections_has_a_short_name(text: str) -> None:
    assert parse_algorithm(text) == "least_connections"


def test_weighted_is_a_name_of_its_own() -> None:
    assert parse_algorithm("WEIGHTED") == "weighted"


@pytest.mark.parametrize("text", [*LATER, "IP_HASH", "package.module:Class"])
def test_what_is_to_come_is_not_supported_yet(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text} is not supported yet")):
        parse_algorithm(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("roundrobin", "round_robin"),
        ("weihgted", "weighted"),
        ("leastconn", "least_connections"),
        ("source", "ip_hash"),
        ("maglev", "consistent_hash"),
    ],
)
def test_what_nobody_knows_gets_the_nearest(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"unknown algorithm '{text}' (did you mean {meant}?)")):
        parse_algorithm(text)


def test_a_mapping_holds_options() -> None:
    rule = """\
        listeners: [{id: web, bind: "127.0.0.1:80"}]
        backends: [{id: web-1, host: 10.0.0.1, port: 80}]
        routing_rules: [{backends: [web-1], algorithm: %s}]
    """
    assert problems(rule % "{name: WEIGHTED, hash_key: null}") == []
    (line,) = problems(rule % "{name: round_robin, hash_key: 'header:X'}")
    assert "algorithm.hash_key: is not supported yet" in line
    (line,) = problems(rule % "{nmae: round_robin}")
    assert "routing_rules[0].algorithm.nmae: unknown key (did you mean name?)" in line
    (line,) = problems(rule % "5")
    assert line.startswith("3:48: routing_rules[0].algorithm: must be the name of an algorithm, not 5")
