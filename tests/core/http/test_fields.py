from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_mutations import spoilt_fields

from txlb.core.http.fields import KINDS, OTHER, PLAUSIBLE, Fields, scan_fields


def scan(block: bytes, request: bool = True, max_fields: int = 100) -> Fields:
    return scan_fields(block, request, max_fields)


def refused(block: bytes, request: bool = True) -> int:
    fields = scan(block, request)
    assert bool(fields.refusal) == bool(fields.reason)
    return fields.refusal


# -- syntax -------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [True, False])
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=repr(block))
        for block in (
            b"X: y\n",
            b"X: y\r",
            b"X: y\rz\r\n",
            b"X: y\nz\r\n",
            b"X: y\r\r\n",
            b"X: y\n\r\n",
            b"X: y\0z\r\n",
            b"X: y\x01z\r\n",
            b"X: y\x0bz\r\n",
            b"X: y\x0cz\r\n",
            b"X: y\x7fz\r\n",
            b"X: y\x1f\r\n",
            b"X: y\r\n z\r\n",
            b"X: y\r\n\tz\r\n",
            b" X: y\r\n",
            b"\tX: y\r\n",
            b"X : y\r\n",
            b"X\t: y\r\n",
            b": y\r\n",
            b"X\r\n",
            b"\r\n",
            b"\r\nX: y\r\n",
            b"X y: z\r\n",
            b"X\\y: z\r\n",
            b"X(y): z\r\n",
            b'"X": z\r\n',
            b"X\x00: y\r\n",
            b"X\x80: y\r\n",
            b"\xff: y\r\n",
            b"X/y: z\r\n",
            b"X@y: z\r\n",
        )
    ],
)
def test_what_is_malformed_is_refused_wherever_it_stands(block: bytes, request_: bool) -> None:
    for before in (b"", b"A: b\r\n"):
        for after in (b"", b"C: d\r\n"):
            assert refused(before + block + after, request_) == 400


def test_a_block_without_its_last_crlf_is_refused() -> None:
    for block in (b"X: y", b"A: b\r\nX", b"A: b\r\nX: y\r", b"A: b\r\nX:"):
        assert refused(block) == 400


@pytest.mark.parametrize(
    "line", [b"X:y", b"X: ", b"X:", b"X:\t y \t", b"X: \x80\xff", b"!#$%&'*+-.^`|~09azAZ: y"]
)
def test_what_is_well_formed_is_taken_as_it_is(line: bytes) -> None:
    for request in (True, False):
        fields = scan(line + b"\r\n", request)
        assert (fields.refusal, fields.count) == (0, 1)
        assert fields.kept() == line + b"\r\n"


def test_no_fields_are_fine() -> None:
    fields = scan(b"")
    assert (fields.refusal, fields.count, fields.kept()) == (0, 0, b"")


def test_an_underscore_is_a_letter_in_answers_only() -> None:
    for name in (b"Content_Length", b"_", b"X_", b"_X"):
        assert refused(name + b": 5\r\n") == 400
        assert refused(name + b": 5\r\n", False) == 0


def test_more_fields_than_the_limit_are_431() -> None:
    block = b"X: y\r\n" * 3
    assert scan(block, True, 3).refusal == 0
    assert scan(block + b"X: y\r\n", True, 3).refusal == 431
    # what follows is not read, so work is bounded
    assert scan(block + b"Upgrade: a\r\n" * 3 + b"\0", True, 3).refusal == 400
    fields = scan(block + b"Upgrade: a\r\n" * 3, True, 4)
    assert (fields.refusal, fields.upgrade_to) == (431, b"a")


def test_every_name_that_means_something_gets_past_the_sieve() -> None:
    for name in KINDS:
        assert KINDS[name] != OTHER
        for first in (name[0], name.upper()[0]):
            assert PLAUSIBLE[(len(name) << 8) + first]


@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_raise(block: bytes, request: bool) -> None:
    for data in (
        block,
        block + b"\r\n",
        b"Content-Length:" + block + b"\r\n",
        b"Connection:" + block + b"\r\n",
    ):
        fields = scan_fields(data, request, 3)
        if not fields.refusal:
            # what is accepted is whole lines, each with one colon behind a name
            assert b"\0" not in data
            assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n") == fields.count
            assert fields.kept() == b"" or fields.kept().endswith(b"\r\n")


LINES = st.sampled_from(
    [
        b"Connection: a\r\n",
        b"A: 1\r\n",
        b"TE: x\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 05\r\n",
        b"Host: h\r\n",
        b"X-Forwarded-For: z\r\n",
        b"B: 2\r\n",
        b"Connection: b, te\r\n",
        b"Upgrade: q\r\n",
    ]
)


@given(st.lists(LINES, max_size=8))
def test_what_is_kept_are_the_other_lines_in_order(lines: list[bytes]) -> None:
    fields = scan(b"".join(lines))
    if fields.refusal:
        assert len([line for line in lines if line.startswith(b"Content-Length")]) > 1
        return
    gone = {b"connection", b"te", b"upgrade", b"x-forwarded-for"}
    gone |= {b"a"} if b"Connection: a\r\n" in lines else set()
    gone |= {b"b"} if b"Connection: b, te\r\n" in lines else set()
    kept = [line for line in lines if line.partition(b":")[0].lower() not in gone and b" 05" not in line]
    if b"Content-Length: 05\r\n" in lines:
        kept.append(b"Content-Length: 5\r\n")
    assert fields.kept() == b"".join(kept)
    assert fields.cuts == sorted(fields.cuts)


# -- Host, Content-Length, Transfer-Encoding ----------------------------------------------------


def test_host_is_read_and_counted() -> None:
    fields = scan(b"hOST:\t a \r\nHost: b\r\n")
    assert (fields.host, fields.hosts, fields.refusal) == (b"b", 2, 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"+5",
        b"-5",
        b"0x5",
        b"5_0",
        b"5,5",
        b"5, 5",
        b"5 5",
        b"5.0",
        b"5;",
        b"1e3",
        b'"5"',
        b",5",
        b"\xb2",
        b"\xd9\xa5",
        b"9" * 19,
        b"0" * 19,
        b"five",
        b"5\xa0",
        b"5L",
    ],
)
@pytest.mark.parametrize("request_", [True, False])
def test_content_length_is_digits(value: bytes, request_: bool) -> None:
    assert refused(b"Content-Length: " + value + b"\r\n", request_) == 400
    assert scan(b"Content-Length: " + value + b"\r\n").reason == "invalid Content-Length"


@pytest.mark.parametrize("second", [b"5", b"6", b"05"])
def test_content_length_comes_once(second: bytes) -> None:
    for name in (b"Content-Length", b"content-LENGTH"):
        block = b"Content-Length: 5\r\nA: b\r\n" + name + b": " + second + b"\r\n"
        assert refused(block) == refused(block, False) == 400


def test_content_length_is_read() -> None:
    for value, size in ((b"0", 0), (b"5", 5), (b"9" * 18, 10**18 - 1)):
        fields = scan(b"Content-Length: " + value + b"\r\n")
        assert (fields.refusal, fields.content_length) == (0, size)
        assert fields.kept() == fields.block
    assert scan(b"A: b\r\n").content_length == -1


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length:5",
        b"Content-Length:\t5",
        b"Content-Length: 5 ",
        b"content-length:  5",
        b"Content-Length:5 ",
        b"Content-Length: 05",
        b"Content-Length: " + b"0" * 17 + b"5",
        b"Content-Length: 5\t",
    ],
)
def test_an_unusual_content_length_is_written_anew(line: bytes) -> None:
    for request in (True, False):
        fields = scan(b"A: b\r\n" + line + b"\r\nC: d\r\n", request)
        assert (fields.refusal, fields.content_length) == (0, 5)
        assert fields.kept() == b"A: b\r\nC: d\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize(
    "line", [b"Transfer-Encoding:chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: chunked "]
)
def test_an_unusual_chunked_is_written_anew(line: bytes) -> None:
    fields = scan(line + b"\r\nC: d\r\n")
    assert (fields.refusal, fields.chunked, fields.coded, fields.foreign_coding) == (0, True, True, False)
    assert fields.kept() == b"C: d\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"])
def test_chunked_is_read(name: bytes) -> None:
    fields = scan(name + b": chunked\r\n")
    assert (fields.refusal, fields.chunked, fields.coded, fields.foreign_coding) == (0, True, True, False)
    assert fields.kept() == fields.block


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b",",
        b"chunked,",
        b",chunked",
        b"chunked, chunked",
        b"chunked, identity",
        b"chunked, gzip",
        b"chunked;q=1",
        b'"chunked"',
        b'gzip;a="x, chunked"',
        b"x y",
        b"[chunked]",
        b"=",
        b";a",
        b"\tchunked",
        b"chunked\t",
        b"gzip,\tchunked",
        b"chunked\xa0",
        b"chunked chunked",
        b"chunked;",
    ],
)
def test_what_cannot_be_a_list_that_ends_in_chunked_is_refused(value: bytes) -> None:
    fields = scan(b"Transfer-Encoding: " + value + b"\r\n")
    assert fields.refusal == 400 or (fields.foreign_coding and not fields.chunked)
    if b"chunked" in value:
        assert fields.refusal == 400


def test_nothing_comes_after_chunked_in_a_second_field() -> None:
    for second in (b"chunked", b"identity", b"gzip", b""):
        block = b"Transfer-Encoding: chunked\r\nTransfer-Encoding: " + second + b"\r\n"
        assert refused(block) == refused(block, False) == 400


@pytest.mark.parametrize(
    "value", [b"gzip", b"identity", b"xchunked", b"x-gzip", b"gzip;q=1", b"chunked-x", b"chunke"]
)
def test_other_codings_are_noted(value: bytes) -> None:
    fields = scan(b"Transfer-Encoding: " + value + b"\r\n")
    assert (fields.refusal, fields.coded, fields.chunked, fields.foreign_coding) == (0, True, False, True)
    fields = scan(b"Transfer-Encoding: " + value + b", chunked\r\n")
    assert (fields.refusal, fields.coded, fields.chunked, fields.foreign_coding) == (0, True, True, True)


# -- Connection and hop-by-hop ------------------------------------------------------------------


def test_what_ends_here_is_not_kept() -> None:
    block = (
        b"A: 1\r\nConnection: X-One, x-TWO\r\nX-One: 1\r\nKeep-Alive: 5\r\nX-Two: 2\r\n"
        b"TE: trailers\r\nx-one: 3\r\n"
        b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nConnection: close\r\nB: 2\r\n"
    )
    for request in (True, False):
        fields = scan(block, request)
        assert fields.kept() == b"A: 1\r\nB: 2\r\n"
        assert fields.nominated == {b"x-one", b"x-two"}


def test_a_field_before_the_connection_that_nominates_it_goes_too() -> None:
    assert scan(b"X-One: 1\r\nA: 1\r\nConnection: x-one\r\n").kept() == b"A: 1\r\n"


def test_framing_and_host_cannot_be_nominated_away() -> None:
    kept = b"Host: a\r\nContent-Length: 5\r\n"
    for options in (b"Host, Content-Length, Transfer-Encoding", b"close, hOST,content-LENGTH"):
        assert scan(b"Connection: " + options + b"\r\n" + kept).kept() == kept
    chunked = b"Transfer-Encoding: chunked\r\n"
    assert scan(b"Connection: transfer-encoding\r\n" + chunked).kept() == chunked


def test_connection_options() -> None:
    for value, close, keep_alive, upgrade in (
        (b"close", True, False, False),
        (b"Close", True, False, False),
        (b"keep-alive", False, True, False),
        (b"KEEP-ALIVE", False, True, False),
        (b"keep-alive, Upgrade", False, True, True),
        (b" , close\t,", True, False, False),
        (b"closed", False, False, False),
        (b"", False, False, False),
    ):
        fields = scan(b"Connection:" + value + b"\r\n")
        assert (fields.close, fields.keep_alive, fields.upgrade) == (close, keep_alive, upgrade), value
    both = scan(b"Connection: keep-alive\r\nConnection: close\r\n")
    assert both.close and both.keep_alive


def test_upgrade_is_read_as_one_list() -> None:
    assert scan(b"Upgrade: WebSocket\r\n").upgrade_to == b"websocket"
    assert scan(b"Upgrade: a\r\nUpgrade: b\r\n").upgrade_to == b"a,b"


# -- what only requests have ------------------------------------------------------------------------


def test_expectations() -> None:
    assert scan(b"Expect: 100-Continue\r\n").expect_continue
    assert not scan(b"Expect: 100-continue\r\n").expect_other
    assert scan(b"Expect: 100-continue\r\nExpect: 100-continue\r\n").expect_other
    for value in (b"200-ok", b"100-continue, x", b"", b"100-continue;q"):
        fields = scan(b"Expect: " + value + b"\r\n")
        assert fields.expect_other and not fields.expect_continue


def test_max_forwards_is_one_number() -> None:
    assert scan(b"Max-Forwards: 7\r\n").max_forwards == 7
    assert scan(b"A: b\r\n").max_forwards == -1
    for block in (b"Max-Forwards: x\r\n", b"Max-Forwards: -1\r\n", b"Max-Forwards: 1\r\nMax-Forwards: 1\r\n"):
        assert refused(block) == 400
    assert refused(b"Max-Forwards: 1234567890\r\n") == 400


def test_in_answers_they_mean_nothing() -> None:
    block = b"Max-Forwards: x\r\nHost: a\r\nHost: b\r\nExpect: x\r\nVia: 1.1 a\r\nX-Forwarded-For: b\r\n"
    fields = scan(block, False)
    assert (fields.refusal, fields.hosts, fields.expect_other, fields.max_forwards) == (0, 0, False, -1)
    assert fields.kept() == block


def test_forwarded_fields_are_taken_out_and_remembered() -> None:
    fields = scan(
        b"X-Forwarded-For: a\r\nx-forwarded-for: b\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: h\r\nVia: 1.1 v\r\n"
    )
    assert (fields.forwarded_for, fields.forwarded_proto, fields.forwarded_host) == (b"a, b", b"https", b"h")
    assert fields.via
    assert fields.kept() == b"Via: 1.1 v\r\n"


def test_nominated_forwarded_fields_say_nothing() -> None:
    block = b"X-Forwarded-For: a\r\nX-Forwarded-Proto: b\r\nX-Forwarded-Host: c\r\nConnection: "
    fields = scan(block + b"X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host\r\n")
    assert (fields.forwarded_for, fields.forwarded_proto, fields.forwarded_host) == (b"", b"", b"")
    assert fields.kept() == b""


def test_get_joins_the_values_of_a_field() -> None:
    fields = scan(b"Accept: a\r\naCCEPT:b \r\nX-Accept: c\r\n")
    assert fields.get(b"accept") == b"a, b"
    assert fields.get(b"cookie") is None


# -- PortSwigger's generator ------------------------------------------------------------------------


@pytest.mark.parametrize("line", [pytest.param(line, id=name) for name, line in spoilt_fields()])
def test_a_spoilt_framing_field_is_refused_or_harmless(line: bytes) -> None:
    """Never is a name read that is not there to the letter, never one kept that others could read."""
    fields = scan(line)
    if fields.refusal:
        return
    name, _, value = line.partition(b":")
    assert name.lower() not in (b"content-length", b"transfer-encoding") or value.strip(b" \t\r\n") in (
        b"5",
        b"chunked",
    )
    kept = fields.kept()
    assert not any(bytes((c,)) in kept for c in (*range(9), 11, 12, *range(14, 32), 127))


def test_cookies_are_joined_as_one_cookie_field() -> None:
    fields = scan_fields(b"Cookie: a=1\r\nX: 1\r\nCookie: b=2\r\nX: 2\r\n", True, 100)
    assert fields.get(b"cookie") == b"a=1; b=2"
    assert fields.get(b"x") == b"1, 2"
