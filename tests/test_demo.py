"""The demo, as shipped: three backends in turn through the real forwarding plane."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.http import get
from support.ports import free_port

from txlb.control.balancer import LoadBalancer
from txlb.demo import demo


@pytest.fixture
def started(running_reactor: Any, nothing_left: None, capsys: Any) -> Iterator[LoadBalancer]:
    binds = {"listener": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"}
    service = demo(running_reactor, owns_process=False, **binds)
    service.privilegedStartService()
    service.startService()
    yield service
    pytest_twisted.blockon(service.stopService())


def port_of(bind: str | None) -> int:
    assert bind is not None
    return int(bind.rpartition(":")[2])


@pytest_twisted.ensureDeferred
async def test_answers_name_three_backends_in_turn(started: LoadBalancer):
    port = port_of(started.node.snapshot.listeners[0].bind[0])
    answers = [(await get(port)).body.decode() for _ in range(6)]
    assert set(answers) == {f"Hello from backend demo-{number}\n" for number in (1, 2, 3)}
    assert answers[:3] == answers[3:]


@pytest_twisted.ensureDeferred
async def test_the_admin_api_names_the_backends(started: LoadBalancer):
    while not started.node.serving:
        await get(port_of(started.node.snapshot.admin.bind), "/health")
    answer = await get(port_of(started.node.snapshot.admin.bind), "/health")
    assert set(answer.json["backend_health"]) == {"demo-1", "demo-2", "demo-3"}
