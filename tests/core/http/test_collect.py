from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core.http.collect import MORE, SLACK, WHOLE, HeadCollector

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def collect(pieces: Iterable[bytes], max_line: int = 100, max_head: int = 200) -> tuple[int, bytes]:
    """The verdict, and what was collected until then."""
    collector = HeadCollector()
    verdict = MORE
    for piece in pieces:
        verdict = collector.add(piece, max_line, max_head)
        if verdict != MORE:
            break
    return verdict, bytes(collector.data)


def octets(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


def test_a_head_is_whole_with_its_empty_line() -> None:
    assert collect([HEAD[:-1]]) == (MORE, HEAD[:-1])
    assert collect(octets(HEAD)) == (WHOLE, HEAD)
    assert collect([HEAD[:9], HEAD[9:] + b"rest\n"]) == (WHOLE, HEAD + b"rest\n")


@given(st.lists(st.integers(0, len(HEAD)), max_size=5))
def test_any_split_gives_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(HEAD)]
    pieces = [HEAD[start:stop] for start, stop in itertools.pairwise(edges)]
    assert collect(pieces) == (WHOLE, HEAD)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\nHost: a\r\n", b"\nGET /", b"GET / HTTP/1.1\r\nHost: a\n", b"a\n\r\n\r\n"]
)
def test_a_bare_lf_is_judged_at_once(data: bytes) -> None:
    for pieces in ([data], octets(data)):
        verdict, collected = collect(pieces)
        assert verdict == 400
        assert collected in (data, data[: data.replace(b"\r\n", b"..").index(b"\n") + 1])


def test_a_long_request_line_is_414_before_it_ends() -> None:
    line = b"GET /" + b"x" * 100
    assert collect([line], max_line=50)[0] == 414
    verdict, collected = collect(octets(line), max_line=50)
    assert (verdict, len(collected)) == (414, 54)
    assert collect([line + b"\r\nHost: a\r\n"], max_line=50)[0] == 414
    assert collect([line + b"\r\n"], max_line=len(line))[0] == MORE
    assert collect([b"GET / HTTP/1.1\r\nX: " + b"x" * 100], max_line=50)[0] == MORE


def test_a_long_head_is_431_before_it_ends() -> None:
    start = b"GET / HTTP/1.1\r\nX: "
    assert collect([start + b"x" * 200], max_head=200)[0] == 431
    verdict, collected = collect(octets(start + b"x" * 300), max_head=200)
    assert (verdict, len(collected)) == (431, 200 + SLACK + 1)


def test_what_is_collected_is_bounded() -> None:
    for byte in (b"x", b"\r", b"GET / HTTP/1.1\r\nX: y\r\n"):
        verdict, collected = collect([byte] * 1000)
        assert verdict in (414, 431)
        assert len(collected) < 300


class Watched(bytearray):
    """Counts the bytes it is searched for."""

    searched = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        stop = len(self) if end is None else min(int(end), len(self))
        found = super().find(sub, start, stop)
        self.searched += max(0, (stop if found < 0 else found) - int(start)) + 1
        return found


@pytest.mark.parametrize("line", [b"A:b\r\n", b"A: " + b"b" * 3000 + b"\r\n"])
def test_octet_by_octet_every_octet_is_looked_at_once(line: bytes) -> None:
    data = b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n" + line * (10000 // len(line)) + b"\r\n"
    collector = HeadCollector()
    watched = Watched()
    collector.data = watched
    for octet in octets(data):
        verdict = collector.add(octet, 8192, 65536)
    assert verdict == WHOLE
    assert collector.data is watched
    assert watched.searched <= 8 * len(data)
