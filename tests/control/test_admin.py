"""`txlb.control.admin` and the API behind it, over real connections: what is answered and what is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.admin import Admin
from support.http import exchange, get
from support.ports import listening_socket
from support.processes import pause

from txlb.control.admin import AdminListener
from txlb.control.api.site import MAX_BODY, MAX_CONNECTIONS
from txlb.core.model import AdminSpec
from txlb.core.scoreboard import LISTENER, WORKER
from txlb.errors import ListenError

AdminOn = Callable[[AdminSpec | str], Admin]


@pytest_twisted.ensureDeferred
async def test_health_has_exactly_the_fields_of_the_contract(admin: Admin):
    scoreboard = admin.node.scoreboard
    assert scoreboard is not None
    scoreboard.row(0)[WORKER.index("connections")] = 3
    answer = await get(admin.address, "/health")
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    assert answer.fields["x-content-type-options"] == "nosniff"
    rate = answer.json.pop("requests_per_sec")
    assert rate >= 0
    assert {**answer.json, "requests_per_sec": 0} == {
        "load_balancer_id": "lb-1",
        "role": "ACTIVE",
        "active_connections": 3,
        "requests_per_sec": 0,
        "backend_health": {"a": "HEALTHY"},
        "generation": 1,
    }


@pytest_twisted.ensureDeferred
async def test_the_rate_is_that_of_all_listeners(admin: Admin):
    scoreboard = admin.node.scoreboard
    assert scoreboard is not None
    scoreboard.row(0)[scoreboard.columns.listeners["web"] + LISTENER.index("requests")] = 10
    assert (await get(admin.address, "/health")).json["requests_per_sec"] > 0


@pytest_twisted.ensureDeferred
async def test_health_is_503_while_draining_and_before_serving(admin: Admin):
    admin.node.draining = True
    assert (await get(admin.address, "/health")).status == 503
    admin.node.draining, admin.node.serving = False, False
    assert (await get(admin.address, "/health")).status == 503


@pytest_twisted.ensureDeferred
async def test_metrics_come_in_the_format_asked_for(admin: Admin):
    plain = await get(admin.address, "/metrics")
    assert plain.fields["content-type"].startswith("text/plain")
    assert b"txlb_config_generation 1.0" in plain.body
    fancy = await get(admin.address, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert fancy.body.endswith(b"# EOF\n")


@pytest_twisted.ensureDeferred
async def test_errors_are_problems(admin: Admin):
    unknown = await get(admin.address, "/nothing")
    wrong = await get(admin.address, "/health", method="DELETE")
    for answer, status in ((unknown, 404), (wrong, 405)):
        assert answer.status == answer.json["status"] == status
        assert answer.fields["content-type"] == "application/problem+json"
        assert answer.fields["x-content-type-options"] == "nosniff"
        assert answer.json["errors"][0]["detail"]
    assert "GET" in wrong.fields["allow"]


@pytest_twisted.ensureDeferred
async def test_a_fault_of_ours_is_a_500_without_details(admin: Admin, logged_failures: list[Any]):
    rate, admin.node.rate = admin.node.rate, "no rate"  # type: ignore[assignment]
    answer = await get(admin.address, "/health")
    admin.node.rate = rate
    assert answer.status == 500
    assert b"per_second" not in answer.body
    assert len(logged_failures) == 1
    logged_failures.clear()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9900", "127.0.0.1", "127.9.9.9:1", "[::1]:9900"])
@pytest_twisted.ensureDeferred
async def test_hosts_of_the_loopback_are_answered(admin: Admin, host: str):
    assert (await get(admin.address, "/health", host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.test", "127.evil.test", "localhost.evil.test", "", "10.0.0.1", "[::1", "a:b:c"]
)
@pytest_twisted.ensureDeferred
async def test_other_hosts_are_refused(admin: Admin, host: str):
    answer = await get(admin.address, "/health", host=host)
    assert answer.status == 403
    assert b"lb-1" not in answer.body


@pytest_twisted.ensureDeferred
async def test_no_host_at_all_is_refused(admin: Admin):
    assert (await exchange(admin.address, b"GET /health HTTP/1.0\r\n\r\n")).status == 403


@pytest.mark.parametrize(
    ("origin", "status"), [("http://evil.test", 403), ("null", 403), ("http://localhost:9900", 200)]
)
@pytest_twisted.ensureDeferred
async def test_foreign_origins_are_refused(admin: Admin, origin: str, status: int):
    assert (await get(admin.address, "/health", Origin=origin)).status == status


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n%s\r\n" % (b"x" * 65536) * (MAX_BODY // 65536 + 2),
    ],
    ids=["counted", "chunked"],
)
@pytest_twisted.ensureDeferred
async def test_a_large_body_is_refused_while_it_arrives(admin: Admin, body: bytes):
    try:
        answer = await exchange(admin.address, b"POST /health HTTP/1.1\r\nHost: localhost\r\n" + body)
        assert answer.status == 413
    except (ConnectionResetError, BrokenPipeError):
        pass  # it was still sending: the connection is gone, which is refusal enough
    assert (await get(admin.address, "/health")).status == 200


@pytest_twisted.ensureDeferred
async def test_there_is_a_limit_to_connections(admin: Admin):
    idle = [socket.create_connection(("127.0.0.1", admin.address)) for _ in range(MAX_CONNECTIONS)]
    await pause(0.1)
    with socket.create_connection(("127.0.0.1", admin.address)) as refused:
        refused.setblocking(False)
        await pause(0.1)
        assert refused.recv(1) == b""
    for one in idle:
        one.close()
    await pause(0.1)
    assert (await get(admin.address, "/health")).status == 200


@pytest_twisted.ensureDeferred
async def test_on_a_unix_socket_any_host_will_do(admin_on: AdminOn, tmp_path: Path):
    path = str(tmp_path / "admin.sock")
    admin = admin_on(f"unix:{path}")
    await admin.started
    assert (await get(path, "/health", host="anything")).status == 200
    await admin.listener.stop()
    assert not os.path.exists(path)


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9900"])
def test_what_others_can_reach_is_refused(bind: str):
    with pytest.raises(ListenError, match="others can reach it"):
        AdminListener(AdminSpec(bind)).bind()


def test_an_address_in_use_is_refused():
    with listening_socket() as taken, pytest.raises(ListenError, match="already in use"):
        AdminListener(AdminSpec(f"127.0.0.1:{taken.getsockname()[1]}")).bind()
