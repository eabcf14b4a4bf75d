"""HTTP/1.1 forwarding, byte by byte: one client, txlb, one origin."""

from __future__ import annotations

import threading

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, answering, echo, eventually
from support.wire import Message, Wire, chunked, get, lines, ok

# Everything here holds in a worker and inside the control process.
pytestmark = pytest.mark.parametrize("balancer", [1, 0], indirect=True, ids=["workers-1", "workers-0"])


# -- versions and connections ----------------------------------------------------------------------


def test_client_and_backend_connection_are_kept(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        answers = [client.ask(f"GET /{number} HTTP/1.1\nHost: a") for number in range(5)]
        assert [answer.body for answer in answers] == [b"GET /%d 0" % number for number in range(5)]
        assert all(answer.start == "HTTP/1.1 200 OK" for answer in answers)
        assert all("connection" not in answer.names for answer in answers)
        assert len(origin.visits) == 1
        assert all("connection" not in request.names for request in origin.requests)


def test_client_that_asks_to_close_is_closed_and_the_backend_connection_kept(
    balancer: Balancer, origin: Origin
) -> None:
    with origin.serving(answering(echo)):
        for _ in range(3):
            with balancer.connect() as client:
                answer = client.ask("GET / HTTP/1.1\nHost: a\nConnection: close")
                assert answer.get("connection") == "close"
                assert client.at_end()
        assert len(origin.visits) == 1


def test_http_1_0_client_is_closed_unless_it_asks_to_be_kept(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)):
        with balancer.connect() as client:
            assert client.ask("GET /once HTTP/1.0").body == b"GET /once 0"
            assert client.at_end()
        with balancer.connect() as client:
            for _ in range(2):
                answer = client.ask("GET /kept HTTP/1.0\nConnection: keep-alive\nHost: a")
                assert answer.get("connection") == "keep-alive"
        assert all(request.start.endswith(" HTTP/1.1") for request in origin.requests)
        assert all(len(request.all("host")) == 1 for request in origin.requests)


def test_answers_of_an_http_1_0_origin(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(b"HTTP/1.0 200 Fine\r\nContent-Length: 2\r\n\r\nab")

    with origin.serving(script), balancer.connect() as client:
        for _ in range(2):
            answer = client.ask("GET / HTTP/1.1\nHost: a")
            assert (answer.start, answer.body) == ("HTTP/1.1 200 Fine", b"ab")
        assert len(origin.visits) == 2


def test_origin_that_says_close_is_not_asked_again_on_that_connection(
    balancer: Balancer, origin: Origin
) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(ok(b"x", "Connection: close"))

    with origin.serving(script), balancer.connect() as client:
        for _ in range(3):
            answer = client.ask("GET / HTTP/1.1\nHost: a")
            assert (answer.status, "connection" in answer.names) == (200, False)
        assert len(origin.visits) == 3


def test_pipelined_requests_are_answered_in_order(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        requests = []
        for number in range(60):
            requests.append(get(f"/{number}"))
            requests.append(
                lines(f"POST /{number} HTTP/1.1\nHost: a\nContent-Length: {number}") + b"p" * number
            )
            requests.append(
                lines(f"PUT /{number} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked")
                + chunked(b"c" * (number + 1))
            )
        client.send(b"".join(requests))
        for number in range(60):
            assert client.answer().body == b"GET /%d 0" % number
            assert client.answer().body == b"POST /%d %d" % (number, number)
            assert client.answer().body == b"PUT /%d %d" % (number, number + 1)


def test_a_request_in_single_bytes(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        request = lines("POST /slow HTTP/1.1\nHost: a\nTransfer-Encoding: chunked") + chunked(b"abc", b"defg")
        for position in range(len(request)):
            client.send(request[position : position + 1])
        assert client.answer().body == b"POST /slow 7"
        assert origin.requests[0].body == b"abcdefg"


def test_empty_lines_before_a_request_are_skipped(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(b"\r\n\r\n" + get("/after"))
        assert client.answer().body == b"GET /after 0"


# -- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["/", "/a//b/../c", "/%2e%2E/%00?x=%0d&y", "/?", "//x", "/a;b=c,d!$&'()*+", "/" + "x" * 4000]
)
def test_targets_pass_untouched(balancer: Balancer, origin: Origin, target: str) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask(f"GET {target} HTTP/1.1\nHost: a").status == 200
        assert origin.requests[0].target == target


def test_absolute_form_becomes_origin_form_and_decides_host(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.ask("GET http://right.example:81/x?y HTTP/1.1\nHost: wrong.example")
        client.ask("GET http://right.example?z HTTP/1.1\nHost: wrong.example")
        client.ask("OPTIONS * HTTP/1.1\nHost: star")
        assert [request.target for request in origin.requests] == ["/x?y", "/?z", "*"]
        assert [request.get("host") for request in origin.requests] == [
            "right.example:81",
            "right.example",
            "star",
        ]


# -- request bodies --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 65535, 65536, 3_000_000])
def test_request_with_content_length(balancer: Balancer, origin: Origin, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    with origin.serving(answering(echo)), balancer.connect() as client:
        answer = client.ask(f"POST / HTTP/1.1\nHost: a\nContent-Length: {size}", body)
        assert answer.body == b"POST / %d" % size
        request = origin.requests[0]
        assert (request.body, request.get("content-length")) == (body, str(size))
        assert "transfer-encoding" not in request.names


def test_request_with_chunks_and_trailer(balancer: Balancer, origin: Origin) -> None:
    body = chunked(b"one", b"two" * 40000, trailer=b"X-Sum: 7\r\nContent-Length: 3\r\n")
    with origin.serving(answering(echo)), balancer.connect() as client:
        head = "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: Chunked\nTrailer: X-Sum"
        assert client.ask(head, body).body == b"POST / 120003"
        request = origin.requests[0]
        assert request.body == b"one" + b"two" * 40000
        assert request.trailer == b"X-Sum: 7\r\n"
        assert "content-length" not in request.names
        assert client.ask("GET /next HTTP/1.1\nHost: a").body == b"GET /next 0"


def test_chunk_extensions_end_here(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        message = Message(visit.head())
        visit.note(message._replace(body=visit.until(b"0\r\n\r\n")))
        visit.send(ok())

    with origin.serving(script), balancer.connect() as client:
        body = b'5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n'
        assert client.ask("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked", body).status == 200
        assert origin.requests[0].body == b"5\r\nhello\r\n0\r\n\r\n"


# -- answers ---------------------------------------------------------------------------------------


def test_chunked_answer_with_trailer(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        while True:
            visit.request()
            head = lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Sum")
            visit.send(head + chunked(b"a" * 10, b"b" * 100000, trailer=b"X-Sum: 1\r\n"))

    with origin.serving(script):
        with balancer.connect() as client:
            for _ in range(2):
                answer = client.ask("GET / HTTP/1.1\nHost: a")
                assert answer.body == b"a" * 10 + b"b" * 100000
                assert answer.trailer == b"X-Sum: 1\r\n"
        with balancer.connect() as client:
            answer = client.ask("GET / HTTP/1.0")  # which does not know chunks
            assert answer.body == b"a" * 10 + b"b" * 100000
            assert "transfer-encoding" not in answer.names
        assert len(origin.visits) == 1


def test_answer_that_ends_with_the_connection(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n", b"part", b"z" * 200000)

    with origin.serving(script):
        with balancer.connect() as client:
            for _ in range(2):  # to this client its end is told by chunks, so it can go on
                answer = client.ask("GET / HTTP/1.1\nHost: a")
                assert answer.get("transfer-encoding") == "chunked"
                assert answer.body == b"part" + b"z" * 200000
        with balancer.connect() as client:
            answer = client.ask("GET / HTTP/1.0\nConnection: keep-alive")
            assert answer.body == b"part" + b"z" * 200000
            assert answer.get("connection") == "close"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_that_never_have_a_body(balancer: Balancer, origin: Origin, status: str) -> None:
    def answer(request: Message) -> bytes:
        length = "" if status.startswith("204") else "Content-Length: 5"
        return lines(f"HTTP/1.1 {status}\nETag: x\n{length}".strip())

    with origin.serving(answering(answer)), balancer.connect() as client:
        for _ in range(3):
            answer_ = client.ask("GET / HTTP/1.1\nHost: a")
            assert (answer_.status, answer_.body) == (int(status[:3]), b"")
            assert answer_.get("etag") == "x"
        assert len(origin.visits) == 1


def test_head_has_the_length_and_no_body(balancer: Balancer, origin: Origin) -> None:
    def answer(request: Message) -> bytes:
        if request.target == "/chunked":
            return lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked")
        return lines("HTTP/1.1 200 OK\nContent-Length: 12345")

    with origin.serving(answering(answer)), balancer.connect() as client:
        for _ in range(2):
            assert client.ask("HEAD / HTTP/1.1\nHost: a").get("content-length") == "12345"
            assert client.ask("HEAD /chunked HTTP/1.1\nHost: a").status == 200
        assert len(origin.visits) == 1


def test_backend_that_says_more_than_it_announced_is_not_asked_again(
    balancer: Balancer, origin: Origin
) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(ok(b"ab") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        for _ in range(3):
            assert client.ask("GET / HTTP/1.1\nHost: a").body == b"ab"
        assert len(origin.visits) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\n\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_an_ambiguous_answer_is_502(balancer: Balancer, origin: Origin, answer: bytes) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(answer)
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        for _ in range(2):  # and the client's connection is kept
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 502
        assert len(origin.visits) == 2


def test_broken_off_answers_never_look_whole(balancer: Balancer, origin: Origin) -> None:
    parts = {
        "/length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        "/defect": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    }

    def script(visit: Visit) -> None:
        target = visit.request().target
        visit.send(parts[target])
        if target == "/defect":
            assert begun.wait(20)  # once the client has the head, it is too late for a 502
            visit.send(b"xyz\r\n")

    with origin.serving(script):
        for path in parts:
            begun = threading.Event()
            with balancer.connect() as client:
                client.send(get(path, "Connection: close"))
                received = b""
                try:
                    while data := client.more():
                        received += data
                        begun.set()
                except ConnectionResetError:
                    pass
                head, _, rest = received.partition(b"\r\n\r\n")
                assert not head or head.startswith(b"HTTP/1.1 200 OK")
                assert not rest.endswith(b"0\r\n\r\n")
                assert len(rest) < 100


# -- 1xx, Expect -----------------------------------------------------------------------------------


def test_interim_answers_reach_1_1_clients_only(balancer: Balancer, origin: Origin) -> None:
    def answer(request: Message) -> bytes:
        early = lines("HTTP/1.1 103 Early Hints\nLink: </a.css>")
        return early + lines("HTTP/1.1 102 Processing") + ok(b"done")

    with origin.serving(answering(answer)):
        with balancer.connect() as client:
            for _ in range(2):
                client.send(get())
                first, second, last = client.answer(), client.answer(), client.answer()
                assert (first.status, first.get("link")) == (103, "</a.css>")
                assert (second.status, last.status, last.body) == (102, 200, b"done")
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.0").body == b"done"


def test_expect_is_forwarded_and_the_body_waits_for_100(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        message = Message(visit.head())
        assert message.get("expect") == "100-continue"
        visit.send(lines("HTTP/1.1 100 Continue"))
        visit.note(visit.request_body(message))
        visit.send(ok(b"thanks"))
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        client.send(lines("POST / HTTP/1.1\nHost: a\nContent-Length: 5\nExpect: 100-continue"))
        assert client.answer().status == 100
        client.send(b"hello")
        assert client.answer().body == b"thanks"
        assert origin.requests[0].body == b"hello"


def test_expect_refused_by_the_origin_before_the_body(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(ok(b"too big", status="413 Content Too Large"))
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        client.send(lines("POST / HTTP/1.1\nHost: a\nContent-Length: 5000000\nExpect: 100-continue"))
        answer = client.answer()
        assert (answer.status, answer.body, answer.get("connection")) == (413, b"too big", "close")
        assert client.at_end()


def test_expect_from_http_1_0_is_ignored(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(lines("POST / HTTP/1.0\nContent-Length: 2\nExpect: 100-continue") + b"ab")
        assert client.answer().body == b"POST / 2"
        assert "expect" not in origin.requests[0].names


# -- early answers and leaving ---------------------------------------------------------------------


def test_early_answer_reaches_a_client_that_is_still_sending(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(ok(b"enough", status="413 Content Too Large"))
        answered.set()
        visit.rest()

    answered = threading.Event()
    with origin.serving(script), balancer.connect() as client:
        client.send(lines("POST / HTTP/1.1\nHost: a\nContent-Length: 500000"))
        assert answered.wait(20)
        for _ in range(5):  # the client does not look for an answer before it has sent everything
            client.send(b"x" * 100000)
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"enough")
        assert answer.get("connection") == "close"
        assert client.at_end()


def test_early_answer_with_a_body_that_streams_while_the_request_does(
    balancer: Balancer, origin: Origin
) -> None:
    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked"))
        for _ in range(3):
            assert visit.exactly(4) == b"ping"
            visit.send(b"4\r\npong\r\n")
        visit.send(b"0\r\n\r\n")

    with origin.serving(script), balancer.connect() as client:
        client.send(lines("POST / HTTP/1.1\nHost: a\nContent-Length: 12"))
        for number in range(3):
            client.send(b"ping")
            if number == 0:
                assert Message(client.head()).status == 200
            assert client.until(b"pong\r\n") == b"4\r\npong\r\n"
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_fin_of_the_client_after_its_request_is_no_abort(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        client.finish()
        eventually(lambda: peer_has_finished(balancer, client), "the FIN is there")
        visit.send(ok(b"still delivered"))
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        client.send(get("/half-close"))
        assert client.answer().body == b"still delivered"
        assert client.at_end()
    assert balancer.line("/half-close")["termination"] == "--"


def peer_has_finished(balancer: Balancer, client: Wire) -> bool:
    """Whether the client's FIN is acknowledged: its socket is in FIN-WAIT-2."""
    return client.sock.getsockopt(6, 11, 1) == b"\x05"  # IPPROTO_TCP, TCP_INFO: the state; 5 = FIN_WAIT2


def test_fin_of_the_client_between_pipelined_requests(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(get("/1") + get("/2") + get("/3"))
        client.finish()
        assert [client.answer().body for _ in range(3)] == [b"GET /1 0", b"GET /2 0", b"GET /3 0"]
        assert client.at_end()


def test_fin_within_a_body_ends_the_exchange(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(lines("POST /cut HTTP/1.1\nHost: a\nContent-Length: 10") + b"half")
        visit = origin.visit()
        client.finish()
        assert visit.over.wait(20)  # the backend connection is closed, too
        assert visit.requests == []
        assert client.answer().status == 400
        assert client.at_end()


def test_reset_of_the_client_ends_the_exchange(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.rest()  # until txlb leaves
        visit.left = "closed"

    with origin.serving(script):
        client = balancer.connect()
        client.send(get("/reset"))
        visit = origin.visit()
        eventually(lambda: visit.requests, "the request")
        client.reset()
        assert visit.over.wait(20)
        assert visit.left is not None
    line = balancer.line("/reset")
    assert (line["termination"], line["status"]) == ("CH", None)


# -- upgrade ---------------------------------------------------------------------------------------

UPGRADE = (
    "Connection: keep-alive, Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x\nSec-WebSocket-Version: 13"
)
SWITCH = "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Accept: y"


def test_upgrade_makes_a_tunnel_with_half_close(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        request = visit.request()
        assert (request.get("upgrade"), request.get("connection")) == ("websocket", "Upgrade")
        visit.send(lines(SWITCH) + b"first words")
        assert visit.exactly(5) == b"hello"
        visit.finish()  # the origin has nothing more to say
        visit.note(Message(b"", visit.rest()))

    with origin.serving(script), balancer.connect() as client:
        client.send(lines(f"GET /ws HTTP/1.1\nHost: a\n{UPGRADE}"))
        answer = client.answer()
        assert (answer.status, answer.get("sec-websocket-accept")) == (101, "y")
        assert client.exactly(11) == b"first words"
        client.send(b"hello")
        assert client.at_end()
        client.send(b"a" * 300000)  # while the client has
        client.finish()
        eventually(lambda: len(origin.requests) == 2, "all of it at the origin")
        assert origin.requests[1].body == b"a" * 300000
    assert balancer.line("/ws")["status"] == 101


def test_half_close_of_the_client_in_a_tunnel(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(lines(SWITCH))
        data = visit.rest()
        visit.send(b"got %d" % len(data))

    with origin.serving(script), balancer.connect() as client:
        client.send(lines(f"GET /ws2 HTTP/1.1\nHost: a\n{UPGRADE}") + b"sent at once")
        assert client.answer().status == 101
        client.finish()
        assert client.rest() == b"got 12"


def test_upgrade_refused_by_the_origin_leaves_http(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask(f"GET /no HTTP/1.1\nHost: a\n{UPGRADE}").body == b"GET /no 0"
        assert client.ask("GET /next HTTP/1.1\nHost: a").body == b"GET /next 0"


def test_other_upgrades_are_not_asked_for(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.ask(
            "GET / HTTP/1.1\nHost: a\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAA"
        )
        assert not {"upgrade", "http2-settings", "connection"} & origin.requests[0].names


# -- fields ----------------------------------------------------------------------------------------


def test_fields_pass_with_case_and_order(balancer: Balancer, origin: Origin) -> None:
    mixed = [
        "X-B: 1",
        "x-a:2",
        "X-b:   3\t",
        "Cookie: a=b; c=d",
        "Cookie: e=f",
        "ACCEPT: \x80\xff",
        "X-Empty:",
    ]
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(("GET / HTTP/1.1\r\nHost: a\r\n" + "\r\n".join(mixed) + "\r\n\r\n").encode("latin-1"))
        assert client.answer().status == 200
        ours = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}
        arrived = [(name, value) for name, value in origin.requests[0].fields if name.lower() not in ours]
        assert arrived == [("Host", "a")] + [
            (name, value.strip(" \t")) for name, _, value in (one.partition(":") for one in mixed)
        ]


def test_hop_by_hop_fields_end_here(balancer: Balancer, origin: Origin) -> None:
    def answer(request: Message) -> bytes:
        return ok(
            b"", "Connection: X-Mine, keep-alive", "X-Mine: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x"
        )

    with origin.serving(answering(answer)), balancer.connect() as client:
        for _ in range(2):
            reply = client.ask(
                """GET / HTTP/1.1
                Host: a
                Connection: X-Secret, X-Forwarded-For, Host
                X-Secret: 1
                Keep-Alive: timeout=9
                Proxy-Connection: keep-alive
                TE: trailers
                X-Kept: 2"""
            )
            assert reply.names == {"content-length"}
        for request in origin.requests:
            assert request.names == {
                "host",
                "x-kept",
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
            }
            assert request.get("x-forwarded-for") == "127.0.0.1"


def test_max_forwards_is_counted_down(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.ask("OPTIONS / HTTP/1.1\nHost: a\nMax-Forwards: 7")
        client.ask("GET / HTTP/1.1\nHost: a\nMax-Forwards: 7")
        assert [request.get("max-forwards") for request in origin.requests] == ["6", "7"]
        assert client.ask("OPTIONS / HTTP/1.1\nHost: a\nMax-Forwards: 0").status == 200
        assert len(origin.requests) == 2
