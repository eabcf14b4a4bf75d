"""`txlb.control.api.reads`: connections in pages, the effective configuration."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
import pytest_twisted
from support.admin import Admin
from support.processes import pause

from txlb.config.load import loads


@pytest.fixture
def clients(admin: Admin) -> Iterator[list[socket.socket]]:
    """Three of the stand-in's."""
    host, _, port = admin.node.sockets.addresses("127.0.0.1:0").rpartition(":")
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(3)]
    pytest_twisted.blockon(pause_soon())


def pause_soon() -> object:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(pause(0.05))


@pytest_twisted.ensureDeferred
async def test_a_connection_has_exactly_the_fields_of_the_contract(
    admin: Admin, clients: list[socket.socket]
):
    await pause(0.1)
    answer = await admin.call("GET", "/connections?limit=1")
    (first,) = answer.json["connections"]
    assert first == {
        "connection_id": "1-101",
        "client_ip": "127.0.0.1",
        "client_port": clients[0].getsockname()[1],
        "listener": "web",
        "backend_id": "a",
        "backend_connection_id": "1-201",
        "session_id": None,
        "created_at": "1970-01-01T00:00:01.500Z",
        "last_activity_at": "1970-01-01T00:00:02.250Z",
        "bytes_in": 3,
        "bytes_out": 4,
    }
    assert answer.fields["cache-control"] == "no-store"


@pytest_twisted.ensureDeferred
async def test_pages_lead_to_the_end(admin: Admin, clients: list[socket.socket]):
    await pause(0.1)
    found: list[str] = []
    following, pages = "", 0
    while following is not None:
        page = (await admin.call("GET", f"/connections?limit=2&next={following}")).json
        found += [one["connection_id"] for one in page["connections"]]
        following, pages = page["next"], pages + 1
    assert found == ["1-101", "1-102", "1-103"]
    assert pages == 2
    assert (await admin.call("GET", "/connections")).json["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "next=x",
        "next=0.1",
        "next=1.1.1",
        "next=-1.0",
        "limt=5",
        "x",
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_pages_are_refused(admin: Admin, query: str):
    assert (await admin.call("GET", f"/connections?{query}")).status == 400


@pytest_twisted.ensureDeferred
async def test_a_page_behind_the_last_worker_is_empty(admin: Admin):
    answer = await admin.call("GET", "/connections?next=99.5")
    assert answer.json == {"connections": [], "next": None}


@pytest_twisted.ensureDeferred
async def test_the_configuration_is_the_one_in_force(admin: Admin):
    answer = await admin.call("GET", "/config")
    assert answer.fields["content-type"] == "application/yaml; charset=utf-8"
    again = loads(answer.body, {}).snapshot
    in_force = admin.node.snapshot
    assert replace(again, generation=in_force.generation) == in_force
