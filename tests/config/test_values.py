from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.config import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5),
        ("1h", 3600),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        ("30d", 2592000),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "5 has no unit: write 5s or 5ms"),
        (1.5, "1.5 has no unit"),
        ("5", "5 has no unit"),
        ("0s", "out of range"),
        ("31d", "out of range"),
        ("9" * 39 + "s", "out of range"),
        ("0.5ms", "out of range"),
        ("1.5ms", "finer than 1ms"),
        ("5 s", "must be a duration"),
        ("5S", "must be a duration"),
        ("5us", "must be a duration"),
        ("30s1m", "must be a duration"),
        ("-5s", "must be a duration"),
        ("", "must be a duration"),
        (True, "must be a duration"),
        (None, "must be a duration such as 250ms, 5s or 1h, not null"),
        ([], "must be a duration"),
    ],
)
def test_what_is_no_duration_says_what_to_write(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        values.parse_duration(value)


@given(st.integers(1, 30 * 86_400_000))
def test_durations_round_trip(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert values.parse_duration(values.show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "size"), [("64KiB", 65536), ("512B", 512), ("10MiB", 10 * 2**20), ("0B", 0), (4096, 4096)]
)
def test_sizes(value: object, size: int) -> None:
    assert values.parse_size(value) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("8KB", "(write 8KiB, steps of 1024)"),
        ("8k", "(write 8KiB, steps of 1024)"),
        ("8 MB", "(write 8MiB, steps of 1024)"),
        ("1.5MiB", "must be a size"),
        ("", "must be a size"),
        (True, "must be a size"),
        (-1, "out of range"),
        ("1025TiB", "out of range"),
    ],
)
def test_what_is_no_size_says_what_to_write(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        values.parse_size(value)


@given(st.integers(0, values.LARGEST_SIZE))
def test_sizes_round_trip(size: int) -> None:
    assert values.parse_size(values.show_size(size)) == size


def test_shares() -> None:
    assert values.parse_percent("20%") == 0.2
    assert values.parse_percent("0.5%") == 0.005
    for wrong in ("20", 20, 0.2, "101%", "-1%", None):
        with pytest.raises(ValueError, match=r"share|range"):
            values.parse_percent(wrong)


@given(st.integers(0, 100))
def test_shares_round_trip(percent: int) -> None:
    share = percent / 100
    assert values.parse_percent(values.show_percent(share)) == share


def test_ids() -> None:
    assert values.parse_id("Web_1.a-B") == "Web_1.a-B"
    assert values.parse_id("x" * 64)
    for wrong in ("", "x" * 65, "a b", "a/b", "ä", "a\n"):
        with pytest.raises(ValueError, match="is not an id"):
            values.parse_id(wrong)
    with pytest.raises(ValueError, match=re.escape('must be an id, not 5 (as text, in quotes: "5")')):
        values.parse_id(5)


def test_values_in_messages_are_short() -> None:
    assert values.shown(None) == "null"
    assert values.shown(True) == "true"
    assert values.shown({}) == "a mapping"
    assert values.shown([]) == "a list"
    assert len(values.shown("x" * 1000)) < 90
