"""Limits and deadlines: each with its own answer, on the wire."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, answering, echo, eventually
from support.wire import Message, Wire, chunked, get, lines, ok

LINE, HEAD, FIELDS, BODY = 1024, 4096, 20, 100_000
SETTINGS = {
    "limits": {"request_line": "1KiB", "head": "4KiB", "fields": FIELDS, "body": f"{BODY}B"},
    "timeouts": {
        "client_header": "1s",
        "client_body": "1s",
        "client_idle": "1s",
        "send": "1s",
        "backend_response": "1s",
    },
    "error_responses": {
        "431": {"content_type": "text/html; charset=utf-8", "body": "<p>too much – of it</p>"},
        "404": {"body": "nothing"},
    },
}
BIG = 64 << 20

Start = Callable[..., Balancer]


def refusal(client: Wire, status: int) -> Message:
    """The answer, which must be one of txlb's own with ``status``, and the end."""
    answer = client.answer()
    assert answer.status == status, answer
    assert answer.get("connection") == "close"
    assert answer.names <= {"content-type", "content-length", "connection", "cache-control", "allow", "date"}
    assert client.at_end()
    return answer


# -- what is refused -------------------------------------------------------------------------------

BAD = {
    400: [
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\na",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n" + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    417: [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\na"],
    501: [
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
    505: [b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
}


@pytest.mark.parametrize("status", BAD)
def test_malformed_requests_are_refused(balancer: Balancer, origin: Origin, status: int) -> None:
    with origin.serving(answering(echo)):
        for request in BAD[status]:
            with balancer.connect() as client:
                client.send(request + get("/smuggled"))
                try:
                    refusal(client, status)
                except AssertionError as error:
                    raise AssertionError(request) from error
        assert origin.visits == []


def test_malformed_chunks_are_refused(balancer: Balancer, origin: Origin) -> None:
    head = lines("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked")
    with origin.serving(answering(echo)):
        for body in [
            b"1\nabc\r\n0\r\n\r\n",
            b"1\r\nab\r\n0\r\n\r\n",
            b"1 \r\na\r\n0\r\n\r\n",
            b"-1\r\na\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"1;a\nb\r\na\r\n0\r\n\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"\r\n\r\n",
            b"11111111111111111\r\na\r\n",
            b"1\r\na\r\n0\r\nX y: z\r\n\r\n",
            b"1\r\na\r\n0\r\nX: y\n\r\n\r\n",
        ]:
            with balancer.connect() as client:
                client.send(head + body + get("/smuggled"))
                refusal(client, 400)
        assert origin.requests == []


def test_request_line_too_long_is_414(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)):
        longest = "/" + "x" * (LINE - len("GET / HTTP/1.1"))
        with balancer.connect() as client:
            assert client.ask(f"GET {longest} HTTP/1.1\nHost: a").status == 200
        for more in [get(longest + "x"), b"GET /" + b"x" * (2 * LINE), b"x" * (2 * LINE)]:
            with balancer.connect() as client:
                client.send(more)
                refusal(client, 414)


def test_head_too_large_is_431(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)):
        for more in [
            get("/", "X: " + "y" * HEAD),
            get("/", *[f"X{number}: y" for number in range(FIELDS)]),
            get("/", "X: " + "y" * HEAD)[:-2],
        ]:
            with balancer.connect() as client:
                client.send(more)
                answer = refusal(client, 431)
                assert answer.body.decode() == "<p>too much – of it</p>"
                assert answer.get("content-type") == "text/html; charset=utf-8"
        with balancer.connect() as client:
            client.send(get("/", *[f"X{number}: y" for number in range(FIELDS - 1)]))
            assert client.answer().status == 200


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_body_too_large_is_413(balancer: Balancer, origin: Origin, way: str) -> None:
    with origin.serving(answering(echo)):
        with balancer.connect() as client:
            body = b"x" * BODY
            if way == "length":
                client.send(lines(f"POST / HTTP/1.1\nHost: a\nContent-Length: {BODY}") + body)
            else:
                client.send(lines("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked") + chunked(body))
            assert client.answer().body == b"POST / %d" % BODY
        with balancer.connect() as client:
            if way == "length":
                client.send(lines(f"POST /{way} HTTP/1.1\nHost: a\nContent-Length: {BODY + 1}"), body, b"x")
            else:
                client.send(
                    lines(f"POST /{way} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked"), chunked(body, b"x")
                )
            refusal(client, 413)
        assert [request.target for request in origin.requests] == ["/"]
    assert balancer.line(f"/{way}")["termination"] == "PB"


def test_no_rule_is_404_as_configured(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer(
        [origin.port],
        routing_rules=[{"host": "known.example", "backends": ["b0"]}],
        error_responses=SETTINGS["error_responses"],
    )
    with origin.serving(answering(echo)), balancer.connect() as client:
        answer = client.ask("GET / HTTP/1.1\nHost: other.example")
        assert (answer.status, answer.body) == (404, b"nothing")
        assert client.ask("HEAD / HTTP/1.1\nHost: other.example").get("content-length") == "7"
        assert client.ask("GET / HTTP/1.1\nHost: KNOWN.example.:81").status == 200  # the connection was kept


# -- deadlines -------------------------------------------------------------------------------------


def test_slow_head_is_408_however_it_trickles(balancer: Balancer, origin: Origin) -> None:
    with balancer.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n")
        trickling = threading.Event()

        def trickle() -> None:
            number = 0
            while not trickling.wait(0.1):
                number += 1
                try:
                    client.send(b"X-%d: y\r\n" % number)
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert client.answer().status == 408
        finally:
            trickling.set()
            thread.join()
    assert balancer.logged(1, lambda line: line["status"] == 408 and line["termination"] == "cR")


def test_idle_clients_are_closed_without_a_word(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)):
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
            assert client.at_end()
        with balancer.connect() as client:
            assert client.at_end()


def test_slow_body_is_408(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(lines("POST /slow-body HTTP/1.1\nHost: a\nContent-Length: 100") + b"some")
        assert client.answer().status == 408
        assert client.at_end()
        assert origin.visit().over.wait(20)
    assert balancer.line("/slow-body")["termination"] == "cB"


def test_slow_reader_is_cut_off(balancer: Balancer, origin: Origin) -> None:
    with (
        origin.serving(answering(lambda _: ok(b"z" * BIG))),
        balancer.connect(receive_buffer=4096) as client,
    ):
        client.send(get("/slow-reader"))
        line = balancer.line("/slow-reader")
        assert (line["termination"], line["status"]) == ("cD", 200)
        assert line["bytes_out"] < BIG
        eventually(lambda: balancer.connections() == 0, "the client is gone")
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_backend_that_takes_nothing_is_504(origin: Origin, start_balancer: Start) -> None:
    def script(visit: Visit) -> None:
        visit.over.wait(20)  # reads nothing

    balancer = start_balancer([origin.port], timeouts={"send": "1s", "client_body": "1s"})
    with origin.serving(script), balancer.connect() as client:
        client.send(lines(f"POST /unread HTTP/1.1\nHost: a\nContent-Length: {BIG}"))

        def push() -> None:
            try:
                client.send(b"x" * BIG)
            except OSError:
                pass

        pushing = threading.Thread(target=push)
        pushing.start()
        line = balancer.line("/unread")
        assert (line["termination"], line["status"]) == ("sB", 504)
        pushing.join()  # txlb has closed
        origin.visits[0].over.set()


def test_silent_backend_is_504(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        answer = client.ask("GET /silent HTTP/1.1\nHost: a")
        assert (answer.status, answer.body) == (504, b"504 Gateway Timeout\n")
    assert balancer.line("/silent")["termination"] == "sH"


# -- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 0])
def test_connections_beyond_the_limit_wait_and_none_is_dropped(
    origin: Origin, start_balancer: Start, workers: int
) -> None:
    limit, total = 5, 40
    balancer = start_balancer([origin.port], workers=workers, limits={"max_connections": limit})
    with origin.serving(answering(echo)), ExitStack() as stack:
        clients = [stack.enter_context(balancer.connect()) for _ in range(total)]
        for number, client in enumerate(clients):
            client.send(get(f"/{number}"))
        for number, client in enumerate(clients[:limit]):
            assert client.answer().body == b"GET /%d 0" % number
        eventually(lambda: balancer.connections() == limit, "as many as allowed")
        for number, client in enumerate(clients[limit:], limit):
            clients[number - limit].close()  # room for the next one
            assert client.answer().body == b"GET /%d 0" % number
            assert balancer.connections() <= limit
        assert len(balancer.logged(total)) == total


def test_without_descriptors_accepting_pauses_and_resumes(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port])
    (worker,) = balancer.worker_pids()
    with origin.serving(answering(echo)), ExitStack() as stack:
        first = stack.enter_context(balancer.connect())
        assert first.ask("GET /first HTTP/1.1\nHost: a").status == 200
        before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, before[1]))  # fewer than are open
        waiting = [stack.enter_context(balancer.connect()) for _ in range(50)]
        for number, client in enumerate(waiting):
            client.send(get(f"/{number}"))
        start, cpu = balancer.metric("txlb_accept_pauses_total"), balancer.cpu()
        eventually(lambda: balancer.metric("txlb_accept_pauses_total") >= start + 5, "pauses")
        assert balancer.cpu() - cpu < 0.5  # 5 pauses take a second: a loop that spins uses all of it
        assert first.ask("GET /still HTTP/1.1\nHost: a").body == b"GET /still 0"
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        for number, client in enumerate(waiting):
            assert client.answer().body == b"GET /%d 0" % number
        assert len(balancer.logged(52)) == 52


def test_few_descriptors_from_the_start(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], prefix=["prlimit", "--nofile=128:128"])
    with origin.serving(answering(echo)), ExitStack() as stack:
        clients = [stack.enter_context(balancer.connect()) for _ in range(300)]
        for number, client in enumerate(clients):
            client.send(lines(f"GET /{number} HTTP/1.1\nHost: a\nConnection: close"))
        for number, client in enumerate(clients):
            assert client.answer().body == b"GET /%d 0" % number
        eventually(lambda: balancer.connections() == 0, "all served")
