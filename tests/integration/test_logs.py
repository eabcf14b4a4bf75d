"""The access log: a line per exchange, with the fields and termination codes of docs/access-log.md."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, answering, echo, eventually
from support.ports import free_port
from support.wire import Ended, Message, chunked, get, lines, ok

PAGE = (Path(__file__).parents[2] / "docs" / "access-log.md").read_text()
KEYS = [
    key
    for row in re.findall(r"^\| (`[^|]*`) \| [^|]* \|$", PAGE.split("## `json`")[1].split("### TCP")[0], re.M)
    for key in re.findall(r"`(\w+)`", row)
]
CODES = {
    (code, reason or None)
    for code, reason in re.findall(r"^\| `(..)` \| (?:`(\w+)`)? ?\| ", PAGE, re.MULTILINE)
}
UPGRADE = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x"
SWITCH = "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket"
BIG = 64 << 20


@contextmanager
def unreachable() -> Iterator[int]:
    """A port where connections neither open nor fail: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
def balancer(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    with unreachable() as hole:
        ports = {"origin": origin.port, "closed": free_port(), "hole": hole, "idle": free_port()}
        backends = [
            {"id": name, "host": "127.0.0.1", "port": port, "health_check": "off"}
            for name, port in ports.items()
        ]
        backends[-1]["weight"] = 0
        with Balancer(
            tmp_path_factory.mktemp("txlb"),
            limits={"request_line": "1KiB", "body": "100KiB", "head": "4KiB"},
            timeouts={
                "connect": "1s",
                "client_header": "1s",
                "client_body": "1s",
                "send": "1s",
                "backend_response": "1s",
                "tunnel_idle": "1s",
            },
            backends=backends,
            routing_rules=[{"id": name, "path_prefix": f"/{name}", "backends": [name]} for name in ports],
        ) as one:
            yield one


def ended(line: dict[str, Any]) -> tuple[str, str | None, int | None]:
    assert (line["termination"], line["reason"]) in CODES
    assert list(line) == KEYS
    return line["termination"], line["reason"], line["status"]


def silent(visit: Visit) -> None:
    visit.request()
    visit.rest()


# -- in order ----------------------------------------------------------------------------------------


def test_the_page_has_been_read() -> None:
    assert len(KEYS) > 20
    assert len(CODES) > 25


def test_the_fields_of_an_exchange_in_order(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answering(echo)), balancer.connect() as client:
        request = lines("POST /origin/a?b=c HTTP/1.1\nHost: Example.com:81\nContent-Length: 3") + b"abc"
        before = datetime.now(UTC)
        client.send(request)
        head = client.head()
        body = client.exactly(len(b"POST /origin/a?b=c 3"))
        client.send(request.replace(b"/a?b=c", b"/again"))
        assert client.answer().status == 200
        port = client.sock.getsockname()[1]
    first, second = balancer.line("/origin/a?b=c"), balancer.line("/origin/again")
    assert ended(first) == ended(second) == ("--", None, 200)
    when = datetime.strptime(first["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs((when - before).total_seconds()) < 20
    assert first["connect_ms"] is not None
    assert 0 <= first["connect_ms"] <= first["first_byte_ms"] <= first["total_ms"]
    assert first | {"time": "", "connect_ms": 0, "first_byte_ms": 0, "total_ms": 0} == {
        "time": "",
        "worker": "worker-1",
        "listener": "web",
        "rule": "origin",
        "client_ip": "127.0.0.1",
        "client_port": port,
        "method": "POST",
        "target": "/origin/a?b=c",
        "host": "example.com",
        "version": "HTTP/1.1",
        "status": 200,
        "bytes_in": len(request),
        "bytes_out": len(head + body),
        "backend": "origin",
        "tries": 1,
        "reused": False,
        "connect_ms": 0,
        "first_byte_ms": 0,
        "total_ms": 0,
        "termination": "--",
        "reason": None,
    }
    assert (second["reused"], second["connect_ms"]) == (True, None)


def test_what_clients_write_cannot_forge_lines(balancer: Balancer, origin: Origin) -> None:
    target = '/origin/"},{\\u000a\\"x'
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask(f"GET {target} HTTP/1.1\nHost: a").status == 200
    assert ended(balancer.line(target)) == ("--", None, 200)


# -- txlb and the client -------------------------------------------------------------------------------

REFUSED = {
    "bad_request": (b"GET /origin/x HTTP/1.1\r\n\r\n", "PR", 400),
    "request_too_large": (get("/origin/large", "X: " + "y" * 5000), "PR", 431),
    "no_rule": (get("/nothing"), "PR", 404),
    "bad_request_body": (
        lines("POST /origin/body HTTP/1.1\nHost: a\nTransfer-Encoding: chunked") + b"xyz\r\n",
        "PB",
        400,
    ),
    "body_too_large": (lines("POST /origin/much HTTP/1.1\nHost: a\nContent-Length: 999999"), "PB", 413),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_txlb_refuses(balancer: Balancer, origin: Origin, reason: str) -> None:
    request, code, status = REFUSED[reason]
    with origin.serving(silent), balancer.connect() as client:
        client.send(request)
        assert client.answer().status == status
    (line,) = balancer.logged(1, lambda line: line["reason"] == reason)
    assert ended(line) == (code, reason, status)
    assert line["bytes_out"] > 0
    if reason == "no_rule":
        assert (line["rule"], line["backend"], line["tries"]) == (None, None, 0)


def one_line(balancer: Balancer, before: int) -> dict[str, Any]:
    """The line after the first ``before`` ones."""
    found = balancer.logged(before + 1)
    assert len(found) == before + 1
    return found[-1]


def test_client_leaves_in_the_head(balancer: Balancer, origin: Origin) -> None:
    before = len(balancer.log())
    with balancer.connect() as client:
        client.send(b"GET /origin/cut HT")
        client.finish()
        client.rest()
    assert ended(one_line(balancer, before))[:2] == ("CR", "client_abort")


def test_client_leaves_in_the_body(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(silent):
        client = balancer.connect()
        client.send(lines("POST /origin/body-cut HTTP/1.1\nHost: a\nContent-Length: 9") + b"some")
        origin.visit()
        client.reset()
        line = balancer.line("/origin/body-cut")
    assert ended(line) == ("CB", "client_abort", None)


def test_client_leaves_before_a_backend_is_reached(balancer: Balancer) -> None:
    client = balancer.connect()
    client.send(get("/hole/left"))
    eventually(lambda: balancer.metric("txlb_backend_connections", backend="hole") == 1, "it connects")
    client.reset()
    line = balancer.line("/hole/left")
    assert ended(line) == ("CC", "client_abort", None)
    assert (line["backend"], line["connect_ms"], line["first_byte_ms"]) == ("hole", None, None)


def test_client_leaves_while_it_waits(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(silent):
        client = balancer.connect()
        client.send(get("/origin/waited"))
        eventually(lambda: origin.requests, "the request is there")
        client.reset()
        line = balancer.line("/origin/waited")
    assert ended(line) == ("CH", "client_abort", None)


def test_client_leaves_in_the_answer(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(lines("HTTP/1.1 200 OK\nContent-Length: 100") + b"some")
        visit.rest()

    with origin.serving(script):
        client = balancer.connect()
        client.send(get("/origin/answer-cut"))
        client.exactly(len(lines("HTTP/1.1 200 OK\nContent-Length: 100")) + 4)
        client.reset()
        line = balancer.line("/origin/answer-cut")
    assert ended(line) == ("CD", "client_abort", 200)


def test_slow_clients(balancer: Balancer, origin: Origin) -> None:
    before = len(balancer.log())
    with balancer.connect() as client:
        client.send(b"GET /origin/slow-head HTTP/1.1\r\n")
        assert client.answer().status == 408
        assert ended(one_line(balancer, before)) == ("cR", "header_timeout", 408)
    with origin.serving(answering(lambda _: ok(b"z" * BIG))):
        with balancer.connect() as client:
            client.send(lines("POST /origin/slow-body HTTP/1.1\nHost: a\nContent-Length: 9") + b"some")
            assert client.answer().status == 408
            assert ended(balancer.line("/origin/slow-body")) == ("cB", "body_timeout", 408)
        with balancer.connect(receive_buffer=4096) as client:
            client.send(get("/origin/slow-reader"))
            assert ended(balancer.line("/origin/slow-reader")) == ("cD", "send_timeout", 200)


# -- the backend -----------------------------------------------------------------------------------------

UNREACHED = {
    "/idle/x": ("SC", "no_backend", 503),
    "/closed/x": ("SC", "connect_refused", 502),
    "/hole/x": ("sC", "connect_timeout", 504),
}


@pytest.mark.parametrize("target", UNREACHED)
def test_backends_that_are_not_reached(balancer: Balancer, target: str) -> None:
    with balancer.connect() as client:
        assert client.ask(f"GET {target} HTTP/1.1\nHost: a").status == UNREACHED[target][2]
    line = balancer.line(target)
    assert ended(line) == UNREACHED[target]
    assert (line["connect_ms"], line["first_byte_ms"]) == (None, None)


def answers(*pieces: bytes) -> Callable[[Visit], None]:
    """A script that reads a head, sends pieces and closes."""

    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(*pieces)

    return script


def keeps_open(*pieces: bytes) -> Callable[[Visit], None]:
    """Like `answers`, but does not close."""

    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(*pieces)
        visit.rest()

    return script


def resets(*pieces: bytes) -> Callable[[Visit], None]:
    """Like `answers`, but closes with a RST."""

    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(*pieces)
        visit.reset()

    return script


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"
BROKEN = {
    "closed": (answers(), "SH", "backend_reset", 502),
    "closed-in-head": (answers(b"HTTP/1.1 200 OK\r\nX"), "SH", "backend_reset", 502),
    "reset": (resets(), "SH", "backend_reset", 502),
    "closed-in-data": (answers(HALF), "SD", "backend_reset", 200),
    "reset-in-data": (resets(HALF), "SD", "backend_reset", 200),
    "silent": (keeps_open(), "sH", "backend_timeout", 504),
    "silent-in-data": (keeps_open(HALF), "sD", "backend_timeout", 200),
    "no-http": (keeps_open(b"SSH-2.0-x\r\n\r\n"), "PH", "bad_response", 502),
    "large-head": (keeps_open(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000), "PH", "bad_response", 502),
    "bad-first-chunk": (
        keeps_open(lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"xyz\r\n"),
        "PH",
        "bad_response",
        502,
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_backends_that_break(balancer: Balancer, origin: Origin, how: str) -> None:
    script, *expected = BROKEN[how]
    with origin.serving(script), balancer.connect() as client:
        client.send(get(f"/origin/{how}"))
        try:
            message = Message(client.head())
            client.rest() if message.status == 200 else client.exactly(
                int(message.get("content-length") or 0)
            )
        except (ConnectionResetError, Ended):
            pass
        line = balancer.line(f"/origin/{how}")
    assert ended(line) == tuple(expected)
    assert (line["backend"], line["tries"]) == ("origin", 1)


def test_backend_whose_chunks_go_wrong(balancer: Balancer, origin: Origin) -> None:
    begun = threading.Event()

    def script(visit: Visit) -> None:
        visit.request()
        visit.send(lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked") + b"1\r\na\r\n")
        assert begun.wait(20)
        visit.send(b"xyz\r\n")
        visit.rest()

    with origin.serving(script), balancer.connect() as client:
        client.send(get("/origin/bad-chunk"))
        assert client.until(b"1\r\na\r\n")
        begun.set()
        line = balancer.line("/origin/bad-chunk")
    assert ended(line) == ("PD", "bad_response_body", 200)


def test_backend_leaves_while_the_request_is_sent(balancer: Balancer, origin: Origin) -> None:
    with origin.serving(answers()), balancer.connect() as client:
        client.send(lines("POST /origin/left HTTP/1.1\nHost: a\nContent-Length: 9") + b"some")
        assert client.answer().status == 502
        line = balancer.line("/origin/left")
    assert ended(line) == ("SB", "backend_reset", 502)


# -- tunnels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("client", ("CT", "client_abort")),
        ("backend", ("ST", "backend_reset")),
        ("idle", ("PT", "tunnel_idle")),
        ("order", ("--", None)),
    ],
)
def test_tunnels(balancer: Balancer, origin: Origin, how: str, expected: tuple[str, str | None]) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        visit.send(lines(SWITCH))
        assert visit.exactly(4) == b"ping"
        if how == "backend":
            visit.reset()
        else:
            visit.rest()

    with origin.serving(script):
        client = balancer.connect()
        client.send(lines(f"GET /origin/{how} HTTP/1.1\nHost: a\n{UPGRADE}"))
        assert client.answer().status == 101
        client.send(b"ping")
        if how == "client":
            client.reset()
        elif how == "order":
            client.finish()
            assert client.at_end()
        line = balancer.line(f"/origin/{how}")
        client.close()
    assert ended(line) == (*expected, 101)
    assert line["bytes_in"] > 4


# -- formats ---------------------------------------------------------------------------------------


def test_common_format(origin: Origin, start_balancer: Callable[..., Balancer]) -> None:
    path = "common.log"
    balancer = start_balancer([origin.port], access_log={"path": path, "format": "common"})
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask("GET /a?b HTTP/1.1\nHost: a").status == 200
    file = balancer.folder / path
    eventually(lambda: file.exists() and file.read_bytes().endswith(b"\n"), "a line")
    pattern = r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a\?b HTTP/1\.1" 200 \d+\n'
    assert re.fullmatch(pattern, file.read_text())


def test_no_log(origin: Origin, start_balancer: Callable[..., Balancer]) -> None:
    balancer = start_balancer([origin.port], access_log={"path": "access.log", "format": "off"})
    with origin.serving(answering(echo)), balancer.connect() as client:
        client.send(lines("POST /x HTTP/1.1\nHost: a\nTransfer-Encoding: chunked") + chunked(b"abc"))
        assert client.answer().status == 200
    balancer.stop()
    assert balancer.log() == []
