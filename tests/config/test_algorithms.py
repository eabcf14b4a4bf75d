from __future__ import annotations

import re

import pytest
from support.configuration import loaded, problems

from txlb.config.algorithms import OPTIONS, WORKING, parse_algorithm
from txlb.config.effective import effective
from txlb.config.load import loads
from txlb.core.algorithms import builtin_factories, factory_for
from txlb.core.model import AlgorithmSpec


@pytest.mark.parametrize("text", ["round_robin", "ROUND_ROBIN", "Round-Robin"])
def test_names_in_any_case(text: str) -> None:
    assert parse_algorithm(text) == "round_robin"


@pytest.mark.parametrize("text", ["least_connections", "LEAST_CONN", "Least-Conn", "LEAST_CONNECTIONS"])
def test_least_connections_has_a_short_name(text: str) -> None:
    assert parse_algorithm(text) == "least_connections"


def test_weighted_is_a_name_of_its_own() -> None:
    assert parse_algorithm("WEIGHTED") == "weighted"


@pytest.mark.parametrize("name", sorted(builtin_factories()))
def test_every_algorithm_there_is_can_be_chosen(name: str) -> None:
    assert name in WORKING
    assert parse_algorithm(name.upper()) == name


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


RULE = """\
    listeners: [{id: web, bind: "127.0.0.1:80"}]
    backends: [{id: web-1, host: 10.0.0.1, port: 80}]
    routing_rules: [{backends: [web-1], algorithm: %s}]
"""


def test_a_mapping_holds_options() -> None:
    assert problems(RULE % "{name: WEIGHTED, hash_key: null}") == []
    (line,) = problems(RULE % "{nmae: round_robin}")
    assert "routing_rules[0].algorithm.nmae: unknown key (did you mean name?)" in line
    (line,) = problems(RULE % "5")
    assert line.startswith("3:48: routing_rules[0].algorithm: must be the name of an algorithm, not 5")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("IP_HASH", AlgorithmSpec("ip_hash")),
        ("{name: ip_hash, ipv4_prefix: 24}", AlgorithmSpec("ip_hash", (("ipv4_prefix", 24),))),
        (
            "{name: Consistent-Hash, fallback: LEAST_CONN, hash_key: 'Header:X-User'}",
            AlgorithmSpec(
                "consistent_hash", (("hash_key", "header:x-user"), ("fallback", "least_connections"))
            ),
        ),
        (
            "{name: consistent_hash, ipv4_prefix: 16, ipv6_prefix: 48, hash_key: client_ip}",
            AlgorithmSpec(
                "consistent_hash", (("hash_key", "client_ip"), ("ipv4_prefix", 16), ("ipv6_prefix", 48))
            ),
        ),
        ("{name: random, fallback: null}", AlgorithmSpec("random")),
    ],
)
def test_options_reach_the_algorithm(text: str, spec: AlgorithmSpec) -> None:
    snapshot = loaded(RULE % text).snapshot
    assert snapshot.rules[0].algorithm == spec
    assert factory_for(spec)()
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            "{name: round_robin, hash_key: path}",
            "hash_key",
            "is an option of consistent_hash, not of round_robin",
        ),
        ("{name: ip_hash, hash_key: path}", "hash_key", "is an option of consistent_hash, not of ip_hash"),
        ("{hash_key: path}", "hash_key", "is an option of consistent_hash, not of round_robin"),
        (
            "{name: random, fallback: random}",
            "fallback",
            "is an option of ip_hash and consistent_hash, not of",
        ),
        (
            "{name: consistent_hash, hash_key: path, ipv4_prefix: 8}",
            "ipv4_prefix",
            "is for hash_key client_ip,",
        ),
        (
            "{name: consistent_hash, hash_key: colour}",
            "hash_key",
            "must be client_ip, header:NAME, cookie:NAME",
        ),
        ("{name: consistent_hash, hash_key: 'header:a b'}", "hash_key", "must be client_ip, header:NAME,"),
        ("{name: consistent_hash, hash_key: 7}", "hash_key", "must be client_ip, header:NAME"),
        ("{name: consistent_hash, fallback: consistent_hash}", "fallback", "needs a key too"),
        ("{name: consistent_hash, fallback: p2c}", "fallback", "did you mean power_of_two?"),
        ("{name: ip_hash, ipv4_prefix: 33}", "ipv4_prefix", "33 is out of range: from 1 to 32"),
        ("{name: ip_hash, ipv6_prefix: 0}", "ipv6_prefix", "0 is out of range: from 1 to 128"),
    ],
)
def test_options_that_make_no_sense_are_found_where_they_stand(text: str, place: str, message: str) -> None:
    (line,) = problems(RULE % text)
    column = 48 + text.index(place) + len(place) + 2  # of the value
    assert line.startswith(f"3:{column}: routing_rules[0].algorithm.{place}: ")
    assert message in line


def test_options_belong_to_algorithms_that_there_are() -> None:
    assert set(OPTIONS) <= set(WORKING)
