from __future__ import annotations

import pytest
from support.http_oracles import answer_of, head_of

from txlb.core.http.forward import (
    CLOSE,
    KEEP_ALIVE,
    VIA_ALWAYS,
    VIA_CHAIN,
    VIA_OFF,
    ForwardPolicy,
    request_head,
    response_head,
    without,
)

CLIENT = b"192.0.2.1\r\n\r\n"


def policy(append: bool = False, via: int = VIA_CHAIN) -> ForwardPolicy:
    return ForwardPolicy(append, via, b"http")


def sent(data: bytes, it: ForwardPolicy | None = None, trusted: bool = False) -> list[bytes]:
    """The lines of the head that goes to the backend, after a second time from memory."""
    head = head_of(data + b"\r\n")
    assert head.status == 0, head.reason
    out = request_head(head, it or policy(), trusted, CLIENT)
    assert out == request_head(head, it or policy(), trusted, CLIENT)
    assert out.endswith(b"\r\n\r\n")
    return out[:-4].split(b"\r\n")


OURS = [b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a", b"X-Forwarded-For: 192.0.2.1"]


def test_verified_bytes_go_on_as_they_stand() -> None:
    lines = [b"GET /%61//b/../c?d HTTP/1.1", b"hOsT:a", b"X:  y ", b"Accept: */*", b"x: \x80"]
    assert sent(b"\r\n".join(lines) + b"\r\n") == lines + OURS


def test_hop_by_hop_fields_go_first_then_ours_come() -> None:
    """CVE-2022-31813 of Apache: Connection cannot nominate ours away."""
    data = (
        b"GET / HTTP/1.1\r\n"
        b"Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Host, X-Hop, Via\r\n"
        b"Host: a\r\nX-Hop: 1\r\nX-Forwarded-For: 6.6.6.6\r\n"
    )
    assert sent(data) == [b"GET / HTTP/1.1", b"Host: a", *OURS]
    assert sent(data, trusted=True) == [b"GET / HTTP/1.1", b"Host: a", *OURS]
    assert sent(data, policy(append=True)) == [b"GET / HTTP/1.1", b"Host: a", *OURS]


SPOKEN = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n"
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\n"
)


def test_replace_sends_what_txlb_saw() -> None:
    assert sent(SPOKEN) == [b"GET / HTTP/1.1", b"Host: a", *OURS]


def test_a_trusted_peer_is_believed() -> None:
    assert sent(SPOKEN, trusted=True)[2:] == [
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: outer",
        b"X-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.1",
    ]
    assert sent(b"GET / HTTP/1.1\r\nHost: a\r\n", trusted=True)[2:] == OURS


@pytest.mark.parametrize("trusted", [False, True])
def test_append_adds_to_whatever_came(trusted: bool) -> None:
    assert sent(SPOKEN, policy(append=True), trusted)[2:] == [
        b"X-Forwarded-Proto: https, http",
        b"X-Forwarded-Host: outer, a",
        b"X-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.1",
    ]
    assert sent(b"GET / HTTP/1.1\r\nHost: a\r\n", policy(append=True), trusted)[2:] == OURS


def test_via() -> None:
    plain, came = b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\n"
    for via, without_one, with_one in (
        (VIA_OFF, [], [b"Via: 1.0 x"]),
        (VIA_CHAIN, [], [b"Via: 1.0 x", b"Via: 1.1 txlb"]),
        (VIA_ALWAYS, [b"Via: 1.1 txlb"], [b"Via: 1.0 x", b"Via: 1.1 txlb"]),
    ):
        assert sent(plain, policy(via=via)) == [b"GET / HTTP/1.1", b"Host: a", *without_one, *OURS]
        assert sent(came, policy(via=via)) == [b"GET / HTTP/1.1", b"Host: a", *with_one, *OURS]
    old = sent(b"GET / HTTP/1.0\r\nHost: a\r\n", policy(via=VIA_ALWAYS))
    assert b"Via: 1.0 txlb" in old


def test_absolute_form_becomes_origin_form_and_its_authority_host() -> None:
    lines = sent(b"GET http://B.example:81/x?y HTTP/1.1\r\nA: b\r\nHost: a\r\n")
    assert lines[:3] == [b"GET /x?y HTTP/1.1", b"Host: B.example:81", b"A: b"]
    assert lines[4] == b"X-Forwarded-Host: B.example:81"
    assert sent(b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n")[0] == b"OPTIONS * HTTP/1.1"


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"1.2", b"1.9"])
def test_it_leaves_as_http_1_1(version: bytes) -> None:
    assert sent(b"GET / HTTP/" + version + b"\r\nHost: a\r\n")[0] == b"GET / HTTP/1.1"


def test_http_1_0_has_no_expectations_and_may_have_no_host() -> None:
    lines = sent(
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: keep-alive\r\n"
    )
    # RFC 9112 §3.2: 1.1 has a Host, an empty one where there is no authority
    assert lines == [b"POST / HTTP/1.1", b"Host: ", b"Content-Length: 1", OURS[0], OURS[2]]
    assert b"Expect: 100-continue" in sent(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n")


def test_max_forwards_is_counted_down_where_it_counts() -> None:
    for method, left in ((b"TRACE", b"4"), (b"OPTIONS", b"4"), (b"GET", b"5")):
        lines = sent(method + b" / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n")
        assert [line for line in lines if line.startswith(b"Max-Forwards")] == [b"Max-Forwards: " + left]


def test_an_upgrade_to_websocket_is_asked_for_anew() -> None:
    lines = sent(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade, X-Hop\r\n"
        b"X-Hop: 1\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: k\r\n"
    )
    assert lines == [
        b"GET / HTTP/1.1",
        b"Host: a",
        b"Sec-WebSocket-Key: k",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        *OURS,
    ]
    other = sent(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: x\r\n"
    )
    assert other == [b"GET / HTTP/1.1", b"Host: a", *OURS]


def test_framing_leaves_in_its_plain_form() -> None:
    for came, goes in (
        (b"Content-Length:\t007 ", b"Content-Length: 7"),
        (b"transfer-encoding:CHUNKED", b"Transfer-Encoding: chunked"),
    ):
        for version, trusted in ((b"1.1", False), (b"1.1", True)):
            lines = sent(
                b"POST / HTTP/" + version + b"\r\nHost: a\r\n" + came + b"\r\nA: b\r\n", None, trusted
            )
            assert lines[1:4] == [b"Host: a", b"A: b", goes]


# -- answers ---------------------------------------------------------------------------------------


def back(data: bytes, ending: bytes = b"", drop_coding: bool = False) -> bytes | None:
    data += b"\r\n"
    head = answer_of(data)
    assert head.refusal == ""
    first, second = (
        response_head(head, data + b"body", len(data) - 4, ending, drop_coding) for _ in range(2)
    )
    assert first == second
    return first


def test_an_answer_that_changes_nothing_is_not_copied() -> None:
    assert back(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Forwarded-For: x\r\nVia: 1.1 y\r\n") is None


def test_start_lines_are_ours() -> None:
    for line in (b"HTTP/1.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.9 200 OK"):
        assert back(line + b"\r\nA: b\r\n") == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert back(b"HTTP/1.1 200\r\nA: b\r\n") == b"HTTP/1.1 200 \r\nA: b\r\n\r\n"
    assert back(b"HTTP/1.1 200 \r\nA: b\r\n") is None


def test_hop_by_hop_fields_of_answers_are_removed() -> None:
    out = back(
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nA: b\r\n"
        b"X-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2\r\n",
        CLOSE,
    )
    assert out == b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n"
    assert (
        back(b"HTTP/1.1 200 OK\r\nA: b\r\n", KEEP_ALIVE)
        == b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize("status", [b"100", b"103", b"199", b"204"])
def test_answers_that_have_no_body_lose_their_framing(status: bytes) -> None:
    for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"content-length:  05"):
        out = back(b"HTTP/1.1 " + status + b" x\r\n" + framing + b"\r\nA: b\r\n")
        assert out == b"HTTP/1.1 " + status + b" x\r\nA: b\r\n\r\n"


def test_an_answer_to_head_and_a_304_keep_theirs() -> None:
    assert back(b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n") is None


def test_chunked_is_not_named_to_http_1_0() -> None:
    out = back(b"HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\nA: b\r\n", CLOSE, drop_coding=True)
    assert out == b"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n"


def test_switching_protocols_is_said_anew() -> None:
    out = back(
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n"
    )
    assert out == (
        b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )


def test_unusual_framing_of_answers_is_written_anew() -> None:
    assert (
        back(b"HTTP/1.1 200 OK\r\nContent-Length: 005\r\n") == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    )


def test_without_takes_fields_out_by_name() -> None:
    block = b"A: 1\r\nB: 2\r\na:3\r\nAB: 4\r\n"
    assert without(block, frozenset((b"a",))) == b"B: 2\r\nAB: 4\r\n"
    assert without(b"", frozenset((b"a",))) == b""


def test_one_head_serves_many_clients() -> None:
    """What is remembered of an answer's head does not depend on whom it was sent to first."""
    data = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
    coding = b"Transfer-Encoding: chunked\r\n"
    ways = [(b"", False, coding), (CLOSE, False, coding), (b"", True, b""), (KEEP_ALIVE, True, b"")]
    for first in range(len(ways)):
        head = answer_of(data)
        for ending, drop, framing in (*ways[first:], *ways[:first], *ways[first:]):
            out = response_head(head, data, len(data) - 4, ending, drop)
            assert out == b"HTTP/1.1 200 OK\r\n" + framing + b"A: b\r\n" + ending + b"\r\n"


def test_a_request_that_names_no_host_gets_the_backends() -> None:
    head = head_of(b"GET / HTTP/1.0\r\n\r\n")
    head.fallback_host = b"10.0.0.1:8080"
    out = request_head(head, policy(), False, CLIENT)
    assert out.startswith(b"GET / HTTP/1.1\r\nHost: 10.0.0.1:8080\r\n")
    assert b"X-Forwarded-Host" not in out
