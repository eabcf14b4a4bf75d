"""`txlb.control.api.body`: JSON that is bounded and strict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.control.api.body import MAX_DEPTH, depth_of, read_json

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def real_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(real_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(real_depth, value), default=0)
    return 0


@given(documents, st.booleans())
def test_the_depth_is_that_of_the_document(document: Any, escaped: bool):
    body = json.dumps(document, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert depth_of(body) == real_depth(document)


@given(documents)
def test_what_it_reads_is_what_was_written(document: Any):
    if real_depth(document) <= MAX_DEPTH:
        assert read_json(json.dumps(document).encode()) == document


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes):
    depth_of(body)
    try:
        read_json(body)
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[" * 1_000_000, "nests deeper"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "nests deeper"),
        (b"\xff", "not UTF-8"),
        (b"", "not JSON"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b"NaN", "NaN is not JSON"),
        (b"-Infinity", "not JSON"),
        (b"1e999", "out of range"),
        (b"9" * 100_000, "too many digits"),
        (b'{"a": 1} x', "not JSON"),
    ],
)
def test_what_is_refused(body: bytes, why: str):
    with pytest.raises(ValueError, match=why):
        read_json(body)


def test_long_strings_cost_little():
    assert depth_of(b'["' + b"\\u0041[{" * 100_000 + b'"]') == 1
