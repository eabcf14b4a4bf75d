"""`txlb.control.api.site`: over real connections, what no route has to think of."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.admin import READ_TOKEN, WRITE_TOKEN, Admin, token_file
from support.http import exchange
from support.processes import pause
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource

from txlb.control.api import site
from txlb.control.api.app import AdminApi
from txlb.control.api.audit import AuditLog
from txlb.control.api.failures import LIMIT
from txlb.control.api.guard import Guard
from txlb.core.model import AdminSpec

AdminOn = Callable[[AdminSpec | str], Admin]
ROUTES = [
    (method, re.sub("<[^>]*>", "x", rule.rule))
    for rule in AdminApi.app.url_map.iter_rules()
    for method in sorted(rule.methods or ())
    if method not in ("HEAD", "OPTIONS")
]


@pytest.fixture
def audit() -> Any:
    """The audit lines of this test."""
    lines: list[dict[str, Any]] = []

    def observe(event: Any) -> None:
        if event["log_namespace"] == "txlb.audit":
            lines.append(json.loads(event["line"]))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def guarded(admin_on: AdminOn, tmp_path: Path) -> Admin:
    one = admin_on(AdminSpec("127.0.0.1:0", token_file(tmp_path)))
    pytest_twisted.blockon(one.started)
    return one


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("POST", "/nowhere"), ("GET", "/nowhere")])
@pytest_twisted.ensureDeferred
async def test_every_route_asks_for_a_token(guarded: Admin, method: str, path: str):
    body = None if method in ("GET", "DELETE") else b"{}"
    assert (await guarded.call(method, path, body=body)).status == 401
    wrong = await guarded.call(method, path, "x" * 43, body)
    assert wrong.status == 401
    assert "www-authenticate" in wrong.fields
    assert b"lb-1" not in wrong.body
    reader = (await guarded.call(method, path, READ_TOKEN, body)).status
    assert reader == 403 if method != "GET" else reader not in (401, 403)
    assert (await guarded.call(method, path, WRITE_TOKEN, body)).status not in (401, 403, 415)
    for refused in ({"Host": "evil.test"}, {"Origin": "https://evil.test"}):
        assert (await guarded.call(method, path, WRITE_TOKEN, body, **refused)).status == 403
    if body is not None:
        form = await guarded.call(method, path, WRITE_TOKEN, body, Content_Type="text/plain")
        assert form.status == 415


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost:9900/health", "evil.test", 200),  # the authority of the target counts
        ("HTTP://localhost/health?", "localhost", 200),
        ("http://localhost", "localhost", 404),
        ("http://localhost/nowhere", "localhost", 404),
        ("http://evil.test/health", "localhost", 403),
        ("http://user:secret@localhost/health", "localhost", 400),
        ("http:///health", "localhost", 400),
        ("health", "localhost", 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_target_may_be_a_url(
    guarded: Admin, audit: list[dict[str, Any]], target: str, host: str, status: int
):
    assert (await guarded.call("GET", target, READ_TOKEN, Host=host)).status == status
    assert (await guarded.call("POST", target, WRITE_TOKEN, b"{}", Host=host)).status in (status, 405)
    assert all(line["path"] in ("/", "/health", "/nowhere", "-") for line in audit)
    assert "secret" not in str(audit)


@pytest_twisted.ensureDeferred
async def test_a_url_does_not_stand_for_a_host_field_that_is_not_one(admin: Admin):
    head = b"GET http://localhost/health HTTP/1.1\r\nConnection: close\r\n"
    for hosts, status in ((b"", 403), (b"Host: localhost\r\n" * 2, 403), (b"Host: localhost\r\n", 200)):
        assert (await exchange(admin.address, head + hosts + b"\r\n")).status == status


@pytest_twisted.ensureDeferred
async def test_too_many_wrong_tokens_from_one_address(guarded: Admin, audit: list[dict[str, Any]]):
    for _ in range(LIMIT):
        assert (await guarded.call("GET", "/health", "guess")).status == 401
    blocked = await guarded.call("GET", "/health", READ_TOKEN)
    assert blocked.status == 429
    assert 0 < int(blocked.fields["retry-after"]) <= 60
    assert [line["status"] for line in audit] == [401] * LIMIT + [429]


@pytest_twisted.ensureDeferred
async def test_every_attempt_is_written_down_without_secrets(guarded: Admin, audit: list[dict[str, Any]]):
    await guarded.call("GET", "/health", READ_TOKEN)
    await guarded.call("GET", f"/nowhere?token={WRITE_TOKEN}", READ_TOKEN)
    await guarded.call("POST", "/health", READ_TOKEN, b"{}")
    await guarded.call("POST", "/health", WRITE_TOKEN, b"{}")
    await guarded.call("POST", "/health", WRITE_TOKEN, b"{}", Host="evil.test")
    await guarded.call("GET", "/metrics")
    told = [(line["who"], line["method"], line["path"], line["status"], line["result"]) for line in audit]
    assert told == [
        ("reader", "GET", "/nowhere", 404, "refused"),
        ("reader", "POST", "/health", 403, "refused"),
        ("operator", "POST", "/health", 405, "refused"),
        (None, "POST", "/health", 403, "refused"),
        (None, "GET", "/metrics", 401, "refused"),
    ]
    assert all(line["from"].startswith("127.0.0.1:") for line in audit)
    assert READ_TOKEN not in str(audit)
    assert WRITE_TOKEN not in str(audit)


@pytest_twisted.ensureDeferred
async def test_a_deep_body_is_refused_before_any_route(admin: Admin):
    answer = await admin.call("POST", "/health", body=b"[" * 1000)
    assert answer.status == 400
    assert "nests deeper" in answer.json["errors"][0]["detail"]


@pytest.mark.parametrize("token", [None, WRITE_TOKEN])
@pytest_twisted.ensureDeferred
async def test_a_gibibyte_is_refused_at_its_head(
    guarded: Admin, audit: list[dict[str, Any]], token: str | None
):
    """The answer comes although nobody sends the body; without a token it is not even weighed."""
    answer = await guarded.call("POST", "/backends", token, Content_Length=str(1 << 30))
    assert answer.status == (401 if token is None else 413)
    assert answer.json["status"] == answer.status
    assert answer.fields["connection"] == "close"
    assert [(line["method"], line["path"], line["status"]) for line in audit] == [
        ("POST", "/backends", answer.status)
    ]


@pytest_twisted.ensureDeferred
async def test_who_goes_on_sending_is_not_read(guarded: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site, "LINGER", 0.3)

    def flood() -> tuple[bytes, int]:
        with socket.create_connection(("127.0.0.1", guarded.address)) as one:
            one.settimeout(10)
            one.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n")
            answer = one.recv(65536)
            sent = 0
            try:
                while sent < 1 << 30:
                    sent += one.send(b"x" * 65536)
            except OSError:
                pass
            return answer, sent

    answer, sent = await deferToThread(flood)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert sent < 64 << 20  # what fits into two kernel buffers


@pytest_twisted.ensureDeferred
async def test_a_request_that_trickles_has_a_deadline(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site, "RECEIVE", 0.3)

    def trickle() -> int:
        with socket.create_connection(("127.0.0.1", admin.address)) as one:
            one.settimeout(0.05)
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
            for count in range(200):
                try:
                    one.send(b"x")
                    if not one.recv(1):
                        return count
                except TimeoutError:
                    pass
                except OSError:
                    return count
        return 200

    assert await deferToThread(trickle) < 200
    assert (await admin.call("GET", "/health")).status == 200


@pytest_twisted.ensureDeferred
async def test_the_deadline_is_for_each_request_and_not_for_its_answer(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(site, "RECEIVE", 0.6)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ask() -> int:
        answered = 0
        with socket.create_connection(("127.0.0.1", admin.address)) as one:
            one.settimeout(5)
            for _ in range(4):
                one.sendall(request)
                answered += one.recv(65536).startswith(b"HTTP/1.1 200")
                time.sleep(0.3)
        return answered

    assert await deferToThread(ask) == 4


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_is_written_down(
    admin: Admin, audit: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    with socket.create_connection(("127.0.0.1", admin.address)) as one:
        one.sendall(b"POST /backends HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        await pause(0.1)
    await pause(0.1)
    assert [(line["path"], line["status"], line["result"]) for line in audit] == [("/backends", None, "gone")]


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_for_its_group_and_names_the_user(
    admin_on: AdminOn, tmp_path: Path, audit: list[dict[str, Any]]
):
    path = tmp_path / "admin.sock"
    admin = admin_on(AdminSpec(f"unix:{path}", token_file(tmp_path)))
    await admin.started
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert (await admin.call("GET", "/health")).status == 401
    assert (await admin.call("GET", "/health", READ_TOKEN)).status == 200
    assert [line["from"] for line in audit] == [f"unix:uid={os.getuid()}"]


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_are_answered_in_order(admin: Admin, audit: list[dict[str, Any]]):
    one = b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n"
    two = b"GET /two HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await exchange(admin.address, one + two)).status == 404
    assert [line["path"] for line in audit] == ["/one", "/two"]


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "BREW"])
@pytest_twisted.ensureDeferred
async def test_methods_that_nothing_has_are_405(admin: Admin, method: str):
    answer = await admin.call(method, "/backends")
    assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD, POST")
    assert answer.json["status"] == 405


@pytest.mark.parametrize(
    ("path", "status"), [("/backends/%FF", 400), ("/backends//a", 404), ("/backends/a/", 404)]
)
@pytest_twisted.ensureDeferred
async def test_strange_paths_are_problems(admin: Admin, path: str, status: int):
    answer = await admin.call("GET", path)
    assert (answer.status, answer.fields["content-type"]) == (status, "application/problem+json")
    assert answer.json["status"] == status


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health HTTP/9.9\r\n\r\n", 400),
        (b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nno colon\r\nnor here\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 600 + b"\r\n", 400),
        (b"POST /reload HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"GET /" + b"x" * 20000, 414),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20000, 431),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_http_is_a_problem_too(
    admin: Admin, audit: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, request_: bytes, status: int
):
    """Answered once, with a body, and written down; twisted.web would say the bare status or nothing."""
    monkeypatch.setattr(site, "LINGER", 0.1)
    answer = await exchange(admin.address, request_)
    assert (answer.status, answer.fields["content-type"]) == (status, "application/problem+json")
    assert answer.json["title"] in ("Bad Request", HTTPStatus(status).phrase)
    assert [(line["status"], line["result"]) for line in audit] == [(status, "refused")]
    assert (await admin.call("GET", "/health")).status == 200


@pytest_twisted.ensureDeferred
async def test_who_is_refused_is_not_asked_for_the_body(admin: Admin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site, "LINGER", 0.1)
    answer = await admin.call("POST", "/backends", Content_Length=str(1 << 30), Expect="100-continue")
    assert answer.status == 413
    assert answer.json["status"] == 413  # nothing behind it


@pytest_twisted.ensureDeferred
async def test_stopping_ends_idle_connections(admin: Admin):
    with socket.create_connection(("127.0.0.1", admin.address)) as one:
        await pause(0.1)
        admin.listener._site.disconnect()
        one.settimeout(5)
        assert await deferToThread(one.recv, 1) == b""


def test_nothing_of_it_runs_while_nobody_asks() -> None:
    clock = Clock()
    idle = site.AdminSite(
        Resource(), Guard(None, (), clock.seconds), AuditLog(clock.seconds, time.time), clock
    )
    idle.doStart()
    assert clock.getDelayedCalls() == []
    idle.doStop()
