"""JSON bodies of the admin API, before anybody parses them.

Rules:

* A body nests at most `MAX_DEPTH` deep, whoever is to read it.
* JSON is strict: UTF-8, no name twice in an object, no NaN or infinity, no number of absurd length.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 16
MAX_DIGITS = 64
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def depth_of(body: bytes) -> int:
    """How deep brackets nest, those in strings aside; of what is no JSON, some number."""
    depth = deepest = 0
    for match in _TOKENS.finditer(body):
        sign = match[0]
        if sign in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif sign in (b"]", b"}"):
            depth -= 1
    return deepest


def read_json(body: bytes) -> Any:
    """The value; raises ValueError with what is wrong."""
    if depth_of(body) > MAX_DEPTH:
        raise ValueError(f"the body nests deeper than {MAX_DEPTH}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_real
        )
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:64]!r} is there twice")
        found[name] = value
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if len(text) > MAX_DIGITS or value in (float("inf"), float("-inf")):
        raise ValueError("a number is out of range")
    return value
