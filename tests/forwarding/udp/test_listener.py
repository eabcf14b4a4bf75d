"""`txlb.forwarding.udp.listener`, on a whole plane: reloads, drains, the end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.datagrams import received, udp_network, udp_socket
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txlb.core.model import (
    AccessLogSpec,
    BackendSpec,
    ListenerSpec,
    RuleSpec,
    Snapshot,
    TimeoutsSpec,
    UdpSpec,
)
from txlb.core.scoreboard import LISTENER, WORKER, Columns
from txlb.core.standing import Standing
from txlb.forwarding.plane import ForwardingPlane
from txlb.net.sockets import bind_udp

WIDTH = 1 << 17


class Scene:
    """A plane with one UDP listener, two backends of the test's, and a client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.row = memoryview(bytearray(8 * WIDTH)).cast("q")
        self.plane = ForwardingPlane(reactor, self.row, "worker-1")
        self.backends = [udp_socket(), udp_socket()]
        self.client = udp_socket()
        self.columns = Columns(WIDTH)
        self.apply(
            Snapshot(
                generation=1,
                access_log=AccessLogSpec(str(path), "json"),
                listeners=(ListenerSpec("dns", ("127.0.0.1:0",), "udp"),),
                backends=tuple(
                    BackendSpec(f"b{index}", "127.0.0.1", sock.getsockname()[1], address="127.0.0.1")
                    for index, sock in enumerate(self.backends)
                ),
                rules=(RuleSpec("rule", ("b0", "b1"), ("dns",)),),
                timeouts=TimeoutsSpec(shutdown=1.0),
            )
        )
        (self.sock,) = bind_udp("127.0.0.1:0")
        self.plane.listen("dns", [self.sock.dup()])
        self.plane.start()

    def apply(self, snapshot: Snapshot) -> None:
        self.snapshot = replace(snapshot, generation=snapshot.generation + 1)
        self.columns = Columns.for_snapshot(self.snapshot, self.columns)
        self.plane.apply(self.snapshot, self.columns)

    def listener(self, name: str) -> int:
        return self.row[self.columns.listeners["dns"] + LISTENER.index(name)]

    async def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10.0
        while not condition():
            assert time.monotonic() < deadline, "the condition does not come about"
            await deferLater(reactor, 0.01)

    async def ask(self, data: bytes) -> str:
        """The id of the backend that answered."""
        self.client.sendto(data, self.sock.getsockname())
        found: list[str] = []

        def answered() -> bool:
            for index, sock in enumerate(self.backends):
                for got, flow in received(sock):
                    sock.sendto(got, flow)
                    if got == data:
                        found.append(f"b{index}")
            return bool(found) and bool(received(self.client))

        await self.until(answered)
        return found[0]

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def close(self) -> None:
        self.plane.abort()
        for sock in (*self.backends, self.client, self.sock):
            sock.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    one = Scene(tmp_path / "access.log")
    yield one
    one.close()


@pytest_twisted.ensureDeferred
async def test_flows_are_counted_for_all_to_see(scene: Scene) -> None:
    await scene.ask(b"?")
    await scene.until(lambda: scene.row[WORKER.index("connections")] == 1)
    assert [scene.listener(name) for name in ("connections", "datagrams_in", "datagrams_out")] == [1, 1, 1]


@pytest_twisted.ensureDeferred
async def test_a_drain_that_is_over_moves_flows_with_their_next_datagram(scene: Scene) -> None:
    first = await scene.ask(b"a")
    scene.plane.set_standings([Standing(first, drained=True, drain_until=time.monotonic() + 60.0)])
    assert await scene.ask(b"b") == first
    scene.plane.set_standings([Standing(first, drained=True, drain_until=time.monotonic())])
    await deferLater(reactor, 0.3)
    assert await scene.ask(b"c") != first


@pytest_twisted.ensureDeferred
async def test_an_unhealthy_backends_flows_move(scene: Scene) -> None:
    first = await scene.ask(b"a")
    scene.plane.set_standings([Standing(first, healthy=False)])
    assert await scene.ask(b"b") != first


@pytest_twisted.ensureDeferred
async def test_a_reload_takes_effect_and_keeps_flows(scene: Scene) -> None:
    first = await scene.ask(b"a")
    (listener,) = scene.snapshot.listeners
    scene.apply(replace(scene.snapshot, listeners=(replace(listener, udp=UdpSpec(max_responses=1)),)))
    assert await scene.ask(b"b") == first
    await scene.until(lambda: scene.listener("connections") == 0)


@pytest_twisted.ensureDeferred
async def test_a_smaller_table_is_smaller_at_once(scene: Scene) -> None:
    await scene.ask(b"a")
    other = scene.client
    scene.client = udp_socket()
    await scene.ask(b"b")
    other.close()
    (listener,) = scene.snapshot.listeners
    scene.apply(replace(scene.snapshot, listeners=(replace(listener, udp=UdpSpec(max_flows=1)),)))
    await scene.until(lambda: scene.listener("connections") == 1)
    assert scene.listener("flows_evicted") == 1


@pytest_twisted.ensureDeferred
async def test_a_listener_may_change_its_protocol(scene: Scene) -> None:
    await scene.ask(b"a")
    (listener,) = scene.snapshot.listeners
    scene.plane.stop_listening("dns")
    scene.apply(replace(scene.snapshot, listeners=(replace(listener, protocol="http"),)))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.create_connection(tcp.getsockname()) as one:
        tcp.setblocking(False)
        scene.plane.listen("dns", [tcp.dup()])
        one.setblocking(False)
        one.send(b"nonsense\r\n\r\n")

        def refused() -> bool:
            try:
                return one.recv(100).startswith(b"HTTP/1.1 400")
            except BlockingIOError:
                return False

        await scene.until(refused)


@pytest_twisted.ensureDeferred
async def test_a_stop_waits_for_answers_that_are_on_their_way(scene: Scene) -> None:
    scene.client.sendto(b"slow?", scene.sock.getsockname())
    found: list[tuple[bytes, Any]] = []

    def arrived() -> bool:
        for sock in scene.backends:
            found.extend(received(sock))
        return bool(found)

    await scene.until(arrived)
    stopped: Deferred[None] = scene.plane.shutdown(20.0)
    await deferLater(reactor, 0.3)
    assert not stopped.called
    scene.backends[0].sendto(b"not yours", found[0][1])  # only one of the two is connected
    scene.backends[1].sendto(b"not yours", found[0][1])
    await scene.until(lambda: len(received(scene.client)) == 1)
    await stopped
    (line,) = scene.log()
    assert (line["datagrams_in"], line["datagrams_out"], line["termination"]) == (1, 1, "--")


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_stop_ends_flows_that_never_rest(scene: Scene) -> None:
    await scene.ask(b"a")
    stopped: Deferred[None] = scene.plane.shutdown(0.2)
    await stopped
    (line,) = scene.log()
    assert (line["termination"], line["reason"]) == ("K-", "shutdown")


def test_all_idle_flows_are_ended() -> None:
    with udp_network(idle=1.0) as udp:
        for number in range(1, 60):
            client = udp.client(f"127.0.0.{number}")
            udp.ask(client, b"?")
            client.close()
        assert udp.listener.connections == 59
        udp.elapse(3.0)
        assert udp.listener.connections == 0
        assert [line["reason"] for line in udp.logged()] == ["flow_idle"] * 59
