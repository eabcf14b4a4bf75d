from __future__ import annotations

import itertools
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_mutations import SPILT_CHUNKS

from txlb.core.http.framing import (
    DATA,
    DEFECT,
    DONE,
    EXTENSION,
    FORBIDDEN_TRAILERS,
    MAX_EXTENSIONS,
    MAX_LINE,
    TRAILER,
    ChunkedReader,
)

MAX_TRAILER = 200
MAX_FIELDS = 10


def reader(decode: bool = False, request: bool = True) -> ChunkedReader:
    return ChunkedReader(decode, request, MAX_TRAILER, MAX_FIELDS)


def read(data: bytes, decode: bool = False, request: bool = True) -> tuple[bytes, int, ChunkedReader]:
    """All of it at once: what is passed on, how much was used."""
    it = reader(decode, request)
    out = it.feed(data)
    return out, it.used, it


def read_split(data: bytes, cuts: list[int] | None, decode: bool) -> tuple[bytes, int, ChunkedReader]:
    """In pieces (None: octet by octet), as a connection does: what comes after the end is not fed."""
    if cuts is None:
        cuts = list(range(len(data)))
    it = reader(decode)
    out = b""
    used = 0
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        out += it.feed(data[start:stop])
        if it.state == DEFECT:
            break
        used += it.used
        if it.state == DONE:
            break
        assert it.used == stop - start  # an unfinished body takes everything
    return out, used, it


def defect(data: bytes) -> str:
    out, _, it = read(data)
    assert it.state == DEFECT, data
    assert out == b""
    assert read(data, decode=True)[2].state == DEFECT
    return it.reason


# -- what is passed on ------------------------------------------------------------------------


def test_a_plain_body_is_passed_on_as_it_came() -> None:
    data = b"5\r\nhello\r\n0a\r\n0123456789\r\n0\r\n\r\n"
    out, used, it = read(data)
    assert (out, used, it.state, it.body_size) == (data, len(data), DONE, 15)


def test_decoded_it_is_the_data_alone() -> None:
    out, used, it = read(b"5;x=y\r\nhello\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\n", decode=True)
    assert (out, it.state, it.body_size) == (b"hello0123456789", DONE, 15)
    assert used == len(b"5;x=y\r\nhello\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\n")


def test_a_body_that_needs_no_change_is_not_copied() -> None:
    data = b"5\r\nhello\r\n"
    assert reader().feed(data) is data


@pytest.mark.parametrize("decode", [False, True])
def test_what_follows_the_body_is_not_touched(decode: bool) -> None:
    body = b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"
    for rest in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"x" * 1000):
        _, used, it = read(body + rest, decode)
        assert (it.state, used) == (DONE, len(body))
        assert (it.feed(rest), it.used, it.state) == (b"", 0, DONE)


def test_after_a_defect_nothing_is_passed_on_any_more() -> None:
    it = reader()
    assert it.feed(b"5\r\nhelloX") == b""
    assert it.state == DEFECT
    assert it.feed(b"5\r\nhello\r\n") == b""
    assert it.state == DEFECT


# -- chunk lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        b"",
        b"g",
        b"0x5",
        b"5_0",
        b" 5",
        b"5 ",
        b"\t5",
        b"5\t",
        b"5 ;a",
        b"+5",
        b"-5",
        b"5.",
        b"5,",
        b"5\x00",
        b"5\x0b",
        b"\xef\xbc\x95",
        b'"5"',
        b";a",
        b"5\x0c",
        b"5\xa0",
        b"5\x85",
    ],
)
def test_only_hex_digits_are_a_size(size: bytes) -> None:
    assert "chunk" in defect(size + b"\r\nhello\r\n0\r\n\r\n")


def test_case_and_leading_zeros_do_not_matter() -> None:
    for size in (b"a", b"A", b"0A", b"000000000000000a"):
        assert read(size + b"\r\n0123456789\r\n0\r\n\r\n")[2].state == DONE


def test_sizes_have_16_digits_at_most_and_are_below_the_limit() -> None:
    assert "too long" in defect(b"00000000000000005\r\nhello\r\n0\r\n\r\n")
    for size in (b"1000000000000000", b"8000000000000000", b"ffffffffffffffff", b"7fffffffffffffff"):
        assert defect(size + b"\r\n") == "chunk too large"
    it = reader()
    assert it.feed(b"0fffffffffffffff\r\nabc") == b"0fffffffffffffff\r\nabc"
    assert it.state == DATA


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in SPILT_CHUNKS.items()])
def test_line_ends_are_crlf_and_chunks_as_long_as_they_say(data: bytes) -> None:
    defect(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")


# -- extensions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extension",
    [
        b";",
        b";a",
        b";a=b",
        b";a=b;c",
        b'; a = "b c;d"',
        b';a="\\"\\\\"',
        b";\ta",
        b";a=" + b"b" * (MAX_LINE - 3),
    ],
)
def test_extensions_are_read_and_not_passed_on(extension: bytes) -> None:
    data = b"5" + extension + b"\r\nhello\r\n0" + extension + b"\r\n\r\n"
    out, used, it = read(data)
    assert (out, used, it.state) == (b"5\r\nhello\r\n0\r\n\r\n", len(data), DONE)
    assert read(data, decode=True)[0] == b"hello"


@pytest.mark.parametrize("byte", [b"\0", b"\n", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b"\r"])
@pytest.mark.parametrize("place", [b";%s", b";a%sb", b";a=%s", b';a="%s"'])
def test_extensions_are_visible_ascii(place: bytes, byte: bytes) -> None:
    assert "extension" in defect(b"5" + place % byte + b"X\r\nhello\r\n0\r\n\r\n") or byte == b"\r"


def test_a_quoted_string_ends_on_its_line() -> None:
    """Who reads quotes would take the CRLF for text, and the chunk for a longer extension."""
    for extension in (b';a="', b';a="b\\"', b';a="b\\', b';a="b"c"'):
        assert "extension" in defect(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n")


def test_an_extension_is_bounded_per_line() -> None:
    for filler in (b"x", b" ", b";"):
        assert "too long" in defect(b"5;" + filler * MAX_LINE + b"\r\nhello\r\n0\r\n\r\n")


def test_extensions_are_bounded_per_body() -> None:
    """Also those of one byte: CVE-2023-39326 of Go's net/http."""
    for extension in (b";", b";" + b"x" * 99):
        chunk = b"1" + extension + b"\r\nX\r\n"
        fits = MAX_EXTENSIONS // len(extension)
        it = reader()
        it.feed(chunk * fits)
        assert it.state != DEFECT
        it.feed(chunk * 2)
        assert (it.state, it.reason) == (DEFECT, "chunk extensions too long")


# -- trailers ---------------------------------------------------------------------------------------


def test_trailer_fields_are_passed_on() -> None:
    data = b"0\r\nX-Sum: 1\r\nY:\r\n\r\n"
    assert read(data)[0] == data


@pytest.mark.parametrize(
    "trailer",
    [
        b"X : y\r\n",
        b" X: y\r\n",
        b"X: y\r\n z\r\n",
        b"X: y\n",
        b"X: y\rz\r\n",
        b": y\r\n",
        b"X\r\n",
        b"X: \x00\r\n",
        b"X: a\nGET / HTTP/1.1\r\n",
        b"X\x80: y\r\n",
        b"\n",
        b"X: y\n\r\n",
        b"X_Y: z\r\n",
        b"X" * 20 + b"\r\n",
    ],
)
def test_trailer_fields_obey_the_rules_of_header_fields(trailer: bytes) -> None:
    assert "trailer" in defect(b"0\r\n" + trailer + b"\r\n")
    # … also behind fields that are taken out, valid or not
    for first in (b"Content-Length: 5\r\n", b"Content-Length: x\r\n", b"Max-Forwards: x\r\n"):
        assert "trailer" in defect(b"0\r\n" + first + trailer + b"\r\n")


def test_in_answers_an_underscore_is_a_letter() -> None:
    data = b"0\r\nX_Y: z\r\n\r\n"
    out, _, it = read(data, request=False)
    assert (out, it.state) == (data, DONE)


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_what_a_trailer_must_not_carry_is_lost(name: bytes) -> None:
    for spelled in (name, name.upper(), name.title()):
        out, _, it = read(b"0\r\nA: 1\r\n" + spelled + b": 1\r\nB: 2\r\n\r\n")
        assert (out, it.state) == (b"0\r\nA: 1\r\nB: 2\r\n\r\n", DONE)


def test_the_list_of_forbidden_trailers_has_what_frames_and_routes() -> None:
    assert {b"content-length", b"host", b"connection", b"te", b"upgrade", b"trailer"} <= FORBIDDEN_TRAILERS
    assert {b"authorization", b"cookie", b"x-forwarded-for", b"forwarded", b"via"} <= FORBIDDEN_TRAILERS


def test_a_transfer_encoding_in_a_trailer_is_a_defect() -> None:
    for value in (b"chunked", b"identity", b"gzip, chunked"):
        assert "trailer" in defect(b"0\r\nTransfer-Encoding: " + value + b"\r\n\r\n")


def test_nominated_fields_are_taken_out_of_the_trailer_too() -> None:
    it = reader()
    it.nominated = {b"x-hop"}
    assert it.feed(b"0\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n") == b"0\r\nX-End: 2\r\n\r\n"


def test_a_trailer_has_a_limit_of_bytes() -> None:
    fits = b"X: " + b"y" * (MAX_TRAILER - 3)
    for cuts in ([], None):
        assert read_split(b"0\r\n" + fits + b"\r\n\r\n", cuts, False)[2].state == DONE
        for end in (b"", b"\r\n\r\n"):
            it = read_split(b"0\r\n" + fits + b"y" + end + b"GET / HTTP/1.1", cuts, False)[2]
            assert (it.state, it.reason) == (DEFECT, "trailer too long")


def test_a_trailer_has_a_limit_of_fields() -> None:
    assert read(b"0\r\n" + b"X:1\r\n" * MAX_FIELDS + b"\r\n")[2].state == DONE
    assert "too many" in defect(b"0\r\n" + b"X:1\r\n" * (MAX_FIELDS + 1) + b"\r\n")


# -- any split ----------------------------------------------------------------------------------------

SIZES = st.integers(1, 40)
EXTENSIONS = st.sampled_from([b"", b"", b"", b";", b";a=b", b';a="b\\"c"'])
TRAILERS = st.lists(
    st.sampled_from([b"X: y\r\n", b"Content-Length: 3\r\n", b"A-B:\r\n"]), max_size=3, unique=True
)


@st.composite
def bodies(draw: Any) -> tuple[bytes, bytes]:
    """A valid chunked body, and its data."""
    out = data = b""
    for piece in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5)):
        size = b"%0*x" % (draw(st.integers(1, 6)), len(piece))
        out += size + draw(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
        data += piece
    return out + b"0" + draw(EXTENSIONS) + b"\r\n" + b"".join(draw(TRAILERS)) + b"\r\n", data


CUTS = st.one_of(st.none(), st.lists(st.integers(0, 300), max_size=8))


@given(bodies(), CUTS, st.binary(max_size=20), st.booleans())
def test_any_split_of_a_body_gives_the_same(
    body: tuple[bytes, bytes], cuts: list[int] | None, rest: bytes, decode: bool
) -> None:
    encoded, data = body
    whole, whole_used, whole_reader = read(encoded + rest, decode)
    out, used, it = read_split(encoded + rest, cuts, decode)
    assert (out, used, it.state) == (whole, whole_used, whole_reader.state) == (whole, len(encoded), DONE)
    assert it.body_size == len(data)
    if decode:
        assert out == data


@given(bodies(), st.integers(0, 300), st.binary(max_size=3), st.integers(0, 3), CUTS, st.booleans())
def test_any_split_of_a_spoilt_body_gives_the_same_verdict(
    body: tuple[bytes, bytes], at: int, put: bytes, cut: int, cuts: list[int] | None, decode: bool
) -> None:
    encoded = body[0][:at] + put + body[0][at + cut :]
    whole, whole_used, whole_reader = read(encoded, decode)
    out, used, it = read_split(encoded, cuts, decode)
    if it.state == DEFECT or whole_reader.state == DEFECT:
        # a bare LF in a trailer is seen before its end has come
        assert whole_reader.state in (DEFECT, TRAILER) and it.state in (DEFECT, TRAILER)
        if encoded.endswith(b"\r\n\r\n"):
            assert whole_reader.state == it.state
    else:
        assert (out, used, it.state) == (whole, whole_used, whole_reader.state)


@given(st.binary(max_size=60), st.booleans(), st.booleans())
def test_no_bytes_raise(data: bytes, decode: bool, request: bool) -> None:
    read(data, decode, request)
    read(b"0\r\n" + data + b"\r\n\r\n", decode, request)
    read(b"5;" + data, decode, request)


def h11_decoded(body: bytes) -> tuple[bytes, bytes]:
    """The data of a chunked body, and what h11 leaves."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    out = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            out += event.data
        elif isinstance(event, h11.EndOfMessage):
            return out, connection.trailing_data[0]


@given(bodies(), st.binary(max_size=20))
def test_h11_decodes_the_same_from_what_came_and_from_what_is_passed_on(
    body: tuple[bytes, bytes], rest: bytes
) -> None:
    encoded = body[0]
    decoded = read(encoded + rest, decode=True)[0]
    assert h11_decoded(encoded + rest) == (decoded, rest)
    assert h11_decoded(read(encoded + rest)[0] + rest) == (decoded, rest)


# -- linear time ----------------------------------------------------------------------------------------


class Watched(bytearray):
    """A trailer that counts the bytes it is searched for."""

    searched = 0

    def find(self, sub: Any, start: Any = 0, *end: Any) -> int:
        self.searched += max(0, len(self) - int(start)) + 1
        return super().find(sub, start, *end)

    def count(self, *args: Any) -> int:
        self.searched += len(self)
        return super().count(*args)


def held(it: ChunkedReader) -> int:
    """Bytes that the reader keeps: all that a feed can look at besides its own."""
    return len(it._trailer)


def test_octet_by_octet_nothing_is_kept_so_nothing_is_looked_at_twice() -> None:
    """Each feed does work for its own bytes and for what is kept: that is nothing, however long the body."""
    for decode in (False, True):
        it = reader(decode)
        total = 0
        for byte in b"3;a=b\r\nabc\r\n" * 2000 + b"ffff\r\n" + b"x" * 5000:
            out = it.feed(bytes((byte,)))
            total += len(out)
            assert len(out) <= 1 or it.state == EXTENSION
            assert held(it) == 0
        assert total == (3 * 2000 + 5000 if decode else 8 * 2000 + 6 + 5000)


def test_octet_by_octet_a_trailer_is_searched_once() -> None:
    for line in (b"X:1\r\n", b"X: " + b"y" * 500 + b"\r\n"):
        data = line * (15000 // len(line)) + b"\r\n"
        it = ChunkedReader(False, True, 16384, 10000)
        it.feed(b"0\r\n")
        watched = Watched()
        it._trailer = watched
        for byte in data:
            it.feed(bytes((byte,)))
        assert it.state == DONE
        assert watched is it._trailer
        assert watched.searched <= 12 * len(data)


def test_what_is_kept_is_bounded() -> None:
    it = reader()
    it.feed(b"0\r\n")
    it.feed(b"x" * 1_000_000)
    assert it.state == DEFECT
    assert held(it) <= MAX_TRAILER + 4
