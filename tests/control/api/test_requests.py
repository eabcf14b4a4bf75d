from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from twisted.web.http_headers import Headers

from txlb.control.api.requests import body_of, if_match, query
from txlb.errors import ConfigError


class Request:
    """The little of a request that is looked at."""

    def __init__(self, body: bytes = b"", query: bytes = b"") -> None:
        self.content = BytesIO(body)
        self.uri = b"/backends?" + query
        self.requestHeaders = Headers()


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
    assert query(Request(query=b"wait=true"), wait=wait) == {"wait": "true"}  # type: ignore[arg-type]
    assert query(Request(), wait=wait) == {}  # type: ignore[arg-type]
    bad = Request(query=b"wait=yes&x%ff=1")
    found = problems(lambda: query(bad, wait=wait))  # type: ignore[arg-type]
    assert found == ["?wait: must be true or false", "?xÿ: unknown (known here: wait)"]
    for other in (b"wait=true&wait=true", b"wait=", b"wait", b"wait=true;x"):
        asked = Request(query=other)
        assert problems(lambda: query(asked, wait=wait)) == ["?wait: must be true or false"]  # type: ignore[arg-type]  # noqa: B023


def test_several_if_match_fields_are_one_list() -> None:
    asked = Request()
    assert if_match(asked) is None  # type: ignore[arg-type]
    asked.requestHeaders.setRawHeaders("if-match", ['"a"', '"b"'])
    assert if_match(asked) == '"a", "b"'  # type: ignore[arg-type]
