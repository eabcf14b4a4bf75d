"""Algorithms as people write them: their names and options.

Rules:

* Names are lower case; other case, ``-`` for ``_`` and the spellings of `OTHER` are
  understood on input, also where a plug-in is meant.
* A name that nobody knows gets the nearest that works.
* Options that an algorithm does not take are errors (`misplaced`); what is left out is
  left to the algorithm.
* Names that are not ours are looked up among plug-ins, dotted paths imported (`own_algorithms`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import PrivateAttr

from txlb.config import own_algorithms
from txlb.config.kinds import Kind, nullable, whole
from txlb.config.section import Section, key
from txlb.config.values import as_text, shown
from txlb.core.algorithms.hash_key import parse_hash_key
from txlb.extensions import DOTTED, algorithm_names

WORKING = (
    "round_robin",
    "weighted",
    "least_connections",
    "ip_hash",
    "consistent_hash",
    "random",
    "power_of_two",
    "peak_ewma",
)
OPTIONS = {  # who takes which
    "ip_hash": ("ipv4_prefix", "ipv6_prefix", "fallback"),
    "consistent_hash": ("hash_key", "ipv4_prefix", "ipv6_prefix", "fallback"),
}
OTHER = {"least_conn": "least_connections"}
ELSEWHERE = {  # names from HAProxy, nginx and Envoy
    "roundrobin": "round_robin",
    "static_rr": "round_robin",
    "wrr": "round_robin",
    "leastconn": "least_connections",
    "least_request": "least_connections",
    "source": "ip_hash",
    "hash": "consistent_hash",
    "ring_hash": "consistent_hash",
    "maglev": "consistent_hash",
    "p2c": "power_of_two",
    "ewma": "peak_ewma",
}


def parse_algorithm(value: object) -> str:
    text = as_text(value, "the name of an algorithm")
    name = text.lower().replace("-", "_")
    name = OTHER.get(name, name)
    if name in WORKING:
        return name
    if len(text) <= 200 and DOTTED.fullmatch(text):
        return text
    offered = algorithm_names()
    for spelling in (text, name):
        if spelling in offered:
            return spelling
    near = ELSEWHERE.get(name)
    if near is None and len(name) < 40:
        known = (*WORKING, *offered)
        near = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)
    hint = f" (did you mean {near}?)" if near else ""
    raise ValueError(f"unknown algorithm {shown(text)}{hint}")


def parse_fallback(value: object) -> str:
    name = parse_algorithm(value)
    if name == "consistent_hash":
        raise ValueError("consistent_hash needs a key too: write another algorithm")
    if name not in WORKING:
        raise ValueError(f"must be one of txlb's own algorithms, not {shown(name)}")
    return name


def _hash_key(value: object) -> str:
    return parse_hash_key(as_text(value, "client_ip, header:NAME, cookie:NAME or path"))


OWN = {  # a mapping with an algorithm of the operator's own
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "not": {"enum": list(WORKING)}}},
}
NAME = Kind("name", parse_algorithm, {"type": "string", "examples": list(WORKING)})
FALLBACK = Kind("name", parse_fallback, NAME.schema)
HASH_KEY = Kind(
    "`client_ip`, `header:NAME`, `cookie:NAME` or `path`",
    _hash_key,
    {"type": "string", "examples": ["client_ip", "path", "header:X-User", "cookie:session"]},
)


class Algorithm(Section):
    """How one of a rule's backends is chosen: a name, or a mapping with the name and its options."""

    name: Annotated[str, NAME] = key(
        "round_robin",
        f"One of {', '.join(f'`{name}`' for name in WORKING)}; a plug-in's name; or `package.module:Class`.",
        "round_robin",
    )
    hash_key: Annotated[str | None, nullable(HASH_KEY)] = key(
        None,
        "For `consistent_hash`: what is hashed, so that the same goes to the same backend. Left out:"
        " `client_ip`.",
        "header:X-User",
    )
    ipv4_prefix: Annotated[int | None, nullable(whole(1, 32))] = key(
        None,
        "For `ip_hash`, and `consistent_hash` by `client_ip`: IPv4 addresses with so many bits in common are"
        " one client. Left out: 32.",
    )
    ipv6_prefix: Annotated[int | None, nullable(whole(1, 128))] = key(
        None, "The same for IPv6. Left out: 64, what one household gets."
    )
    fallback: Annotated[str | None, nullable(FALLBACK)] = key(
        None,
        "For `consistent_hash` and `ip_hash`: the algorithm where the key is missing. Left out:"
        " `round_robin`.",
        "least_connections",
    )

    _own: own_algorithms.Options | None = PrivateAttr(None)  # None: one of txlb's
    _own_problems: own_algorithms.Problems = PrivateAttr(default_factory=list)

    def options(self) -> tuple[tuple[str, Any], ...]:
        """What was not left out."""
        if self._own is not None:
            return self._own
        values = ((name, getattr(self, name)) for name in type(self).model_fields if name != "name")
        return tuple((name, value) for name, value in values if value is not None)


def misplaced(algorithm: Algorithm) -> Iterator[tuple[str, str]]:
    """Options that make no sense, and why."""
    if algorithm._own is not None:
        yield from algorithm._own_problems
        return
    for name, _ in algorithm.options():
        if name not in OPTIONS.get(algorithm.name, ()):
            takers = " and ".join(taker for taker, names in OPTIONS.items() if name in names)
            yield name, f"is an option of {takers}, not of {algorithm.name}"
        elif name.endswith("_prefix") and algorithm.hash_key not in (None, "client_ip"):
            yield name, f"is for hash_key client_ip, not {algorithm.hash_key}"


def named(value: object) -> object:
    """A bare name is a mapping with nothing but the name; an algorithm of one's own checks its options."""
    if isinstance(value, (str, int)):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return value
    name = parse_algorithm(value["name"])
    if name in WORKING:
        return value
    algorithm = Algorithm.model_construct(name=name)
    given = {str(key): option for key, option in value.items() if key != "name"}
    algorithm._own, algorithm._own_problems = own_algorithms.examine(name, given)
    return algorithm
