from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_mutations import REQUESTS
from support.http_oracles import answer_of, head_of

from txlb.core.http.fields import scan_fields
from txlb.core.http.forward import VIA_CHAIN, ForwardPolicy, request_head
from txlb.core.http.head import (
    CACHED_BLOCK_SIZE,
    CACHED_BLOCKS,
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    FieldCache,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
    refused,
)


def get(line: bytes, *fields: bytes) -> RequestHead:
    return head_of(line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n")


def request(*fields: bytes, version: bytes = b"1.1", method: bytes = b"GET") -> RequestHead:
    return get(method + b" / HTTP/" + version, b"Host: a", *fields)


def answer(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK", to_head: bool = False) -> ResponseHead:
    return answer_of(line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n", to_head)


# -- request lines --------------------------------------------------------------------------------


def test_a_request_head() -> None:
    head = head_of(b"GET /a/b?c=d?e HTTP/1.1\r\nHost: Example.com:80\r\nA: b\r\n\r\nrest")
    assert (head.status, head.method, head.target, head.path) == (0, b"GET", b"/a/b?c=d?e", b"/a/b")
    assert (head.minor, head.host, head.rewritten_host, head.fields.count) == (1, b"example.com", None, 2)
    assert (head.framing, head.content_length, head.keep_alive, head.websocket) == (NO_BODY, 0, True, False)


def test_it_may_stand_in_the_middle() -> None:
    data = b"xx\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\nGET /z HTTP/1.1\r\nHost: b\r\n\r\n"
    head = parse_request(data, 6, data.index(b"\r\n\r\n", 6), FieldCache(100), 8192)
    assert (head.status, head.target, head.host) == (0, b"/y", b"a")


@pytest.mark.parametrize(
    "line",
    [
        b"GET",
        b"GET ",
        b"GET /",
        b"GET / ",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET / /x HTTP/1.1",
        b"GET HTTP/1.1",
        b"G\x00T / HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"G_T / HTTP/1.1",
        b"G\xc3T / HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\x80 HTTP/1.1",
        b"GET /a\rb HTTP/1.1",
        b"GET /a\nb HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET # HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET a:80 HTTP/1.1",
        b"GET * HTTP/1.1",
        b"OPTIONS ** HTTP/1.1",
        b"GET ftp://a/ HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.",
        b"GET / HTTP/11",
        b"GET / HTTP/1.10",
        b"GET / HTTP/01.1",
        b"GET / HTTP/1,1",
        b"GET / HTTP/ 1.1",
        b"GET / HTTP/1.a",
        b"GET / HTTP/a.1",
        b"GET / XTTP/1.1",
        b"GET / HTTP/1.1\rX: y",
        b"GET / HTTP/1.1\nX: y",
        b"",
    ],
)
def test_malformed_request_lines_are_400(line: bytes) -> None:
    assert get(line, b"Host: a").status == 400


def test_versions() -> None:
    for version in (b"0.9", b"2.0", b"3.0", b"0.0", b"9.9"):
        assert request(version=version).status == 505
    for minor in range(1, 10):
        head = request(version=b"1.%d" % minor)
        assert (head.status, head.minor, head.keep_alive) == (0, 1, True)
    assert request(version=b"1.0").minor == 0


def test_the_request_line_has_a_limit() -> None:
    data = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 100)
    length = data.index(b"\r\n")
    assert head_of(data, max_line=length).status == 0
    assert head_of(data, max_line=length - 1).status == 414


def test_refused_fields_refuse_the_head() -> None:
    assert get(b"GET / HTTP/1.1", b"Host: a", b"X : y").status == 400
    assert head_of(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nZ: y\r\n\r\n", max_fields=2).status == 431


def test_the_first_reason_stays() -> None:
    head = refused(414, "first").refuse(400, "second")
    assert (head.status, head.reason) == (414, "first")


# -- Host and targets -------------------------------------------------------------------------------


def test_http_1_1_needs_one_valid_host() -> None:
    assert get(b"GET / HTTP/1.1").status == 400
    assert get(b"OPTIONS * HTTP/1.1").status == 400
    assert get(b"GET http://a/ HTTP/1.1").status == 400
    for version in (b"1.1", b"1.0"):
        for line in (b"GET / HTTP/", b"OPTIONS * HTTP/", b"GET http://a/ HTTP/"):
            assert get(line + version, b"Host: a", b"Host: a").status == 400
            for host in (b"", b"u@a", b"a b", b"a,b", b"[::1", b"a:b"):
                assert get(line + version, b"Host: " + host).status == 400


def test_http_1_0_needs_none() -> None:
    head = get(b"GET / HTTP/1.0")
    assert (head.status, head.host) == (0, b"")
    assert get(b"GET http://A/ HTTP/1.0").host == b"a"


def test_absolute_form_replaces_host() -> None:
    head = get(b"GET http://B.example:81/x?y HTTP/1.1", b"Host: a")
    assert (head.status, head.target, head.path) == (0, b"/x?y", b"/x")
    assert (head.host, head.rewritten_host) == (b"b.example", b"B.example:81")
    assert get(b"GET http://a?x/y HTTP/1.1", b"Host: a").target == b"/?x/y"
    assert get(b"GET http://a?x/y HTTP/1.1", b"Host: a").path == b"/"
    assert get(b"GET http://a HTTP/1.1", b"Host: a").target == b"/"


@pytest.mark.parametrize(
    "target", [b"http://", b"http:///x", b"http://u@a/", b"http://a:b/", b"https://a b/", b"http://?x"]
)
def test_absolute_form_needs_a_valid_authority(target: bytes) -> None:
    assert get(b"GET " + target + b" HTTP/1.1", b"Host: a").status == 400


def test_options_for_the_server_as_a_whole() -> None:
    for target in (b"*", b"http://a"):
        head = get(b"OPTIONS " + target + b" HTTP/1.1", b"Host: a")
        assert (head.status, head.target, head.path, head.host) == (0, b"*", b"*", b"a")
    assert get(b"OPTIONS http://a/ HTTP/1.1", b"Host: a").target == b"/"
    assert get(b"OPTIONS http://a?x HTTP/1.1", b"Host: a").target == b"/?x"


@pytest.mark.parametrize("target", [b"a:443", b"/", b"/x", b"http://a/", b"*"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_connect_is_refused_in_every_form(target: bytes, version: bytes) -> None:
    """Else the backend's 200 would make a tunnel of a connection that others use."""
    assert get(b"CONNECT " + target + b" HTTP/" + version, b"Host: a").status == 501


# -- framing of requests ------------------------------------------------------------------------------


def test_framing() -> None:
    assert request().framing == NO_BODY
    assert request(b"Content-Length: 0").framing == NO_BODY
    head = request(b"Content-Length: 7")
    assert (head.framing, head.content_length) == (LENGTH, 7)
    assert request(b"Transfer-Encoding: chunked").framing == CHUNKED
    assert request(b"Content-Length: 7", version=b"1.0").framing == LENGTH


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: chunked", b"Content-Length: 0"), 400),
        ((b"Transfer-Encoding: gzip, chunked", b"Content-Length: 0"), 400),
        ((b"Content-Length: 5", b"Content-Length: 5"), 400),
        ((b"Content-Length: 5", b"Content-Length: 6"), 400),
        ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        ((b"Transfer-Encoding: gzip",), 400),
        ((b"Transfer-Encoding: identity",), 400),
        ((b"Transfer-Encoding: chunked, gzip",), 400),
        ((b"Transfer-Encoding: xchunked",), 400),
        ((b"Transfer-Encoding: gzip, chunked",), 501),
        ((b"Transfer-Encoding: nonsense", b"Transfer-Encoding: chunked"), 501),
        ((b"Transfer-Encoding: identity, chunked",), 501),
    ],
)
def test_ambiguous_framing_is_refused(fields: tuple[bytes, ...], status: int) -> None:
    assert request(*fields).status == status
    assert answer(*fields).refusal != ""


def test_transfer_encoding_in_http_1_0_is_faulty_framing() -> None:
    assert request(b"Transfer-Encoding: chunked", version=b"1.0").status == 400
    assert answer(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK").refusal == "ambiguous framing"


def test_keep_alive() -> None:
    assert request().keep_alive
    assert not request(b"Connection: close").keep_alive
    assert not request(b"Connection: keep-alive, close").keep_alive
    assert not request(version=b"1.0").keep_alive
    assert request(b"Connection: keep-alive", version=b"1.0").keep_alive
    assert not request(b"Connection: keep-alive", b"Connection: close", version=b"1.0").keep_alive


def test_expectations() -> None:
    assert request(b"Expect: 100-continue", b"Content-Length: 1").status == 0
    assert request(b"Expect: 200-ok").status == 417
    assert request(b"Expect: 200-ok", version=b"1.0").status == 0


def test_websocket() -> None:
    fields = (b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket")
    assert request(*fields).websocket
    for head in (
        request(*fields, version=b"1.0"),
        request(*fields, method=b"POST"),
        request(*fields, b"Content-Length: 3"),
        request(*fields, b"Transfer-Encoding: chunked"),
        request(*fields[:1]),
        request(*fields[1:]),
        request(fields[0], b"Upgrade: websocket, h2c"),
    ):
        assert not head.websocket


# -- answers ---------------------------------------------------------------------------------------------


def test_an_answer_head() -> None:
    head = answer(b"Content-Length: 5", b"X_Y: z", line=b"HTTP/1.1 404 Not \x80 Found\t")
    assert (head.refusal, head.status, head.minor, head.reason) == ("", 404, 1, b"Not \x80 Found\t")
    assert (head.framing, head.content_length, head.keep_alive) == (LENGTH, 5, True)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 2 0 OK",
        b"HTTP/1.1 2\xb20 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.a 200 OK",
        b"HTTP/11 200 OK",
        b"http/1.1 200 OK",
        b" HTTP/1.1 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\nK",
        b"HTTP/1.1 200 OK\r",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 O\x0bK",
        b"HTTP/1.1 200 O\x7fK",
        b"HTTP/1.1 200\nX: y",
        b"HTTP/1.1 200 OK\nContent-Length: 0",
    ],
)
def test_malformed_status_lines_are_refused(line: bytes) -> None:
    assert answer(b"A: b", line=line).refusal == "malformed status line"


def test_status_codes_are_100_to_599() -> None:
    for status in (0, 99, 600, 999):
        assert answer(line=b"HTTP/1.1 %03d x" % status).refusal == "status code out of range"
    for status in (100, 599):
        assert answer(line=b"HTTP/1.1 %03d x" % status).refusal == ""


def test_the_reason_may_be_missing() -> None:
    for line in (b"HTTP/1.1 200", b"HTTP/1.1 200 "):
        head = answer(b"Content-Length: 0", line=line)
        assert (head.refusal, head.status, head.reason) == ("", 200, b"")


def test_framing_of_answers() -> None:
    assert answer().framing == UNTIL_CLOSE
    assert answer(b"Content-Length: 0").framing == NO_BODY
    assert answer(b"Content-Length: 9").framing == LENGTH
    assert answer(b"Transfer-Encoding: chunked").framing == CHUNKED


@pytest.mark.parametrize("field", [b"Content-Length: 9", b"Transfer-Encoding: chunked", b"X: y"])
def test_some_answers_have_no_body_whatever_they_say(field: bytes) -> None:
    for status in (b"100", b"101", b"103", b"204", b"304"):
        assert answer(field, line=b"HTTP/1.1 " + status + b" x").framing == NO_BODY
    assert answer(field, to_head=True).framing == NO_BODY


@pytest.mark.parametrize("to_head", [False, True])
def test_conflicting_framing_of_answers_is_refused_even_without_a_body(to_head: bool) -> None:
    for fields in (
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: x",),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: gzip",),
    ):
        assert answer(*fields, to_head=to_head).refusal != ""
        assert answer(*fields, line=b"HTTP/1.1 304 x").refusal != ""


def test_keep_alive_of_answers() -> None:
    assert answer().keep_alive
    assert not answer(b"Connection: close").keep_alive
    assert not answer(line=b"HTTP/1.0 200 OK").keep_alive
    assert answer(b"Connection: keep-alive", line=b"HTTP/1.0 200 OK").keep_alive
    assert answer(line=b"HTTP/1.7 200 OK").minor == 1


def test_the_last_fields_are_used_again_if_the_bytes_are_the_same() -> None:
    first = answer(b"Content-Length: 5", b"A: b")
    for line in (b"HTTP/1.1 200 OK", b"HTTP/1.1 404 No"):
        data = line + b"\r\nContent-Length: 5\r\nA: b\r\n\r\n"
        second = parse_response(data, len(data) - 4, first.fields, 100, False)
        assert second.fields is first.fields
        assert (second.framing, second.content_length) == (LENGTH, 5)
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nA: b\r\n\r\n"
    third = parse_response(data, len(data) - 4, first.fields, 100, False)
    assert third.content_length == 6


# -- any bytes ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_raise(some: bytes, more: bytes) -> None:
    for data in (
        some,
        b"GET " + some,
        b"GET /" + some + b" HTTP/1.1\r\nHost: a\r\n" + more,
        b"GET / HTTP/1.1\r\n" + some,
    ):
        for tail in (b"\r\n\r\n", b"\r\n\r\n" + more):
            head = head_of(data + tail)
            assert bool(head.status) == bool(head.reason)
    for data in (some, b"HTTP/1." + some, b"HTTP/1.1 200" + some, b"HTTP/1.1 200 OK\r\n" + some):
        answer_of(data + b"\r\n\r\n" + more)


# -- the cache ---------------------------------------------------------------------------------------------


def facts(fields: object) -> dict[str, object]:
    names = sorted(scan_fields(b"", True, 1).__class__.__annotations__)
    return {name: getattr(fields, name) for name in names if name not in ("normal_host", "forward")}


BLOCKS = [data[data.index(b"\r\n") + 2 : data.index(b"\r\n\r\n") + 2] for data in REQUESTS]


@given(st.lists(st.sampled_from([*BLOCKS, b"", b"X : y\r\n", b"Host: \r\n", b"X: y\r\n" * 101]), max_size=20))
def test_with_and_without_cache_the_result_is_the_same(blocks: list[bytes]) -> None:
    cache = FieldCache(100)
    policy = ForwardPolicy(False, VIA_CHAIN, b"http")
    for block in blocks:
        assert facts(cache.fields(block)) == facts(scan_fields(block, True, 100))
        data = b"GET / HTTP/1.1\r\n" + block + b"\r\n"
        end = data.index(b"\r\n\r\n")
        cached = parse_request(data, 0, end, cache, 8192)
        plain = parse_request(data, 0, end, FieldCache(100), 8192)
        for name in (
            "status",
            "reason",
            "method",
            "target",
            "host",
            "framing",
            "content_length",
            "keep_alive",
        ):
            assert getattr(cached, name) == getattr(plain, name)
        if not cached.status:
            sent = [
                request_head(head, policy, False, b"192.0.2.1\r\n\r\n") for head in (cached, plain, cached)
            ]
            assert sent[0] == sent[1] == sent[2]


def test_the_cache_remembers() -> None:
    cache = FieldCache(100)
    assert cache.fields(BLOCKS[0]) is cache.fields(BLOCKS[0])


def test_refused_and_large_blocks_are_not_remembered() -> None:
    cache = FieldCache(100)
    large = b"X: " + b"y" * (CACHED_BLOCK_SIZE - 5) + b"\r\n"
    assert len(large) == CACHED_BLOCK_SIZE
    for block in (b"X : y\r\n", large + b"A:\r\n"):
        cache.fields(block)
        assert not cache.young
    cache.fields(large)
    assert len(cache.young) == 1


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = FieldCache(100)
    favourite = cache.fields(BLOCKS[0])
    for number in range(5 * CACHED_BLOCKS):
        for _ in range(2):  # the second time from memory, so that this is the last one used
            cache.fields(b"X: %d\r\n" % number)
        assert cache.fields(BLOCKS[0]) is favourite
        assert len(cache.young) <= CACHED_BLOCKS and len(cache.old) <= CACHED_BLOCKS
    assert b"X: 0\r\n" not in cache.young | cache.old
