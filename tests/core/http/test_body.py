from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txlb.core.http.body import BodyReader
from txlb.core.http.framing import ChunkedReader
from txlb.core.http.head import CHUNKED, LENGTH, UNTIL_CLOSE


def chunked() -> BodyReader:
    return BodyReader(CHUNKED, 0, ChunkedReader(False, True, 100, 10))


def test_a_counted_body_passes_as_it_is_and_ends_where_it_says() -> None:
    body = BodyReader(LENGTH, 5, None)
    assert (body.feed(b"hel"), body.used, body.done, body.left) == (b"hel", 3, False, 2)
    assert (body.feed(b"loGET"), body.used, body.done, body.size) == (b"lo", 2, True, 5)
    data = b"hello"
    assert BodyReader(LENGTH, 5, None).feed(data) is data


@given(st.integers(1, 20), st.lists(st.binary(min_size=1, max_size=8), max_size=6))
def test_any_split_of_a_counted_body_gives_the_same(length: int, pieces: list[bytes]) -> None:
    body = BodyReader(LENGTH, length, None)
    out, used = b"", 0
    for piece in pieces:
        out += body.feed(piece)
        used += body.used
        if body.done:
            break
    data = b"".join(pieces)
    assert out == data[:length]
    assert used == body.size == len(out)
    assert body.done == (len(data) >= length)


def test_bytes_that_went_another_way_count() -> None:
    body = BodyReader(LENGTH, 5, None)
    body.moved(3)
    assert (body.left, body.size, body.done) == (2, 3, False)
    body.moved(2)
    assert (body.left, body.size, body.done) == (0, 5, True)


def test_a_chunked_body_passes_as_its_reader_lets_it() -> None:
    body = chunked()
    assert (body.feed(b"5;x\r\nhe"), body.used, body.size, body.done) == (b"5\r\nhe", 7, 2, False)
    assert body.feed(b"llo\r\n0\r\n\r\nGET") == b"llo\r\n0\r\n\r\n"
    assert (body.used, body.size, body.done, body.defect) == (10, 5, True, "")


def test_a_defect_is_told() -> None:
    body = chunked()
    assert body.feed(b"5\nhello") == b""
    assert (body.done, body.defect) == (False, "malformed chunk size")


def test_other_bodies_last_until_their_connection_ends() -> None:
    body = BodyReader(UNTIL_CLOSE, 0, None)
    for piece in (b"abc", b"de"):
        assert (body.feed(piece), body.used, body.done) == (piece, len(piece), False)
    assert body.size == 5
