from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from txlb.control.api.requests import body_of, query
from txlb.errors import ConfigError


class Request:
    """The little of a request that is looked at."""

    def __init__(self, body: bytes = b"", args: dict[bytes, list[bytes]] | None = None) -> None:
        self.content = BytesIO(body)
        self.args = args or {}


def problems(call: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        call()
    return raised.value.problems


def test_a_body_is_json() -> None:
    assert body_of(Request(b'{"a": 1}')) == {"a": 1}  # type: ignore[arg-type]
    assert body_of(Request(b""), optional=True) == {}  # type: ignore[arg-type]
    assert problems(lambda: body_of(Request(b"")))  # type: ignore[arg-type]
    assert problems(lambda: body_of(Request(b"{"), optional=True))  # type: ignore[arg-type]


def test_arguments_are_known_ones_once_with_known_values() -> None:
    wait = ("true", "false")
    assert query(Request(args={b"wait": [b"true"]}), wait=wait) == {"wait": "true"}  # type: ignore[arg-type]
    assert query(Request(), wait=wait) == {}  # type: ignore[arg-type]
    bad = Request(args={b"wait": [b"yes"], b"x\xff": [b"1"]})
    found = problems(lambda: query(bad, wait=wait))  # type: ignore[arg-type]
    assert found == ["?wait: must be true or false", "?xÿ: unknown (known here: wait)"]
    twice = Request(args={b"wait": [b"true", b"true"]})
    assert problems(lambda: query(twice, wait=wait)) == ["?wait: must be true or false"]  # type: ignore[arg-type]
