from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.config.scalars import expand, resolve_plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("8080", 8080),
        ("1.5", 1.5),
        ("-0.25", -0.25),
    ],
)
def test_constants_and_plain_numbers_resolve(text: str, value: object) -> None:
    assert resolve_plain(text) == value
    assert type(resolve_plain(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "web-1",
        "5s",
        "64KiB",
        "20%",
        "10.0.0.1",
        "10.0.0.1:8080",
        "0.0.0.0:80",
        "::1",
        "/api",
        "-",
        "*.x",
        "onward",
    ],
)
def test_everything_else_is_text(text: str) -> None:
    assert resolve_plain(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "On",
        "ON",
        "off",
        "yes",
        "no",
        "y",
        "N",
        "True",
        "FALSE",
        "Null",
        "~",
        "=",
        "<<",
        "012",
        "08",
        "0x1F",
        "0o17",
        "0b101",
        "1_000",
        "+5",
        "1e3",
        "1.5e3",
        "1.",
        ".5",
        ".inf",
        "-.INF",
        ".nan",
        "12:30:45",
        "1:30",
        "190:20:30.15",
        "2024-01-31",
        "2024-01-31T10:00:00Z",
        "1234567890123456789",
    ],
)
def test_what_readers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        resolve_plain(text)


@given(st.text(max_size=30))
def test_a_plain_scalar_is_resolved_or_refused_never_anything_else(text: str) -> None:
    try:
        value = resolve_plain(text)
    except ValueError:
        return
    assert value == text or not isinstance(value, str)


def test_references_are_replaced() -> None:
    environ = {"HOST": "lb", "EMPTY": ""}
    assert expand("${HOST}", environ) == "lb"
    assert expand("a-${HOST}-${PORT:-80}", environ) == "a-lb-80"
    assert expand("${EMPTY:-x}${EMPTY}", environ) == "x"
    assert expand("${NOPE:-}", environ) == ""
    assert expand("$HOST $ {HOST} $", environ) == "$HOST $ {HOST} $"


def test_a_literal_reference_is_written_with_two_dollars() -> None:
    assert expand("$${HOST}", {"HOST": "lb"}) == "${HOST}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NOPE}", "NOPE is not set"),
        ("${HOST", "without its }"),
        ("${}", "not a variable"),
        ("${a b}", "not a variable"),
        ("${HOST:?x}", "not a variable"),
        ("${A:-${B}}", "another reference"),
        ("${RAW}", "not UTF-8"),
    ],
)
def test_a_reference_that_cannot_be_replaced_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(text, {"HOST": "lb", "RAW": "\udcff"})
