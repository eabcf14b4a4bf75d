"""Names of algorithms as people write them.

Rules:

* Names are lower case; other case, ``-`` for ``_`` and the spellings of `OTHER` are
  understood on input.
* A name that CONTRACTS know but that cannot be chosen yet says so; one that nobody
  knows gets the nearest that works.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated

from txlb.config import kinds
from txlb.config.kinds import Kind
from txlb.config.section import Section, key
from txlb.config.values import as_text, shown

WORKING = ("round_robin", "weighted", "least_connections")
LATER = ("ip_hash", "consistent_hash", "random", "power_of_two", "peak_ewma")
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
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


def parse_algorithm(value: object) -> str:
    text = as_text(value, "the name of an algorithm")
    name = text.lower().replace("-", "_")
    name = OTHER.get(name, name)
    if name in WORKING:
        return name
    if name in LATER or _DOTTED.fullmatch(text):
        raise ValueError(
            f"{text[:80]} is not supported yet: write {', '.join(WORKING[:-1])} or {WORKING[-1]}"
        )
    near = ELSEWHERE.get(name)
    if near is None and len(name) < 40:
        near = next(iter(difflib.get_close_matches(name, WORKING + LATER, n=1, cutoff=0.6)), None)
    hint = f" (did you mean {near}?)" if near else ""
    raise ValueError(f"unknown algorithm {shown(text)}{hint}")


NAME = Kind("name", parse_algorithm, {"type": "string", "examples": list(WORKING)})


class Algorithm(Section):
    """How one of a rule's backends is chosen: a name, or a mapping with the name and its options."""

    name: Annotated[str, NAME] = key(
        "round_robin", f"One of {', '.join(f'`{name}`' for name in WORKING)}.", "round_robin"
    )
    hash_key: Annotated[None, kinds.NOTHING] = key(None, "What hashing algorithms hash.")
    fallback: Annotated[None, kinds.NOTHING] = key(None, "Algorithm used where the key is missing.")


def named(value: object) -> object:
    """A bare name is a mapping with nothing but the name."""
    return {"name": value} if isinstance(value, (str, int)) else value
