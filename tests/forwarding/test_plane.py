from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from support.dataplane import SMALL_BUFFER, Origin, Peer, get, ok, post
from support.tls import Authority, TlsPeer, backend_spec
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txlb.core.backend import Backend
from txlb.core.model import (
    AccessLogSpec,
    AlgorithmSpec,
    BackendSpec,
    ErrorResponseSpec,
    IdleConnectionsSpec,
    LimitsSpec,
    ListenerSpec,
    RuleSpec,
    Snapshot,
    TimeoutsSpec,
)
from txlb.core.scoreboard import BACKEND, LISTENER, RULE, WORKER, Columns
from txlb.core.standing import Standing
from txlb.forwarding.client import BackendProtocol
from txlb.forwarding.descriptors import RESERVED
from txlb.forwarding.plane import ForwardingPlane

WIDTH = 1 << 17


class Scene:
    """A plane on the test's reactor, listening once, with backends of the test's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.row = memoryview(bytearray(8 * WIDTH)).cast("q")
        self.origins = [Origin(), Origin()]
        self.clients: list[Peer] = []
        self.reports: list[tuple[str, str]] = []
        self.plane = ForwardingPlane(reactor, self.row, "worker-1", self.reports.extend)
        self.snapshot = Snapshot(
            generation=1,
            access_log=AccessLogSpec(str(path), "json"),
            listeners=(ListenerSpec("web", ("127.0.0.1:0",)),),
            backends=tuple(self.backend(index) for index in range(2)),
            rules=(RuleSpec("rule", ("b0", "b1")),),
            timeouts=TimeoutsSpec(shutdown=1.0),
        )
        self.columns = Columns(WIDTH)
        self.apply()
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.sock.setblocking(False)
        self.address = self.sock.getsockname()
        self.plane.listen("web", [self.sock.dup()])
        self.plane.start()
        self.over = False

    def backend(self, index: int, **changes: Any) -> BackendSpec:
        spec = BackendSpec(f"b{index}", "127.0.0.1", self.origins[index].port, address="127.0.0.1")
        return replace(spec, **changes)

    def apply(self, **changes: Any) -> None:
        """The next generation."""
        self.snapshot = replace(self.snapshot, generation=self.snapshot.generation + 1, **changes)
        self.columns = Columns.for_snapshot(self.snapshot, self.columns)
        self.plane.apply(self.snapshot, self.columns)

    def worker(self, name: str) -> int:
        return self.row[WORKER.index(name)]

    def listener(self, name: str, id: str = "web") -> int:
        return self.row[self.columns.listeners[id] + LISTENER.index(name)]

    def rule(self, name: str) -> int:
        return self.row[self.columns.rules["rule"] + RULE.index(name)]

    def of_backend(self, index: int, name: str) -> int:
        return self.row[self.columns.backends[f"b{index}"] + BACKEND.index(name)]

    def client(self, data: bytes = b"") -> Peer:
        peer = Peer(socket.create_connection(self.address))
        self.clients.append(peer)
        peer.send(data)
        return peer

    async def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(2000):
            for origin in self.origins:
                origin.accept()
                for peer in origin.peers:
                    peer.poll()
            for peer in self.clients:
                peer.poll()
            if condition():
                return
            await deferLater(reactor, 0.003, lambda: None)
        raise AssertionError("the condition does not come about")

    async def ticks(self, count: int = 2) -> None:
        """So many ticks more: counters are on the board."""
        before = self.worker("ticks")
        await self.until(lambda: self.worker("ticks") >= before + count)

    async def asked(self, client: Peer, data: bytes) -> Peer:
        """``client`` asks; the backend connection that heard it."""
        for origin in self.origins:
            for peer in origin.peers:
                peer.take()
        client.send(data)
        await self.until(lambda: self._hearing())
        peer = self._hearing()
        assert peer is not None
        return peer

    def _hearing(self) -> Peer | None:
        for origin in self.origins:
            for peer in origin.peers:
                if peer.data:
                    return peer
        return None

    async def served(self, client: Peer, data: bytes = b"", answer: bytes = b"") -> Peer:
        backend = await self.asked(client, data or get())
        backend.take()
        before = len(client.data)
        backend.send(answer or ok(b"x"))
        await self.until(lambda: len(client.data) > before)
        return backend

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def shutdown(self, timeout: float) -> list[None]:
        """Begin to; the list gets an item when that has ended."""
        self.over = True
        done: list[None] = []
        self.plane.shutdown(timeout).addCallback(done.append)
        return done

    def close(self) -> None:
        if not self.over:
            self.plane.abort()
        self.sock.close()
        for peer in (*self.clients, *(peer for origin in self.origins for peer in origin.peers)):
            peer.close()
        for origin in self.origins:
            origin.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "access.log")
    yield scene
    scene.close()


# -- serving and books ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_it_serves_and_keeps_its_books(scene: Scene) -> None:
    client = scene.client()
    for _ in range(4):
        await scene.served(client, post(b"body"))
    await scene.ticks()
    assert scene.worker("generation") == scene.snapshot.generation
    assert scene.worker("connections") == scene.listener("connections") == 1
    assert scene.listener("requests") == scene.rule("requests") == scene.rule("code_2xx") == 4
    assert [scene.of_backend(index, "requests") for index in range(2)] == [2, 2]
    assert [scene.of_backend(index, "idle") for index in range(2)] == [1, 1]
    assert [scene.of_backend(index, "active") for index in range(2)] == [0, 0]
    assert scene.worker("heartbeat_ms") > 0
    client.close()
    await scene.until(lambda: scene.worker("connections") == scene.listener("connections") == 0)
    assert scene.listener("connections_total") == 1
    await scene.until(lambda: len(scene.records()) == 4)
    assert {record["worker"] for record in scene.records()} == {"worker-1"}


@pytest_twisted.ensureDeferred
async def test_the_tick_fires_deadlines(scene: Scene) -> None:
    scene.apply(timeouts=TimeoutsSpec(client_header=0.3))
    client = scene.client(get()[:5])
    await scene.until(lambda: client.ending)
    assert client.data.startswith(b"HTTP/1.1 408 ")


@pytest_twisted.ensureDeferred
async def test_the_tick_measures_how_late_it_is(scene: Scene) -> None:
    await scene.ticks()
    time.sleep(0.25)
    await scene.ticks()
    assert scene.worker("loop_lag_max_us") >= 100_000
    assert scene.worker("loop_lag_total_us") >= scene.worker("loop_lag_max_us")


@pytest_twisted.ensureDeferred
async def test_connections_can_be_listed_page_by_page(scene: Scene) -> None:
    clients = [scene.client() for _ in range(5)]
    await scene.until(lambda: len(scene.plane.connections(0, 10)) == 5)
    backend = await scene.asked(clients[0], get())
    found = scene.plane.connections(0, 10)
    assert {item["client_port"] for item in found} == {client.sock.getsockname()[1] for client in clients}
    assert {item["listener"] for item in found} == {"web"}
    assert sorted(str(item["backend_id"]) for item in found) == [
        *(["None"] * 4),
        "b0" if backend in scene.origins[0].peers else "b1",
    ]
    pages: list[Any] = []
    while page := scene.plane.connections(pages[-1] if pages else 0, 2):
        assert len(page) <= 2
        pages += [item["descriptor"] for item in page]
    assert pages == sorted(item["descriptor"] for item in found)
    backend.send(ok(b"x"))


@pytest_twisted.ensureDeferred
async def test_the_log_is_reopened(scene: Scene) -> None:
    client = scene.client()
    await scene.served(client)
    await scene.until(lambda: scene.path.exists() and scene.records())
    moved = scene.path.rename(scene.path.with_suffix(".1"))
    scene.plane.reopen_logs()
    await scene.served(client)
    await scene.until(lambda: scene.path.exists() and scene.records())
    assert len(moved.read_text().splitlines()) == len(scene.records()) == 1


# -- a new configuration ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_stays_keeps_identity_counters_and_connections(scene: Scene) -> None:
    client = scene.client()
    for _ in range(2):
        await scene.served(client)
    under_way = await scene.asked(client, get("/long"))
    scene.apply(timeouts=TimeoutsSpec(client_idle=5.0))
    under_way.send(ok(b"still answered"))
    await scene.until(lambda: client.data.endswith(b"still answered"))
    assert client.ending == ""
    await scene.served(client)
    await scene.ticks()
    assert sum(len(origin.peers) for origin in scene.origins) == 2, "idle connections stayed"
    assert scene.listener("requests") == scene.rule("requests") == 4
    assert scene.of_backend(0, "requests") + scene.of_backend(1, "requests") == 4


@pytest_twisted.ensureDeferred
async def test_a_backend_that_left_gets_no_more_and_its_idle_connections_close(scene: Scene) -> None:
    client = scene.client()
    for _ in range(2):
        await scene.served(client)
    scene.apply(backends=(scene.backend(1),), rules=(RuleSpec("rule", ("b1",)),))
    await scene.until(lambda: scene.origins[0].last.ending)
    assert not scene.origins[1].last.ending
    for _ in range(3):
        assert await scene.served(client) is scene.origins[1].last


@pytest_twisted.ensureDeferred
async def test_a_backend_that_left_finishes_what_it_has_begun(scene: Scene) -> None:
    scene.apply(backends=(scene.backend(0),), rules=(RuleSpec("rule", ("b0",)),))
    client = scene.client()
    backend = await scene.asked(client, get())
    scene.apply(backends=(scene.backend(1),), rules=(RuleSpec("rule", ("b1",)),))
    backend.send(ok(b"last words"))
    await scene.until(lambda: client.data.endswith(b"last words"))


@pytest_twisted.ensureDeferred
async def test_a_backend_that_left_keeps_no_connection_afterwards(scene: Scene) -> None:
    scene.apply(backends=(scene.backend(0),), rules=(RuleSpec("rule", ("b0",)),))
    client = scene.client()
    backend = await scene.asked(client, get())
    scene.apply(backends=(scene.backend(1),), rules=(RuleSpec("rule", ("b1",)),))
    backend.send(ok(b"last words"))
    await scene.until(lambda: backend.ending)


@pytest_twisted.ensureDeferred
async def test_a_backend_that_moved_is_reached_at_its_new_place(scene: Scene) -> None:
    scene.apply(backends=(scene.backend(0),), rules=(RuleSpec("rule", ("b0",)),))
    client = scene.client()
    old = await scene.served(client)
    scene.apply(backends=(scene.backend(0, port=scene.origins[1].port),))
    await scene.until(lambda: old.ending)
    assert await scene.served(client) in scene.origins[1].peers
    await scene.ticks()
    assert scene.of_backend(0, "requests") == 2, "its counters belong to its id"


@pytest_twisted.ensureDeferred
async def test_a_backend_that_moved_under_an_exchange_is_not_met_at_its_old_place(scene: Scene) -> None:
    scene.apply(backends=(scene.backend(0),), rules=(RuleSpec("rule", ("b0",)),))
    client = scene.client()
    old = await scene.asked(client, get())
    scene.apply(backends=(scene.backend(0, port=scene.origins[1].port),))
    old.send(ok(b"x"))
    await scene.until(lambda: client.data)
    assert await scene.served(client) in scene.origins[1].peers
    await scene.until(lambda: old.ending)


@pytest_twisted.ensureDeferred
async def test_a_weight_of_zero_means_no_new_traffic(scene: Scene) -> None:
    scene.apply(backends=(scene.backend(0, weight=0), scene.backend(1)))
    client = scene.client()
    for _ in range(3):
        assert await scene.served(client) in scene.origins[1].peers


@pytest_twisted.ensureDeferred
async def test_a_backend_whose_host_does_not_resolve_is_not_chosen(scene: Scene) -> None:
    scene.apply(backends=(scene.backend(0, address=""), scene.backend(1, address="")))
    client = scene.client(get())
    await scene.until(lambda: client.data)
    assert client.data.startswith(b"HTTP/1.1 503 ")


@pytest_twisted.ensureDeferred
async def test_rules_and_error_answers_change(scene: Scene) -> None:
    client = scene.client()
    await scene.served(client, get("/other"))
    scene.apply(
        rules=(RuleSpec("rule", ("b0",), path_prefix="/api"),),
        error_responses=(ErrorResponseSpec(404, "text/html", "<p>nothing here"),),
    )
    client.take()
    client.send(get("/other"))
    await scene.until(lambda: client.data)
    assert client.data.startswith(b"HTTP/1.1 404 ") and client.data.endswith(b"<p>nothing here")
    assert b"Content-Type: text/html\r\n" in client.data
    await scene.served(client, get("/api/x"))


@pytest_twisted.ensureDeferred
async def test_rules_of_another_listener_do_not_apply(scene: Scene) -> None:
    scene.apply(
        listeners=(*scene.snapshot.listeners, ListenerSpec("other", ("127.0.0.1:1",))),
        rules=(RuleSpec("rule", ("b0",), listeners=("other",)),),
    )
    client = scene.client(get())
    await scene.until(lambda: client.data)
    assert client.data.startswith(b"HTTP/1.1 404 ")
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    scene.address = sock.getsockname()
    scene.plane.listen("other", [sock])
    await scene.served(scene.client())
    await scene.ticks()
    assert (scene.listener("requests"), scene.listener("requests", "other")) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_limits_change(scene: Scene) -> None:
    scene.apply(limits=LimitsSpec(body=10, head=200, fields=5))
    for request, status in [
        (post(b"x" * 11), 413),
        (get("/", "X: " + "y" * 300), 431),
        (get("/", *(f"X{index}: y" for index in range(6))), 431),
    ]:
        client = scene.client(request)
        await scene.until(lambda client=client: client.data)
        assert client.data.startswith(b"HTTP/1.1 %d " % status)


@pytest_twisted.ensureDeferred
async def test_a_raised_connection_limit_lets_those_in_who_wait(scene: Scene) -> None:
    scene.apply(limits=LimitsSpec(max_connections=1))
    first, second = scene.client(), scene.client()
    await scene.served(first)
    second.send(get())
    await scene.ticks()
    assert scene.worker("connections") == 1 and scene.worker("accept_pauses") == 1
    scene.apply(limits=LimitsSpec(max_connections=2))
    await scene.served(second, get())


@pytest_twisted.ensureDeferred
async def test_idle_connections_follow_their_settings(scene: Scene) -> None:
    scene.apply(idle_connections=IdleConnectionsSpec(max_per_backend=0))
    backend = await scene.served(scene.client())
    await scene.until(lambda: backend.ending)
    scene.apply(idle_connections=IdleConnectionsSpec(idle_timeout=0.2))
    backend = await scene.served(scene.client())
    assert not backend.ending
    await scene.until(lambda: backend.ending)


@pytest_twisted.ensureDeferred
async def test_idle_connections_make_room_for_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RESERVED + 64  # half of 60 for clients, half for backends
    monkeypatch.setattr(resource, "getrlimit", lambda which: (files, files))
    scene = Scene(tmp_path / "access.log")
    try:
        for index in range(2):
            scene.apply(rules=(RuleSpec("rule", (f"b{index}",)),))
            clients = [scene.client(get()) for _ in range(20)]
            peers = scene.origins[index].peers
            await scene.until(lambda peers=peers: sum(bool(peer.data) for peer in peers) == 20)
            for peer in peers:
                peer.take()
                peer.send(ok(b"x"))
            await scene.until(lambda clients=clients: all(client.data for client in clients))
            for client in clients:
                client.close()
        idle = [peer for origin in scene.origins for peer in origin.peers]
        await scene.ticks()
        assert not any(peer.ending for peer in idle), "clients leave room for more than half"
        for _ in range(15):
            scene.client()
        await scene.until(lambda: sum(bool(peer.ending) for peer in idle) == 10)
        await scene.ticks()
        assert [sum(bool(peer.ending) for peer in origin.peers) for origin in scene.origins] == [5, 5]
    finally:
        scene.close()


@pytest_twisted.ensureDeferred
async def test_the_access_log_moves(scene: Scene, tmp_path: Path) -> None:
    client = scene.client()
    await scene.served(client)
    other = tmp_path / "other.log"
    scene.apply(access_log=AccessLogSpec(str(other), "common"))
    assert len(scene.records()) == 1, "the old log was written out"
    await scene.served(client)
    await scene.until(lambda: other.exists() and other.read_text())
    assert '"GET / HTTP/1.1" 200' in other.read_text()


@pytest_twisted.ensureDeferred
async def test_an_unchanged_algorithm_goes_on_where_it_was(scene: Scene) -> None:
    scene.apply(rules=(RuleSpec("rule", ("b0", "b1"), algorithm=AlgorithmSpec("round_robin")),))
    client = scene.client()
    first = await scene.served(client)
    second = await scene.served(client)
    assert {first in scene.origins[0].peers, second in scene.origins[0].peers} == {True, False}


# -- listening ------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_stopping_to_listen_closes_our_copy_only(scene: Scene) -> None:
    client = scene.client()
    await scene.served(client)
    scene.plane.stop_listening("web")
    scene.plane.stop_listening("web")
    waiting = scene.client(get())
    await scene.ticks()
    assert waiting.data == b""
    await scene.served(client)  # who is here stays
    scene.plane.listen("web", [scene.sock.dup()])  # the queue is still there
    await scene.until(lambda: scene._hearing())
    peer = scene._hearing()
    assert peer is not None
    peer.send(ok(b"x"))
    await scene.until(lambda: waiting.data)


# -- ending -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_shutdown_closes_the_idle_and_lets_the_busy_finish(scene: Scene) -> None:
    idle, fresh, busy = scene.client(), scene.client(), scene.client()
    await scene.served(idle)
    backend = await scene.asked(busy, get())
    await scene.until(lambda: scene.worker("connections") == 3)
    done = scene.shutdown(30.0)
    await scene.until(lambda: idle.ending and fresh.ending)
    assert idle.ending == fresh.ending == "fin"
    assert not done and busy.ending == ""
    waiting = scene.client(get())
    backend.send(ok(b"last"))
    await scene.until(lambda: busy.ending)
    assert busy.data.endswith(b"last") and b"Connection: close\r\n" in busy.data
    await scene.until(lambda: done)
    assert waiting.data == b""
    assert scene.worker("connections") == scene.listener("connections") == 0
    assert [scene.of_backend(index, "connections") for index in range(2)] == [0, 0]
    assert [record["termination"] for record in scene.records()] == ["--", "--"]


@pytest_twisted.ensureDeferred
async def test_shutdown_aborts_what_has_not_ended_by_the_deadline(scene: Scene) -> None:
    client = scene.client()
    backend = await scene.asked(client, get())
    done = scene.shutdown(0.3)
    await scene.until(lambda: done)
    await scene.until(lambda: client.ending and backend.ending)
    assert client.ending == backend.ending == "reset"
    assert [record["termination"] for record in scene.records()] == ["K-"]
    assert scene.of_backend(0, "active") == 0 == scene.of_backend(0, "connections")


@pytest_twisted.ensureDeferred
async def test_shutdown_without_anybody_there_ends_at_once(scene: Scene) -> None:
    done = scene.shutdown(30.0)
    await scene.until(lambda: done)


@pytest_twisted.ensureDeferred
async def test_shutdown_twice_is_one(scene: Scene) -> None:
    first = scene.plane.shutdown(30.0)
    scene.over = True
    assert scene.plane.shutdown(30.0) is first
    assert isinstance(first, Deferred)
    await first


@pytest_twisted.ensureDeferred
async def test_abort_ends_everything_and_gives_everything_back(scene: Scene) -> None:
    idle, waiting, sending = scene.client(), scene.client(), scene.client()
    await scene.served(idle)
    await scene.asked(waiting, get())
    await scene.asked(sending, post(b"part", size=100))
    await scene.until(lambda: scene.worker("connections") == 3)
    scene.plane.abort()
    scene.over = True
    await scene.until(lambda: idle.ending and waiting.ending and sending.ending)
    assert scene.worker("connections") == scene.listener("connections") == 0
    for index in range(2):
        assert [scene.of_backend(index, name) for name in ("active", "connections", "idle")] == [0, 0, 0]
    assert len(scene.records()) == 3


@pytest_twisted.ensureDeferred
async def test_a_standing_takes_a_backend_out_at_once_and_back_soon(scene: Scene) -> None:
    for away in (Standing("b0", healthy=False), Standing("b0", drained=True)):
        scene.plane.set_standings([away, Standing("nobody", healthy=False)])
        for _ in range(4):
            client = scene.client()
            (await scene.asked(client, get("/"))).send(ok(b"x"))
            await scene.until(lambda client=client: client.data)
        assert not scene.origins[0].peers
        scene.plane.set_standings([Standing("b0")])
        await scene.ticks(1)  # rebuilds keep a distance
        seen = []
        for _ in range(2):
            seen.append(await scene.asked(scene.client(), get("/")))
        assert len(scene.origins[0].peers) == 1
        for peer in list(scene.origins[0].peers):
            peer.send(ok(b"x"))
            peer.close()
        scene.origins[0].peers.clear()


# -- PROXY headers -------------------------------------------------------------------------------


def taking_proxy_headers(scene: Scene) -> None:
    """From now on, for new connections."""
    (listener,) = scene.snapshot.listeners
    scene.apply(listeners=(replace(listener, proxy_protocol=True, trusted=("127.0.0.1/32",)),))


@pytest_twisted.ensureDeferred
async def test_proxy_headers_are_wanted_from_the_next_connection_on(scene: Scene) -> None:
    early = scene.client()
    await scene.until(lambda: scene.worker("connections") == 1)
    taking_proxy_headers(scene)
    await scene.served(early)
    client = scene.client(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n")
    backend = await scene.asked(client, get())
    assert b"\r\nX-Forwarded-For: 192.0.2.1\r\n" in backend.data
    stranger = scene.client(get())
    await scene.until(lambda: stranger.ending)
    await scene.ticks()
    assert scene.listener("errors_proxy_protocol") == 1


@pytest_twisted.ensureDeferred
async def test_shutdown_closes_those_that_have_not_told_whose_they_are(scene: Scene) -> None:
    taking_proxy_headers(scene)
    waiting = scene.client(b"PROXY TCP4 ")
    await scene.until(lambda: scene.worker("connections") == 1)
    done = scene.shutdown(10.0)
    await scene.until(lambda: waiting.ending and done)


@pytest_twisted.ensureDeferred
async def test_a_backend_wants_another_header_from_now_on(scene: Scene) -> None:
    scene.apply(rules=(RuleSpec("rule", ("b0",)),))
    client = scene.client()
    plain = await scene.served(client)
    scene.apply(backends=(scene.backend(0, proxy_protocol="v1"), scene.backend(1)))
    await scene.until(lambda: plain.ending)
    backend = await scene.asked(client, get())
    assert backend.data.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    backend.take()
    backend.send(ok(b"x"))
    await scene.until(lambda: scene.of_backend(0, "idle") == 1)
    scene.apply(backends=(scene.backend(0), scene.backend(1)))
    await scene.until(lambda: backend.ending)
    assert (await scene.asked(client, get())).data.startswith(b"GET / ")


# -- doubt, moves, rebuilds ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_who_waits_for_a_backend_that_turns_unhealthy_is_moved(scene: Scene) -> None:
    for _ in range(2):  # an idle connection to each
        await scene.served(scene.client())
    clients = [scene.client(get(f"/{number}")) for number in range(40)]
    await scene.until(lambda: sum(peer.data.count(b"GET /") for peer in every(scene)) == 40)
    posted = scene.client(get("/post", method="POST"))
    await scene.until(lambda: any(b"POST" in peer.data for peer in every(scene)))
    [kept] = [peer for peer in every(scene) if b"POST" in peer.data]
    at = 0 if kept in scene.origins[0].peers else 1
    scene.plane.set_standings([Standing(f"b{at}", healthy=False)])
    other = scene.origins[1 - at]
    await scene.until(lambda: sum(b"GET" in peer.data for peer in other.peers) == 40)
    for peer in other.peers:
        peer.send(ok(b"x"))
    await scene.until(lambda: all(client.data.startswith(b"HTTP/1.1 200 ") for client in clients))
    assert posted.data == b"", "it stays: who knows what came of it"
    await scene.ticks()
    assert scene.rule("retries") == scene.of_backend(at, "timeouts") == 20
    assert scene.of_backend(at, "idle") == 0
    kept.send(ok(b"x"))
    await scene.until(lambda: posted.data)


def every(scene: Scene) -> list[Peer]:
    return [peer for origin in scene.origins for peer in origin.peers]


@pytest_twisted.ensureDeferred
async def test_doubt_is_reported_on_the_tick(scene: Scene) -> None:
    client = scene.client()
    broken = await scene.asked(client, get("/x"))
    broken.take()
    broken.reset()
    await scene.until(lambda: scene._hearing() is not None)
    other = scene._hearing()
    assert other is not None
    other.take()
    other.send(ok(b"x"))
    await scene.until(lambda: client.data)
    await scene.ticks()
    assert [reason for _, reason in scene.reports] == ["reset"]
    client.take()
    hung = await scene.asked(client, get("/hang"))
    hung.take()
    for _ in range(200):
        if "overdue" in {reason for _, reason in scene.reports}:
            break
        other = await scene.asked(scene.client(), get("/fine"))
        other.take()
        other.send(ok(b"x"))
        await scene.until(lambda: scene.clients[-1].data)
    assert "overdue" in {reason for _, reason in scene.reports}
    hung.send(ok(b"x"))
    await scene.until(lambda: client.data)


@pytest_twisted.ensureDeferred
async def test_a_large_rule_is_built_while_it_serves(scene: Scene) -> None:
    """It answers before its algorithm is ready, and what is gone gets nothing."""
    many = tuple(scene.backend(0, id=f"n{number}") for number in range(3000))
    names = tuple(spec.id for spec in many)
    scene.apply(
        backends=(*scene.snapshot.backends, *many),
        rules=(
            RuleSpec("rule", ("b0", "b1")),
            RuleSpec("large", names, path_prefix="/large", algorithm=AlgorithmSpec("consistent_hash")),
        ),
    )
    await scene.served(scene.client(), get("/large"))
    await scene.ticks(3)
    await scene.served(scene.client(), get("/large"))
    scene.apply(backends=scene.snapshot.backends[:2], rules=scene.snapshot.rules[:1])


@pytest_twisted.ensureDeferred
async def test_siblings_leases_reach_the_backends_that_are_weighed(scene: Scene) -> None:
    sibling = memoryview(bytearray(8 * WIDTH)).cast("q")
    scene.plane.watch_siblings([sibling])
    scene.apply(rules=(RuleSpec("rule", ("b0", "b1"), algorithm=AlgorithmSpec("least_connections")),))
    sibling[scene.columns.backends["b0"] + BACKEND.index("active")] = 7
    await scene.ticks()
    for _ in range(4):
        await scene.served(scene.client())
    assert scene.origins[0].peers == []


# -- tcp and tunnels -----------------------------------------------------------------------------------


def as_tcp(scene: Scene) -> None:
    """The listener speaks plain TCP, to one backend."""
    scene.plane.stop_listening("web")
    scene.apply(
        listeners=(ListenerSpec("web", ("127.0.0.1:0",), protocol="tcp"),),
        rules=(RuleSpec("rule", ("b0",), ("web",)),),
    )
    scene.plane.listen("web", [scene.sock.dup()])


@pytest_twisted.ensureDeferred
async def test_bytes_are_on_the_board_while_a_connection_lasts(scene: Scene) -> None:
    as_tcp(scene)
    client = scene.client(b"question")
    await scene.until(lambda: scene.origins[0].peers and scene.origins[0].last.data)
    scene.origins[0].last.send(bytes(1 << 20))
    await scene.until(lambda: len(client.data) == 1 << 20)
    await scene.ticks()
    assert (scene.listener("bytes_in"), scene.listener("bytes_out")) == (8, 1 << 20)
    assert (scene.of_backend(0, "bytes_out"), scene.of_backend(0, "bytes_in")) == (8, 1 << 20)
    assert scene.listener("connections") == 1


@pytest_twisted.ensureDeferred
async def test_bytes_are_on_the_board_while_a_websocket_lasts(scene: Scene) -> None:
    fields = ("Connection: Upgrade", "Upgrade: websocket")
    client = scene.client()
    backend = await scene.asked(client, get("/", *fields, "Sec-WebSocket-Key: x"))
    number = 0 if backend in scene.origins[0].peers else 1
    backend.take()
    backend.send("\r\n".join(["HTTP/1.1 101 Switching Protocols", *fields, "", ""]).encode())
    await scene.until(lambda: client.take())
    client.send(b"ping!")
    await scene.until(lambda: backend.data == b"ping!")
    await scene.ticks()
    before = scene.of_backend(number, "bytes_in")
    backend.send(bytes(1 << 20))
    await scene.until(lambda: len(client.data) == 1 << 20)
    await scene.ticks()
    assert (scene.listener("bytes_in"), scene.listener("bytes_out")) == (5, 1 << 20)
    assert scene.of_backend(number, "bytes_in") == before + (1 << 20)


class WatchedBoard:
    """A board, and whose gauges it was told not to keep waiting."""

    def __init__(self, board: Any) -> None:
        self.board = board
        self.awaited: list[list[Backend] | None] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.board, name)

    def flush(self, awaited: list[Backend] | None) -> None:
        self.awaited.append(awaited)
        self.board.flush(awaited)


@pytest_twisted.ensureDeferred
async def test_gauges_do_not_wait_where_somebody_decides_by_them(scene: Scene) -> None:
    board = WatchedBoard(scene.plane._board)
    scene.plane._board = cast(Any, board)
    await scene.ticks()
    assert board.awaited[-1] == []
    scene.plane.set_standings([Standing("b1", drained=True, drain_until=None)])
    await scene.ticks()
    assert [one.id for one in board.awaited[-1] or ()] == ["b1"]
    scene.plane.watch_siblings([memoryview(bytearray(8 * WIDTH)).cast("q")])
    await scene.ticks()
    assert [one.id for one in board.awaited[-1] or ()] == ["b1"], "round robin weighs nothing"
    scene.apply(rules=(RuleSpec("rule", ("b0", "b1"), algorithm=AlgorithmSpec("least_connections")),))
    await scene.ticks()
    assert board.awaited[-1] is None


def is_to_backend(handler: Any) -> bool:
    return isinstance(getattr(handler, "protocol", None), BackendProtocol)


@pytest.mark.parametrize("client_leaves", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_end_of_a_drain_cuts_off_what_still_moves(scene: Scene, client_leaves: bool) -> None:
    as_tcp(scene)
    scene.origins[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    client = scene.client()
    await scene.until(lambda: scene.origins[0].peers)
    backend = scene.origins[0].last
    backend.reading = False
    if client_leaves:  # what it sent is still on its way to the backend, which takes its time
        loop = scene.plane._loop
        loop.pipes.enabled = False
        (near,) = [one for one in loop.handlers.values() if is_to_backend(one)]
        near.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        while not near.pending_size:  # so little at a time that the client goes on being read
            client.send(bytes(1 << 14))
            await scene.ticks()
        client.finish()
        await scene.ticks()
        client.close()
        backend.send(b"x")
        await scene.until(lambda: scene.listener("connections") == 0)
    else:
        client.send(bytes(64 << 20))
        await scene.ticks()
        assert client.unsent
    client.unsent = b""
    scene.plane.set_standings([Standing("b0", drained=True, drain_until=time.monotonic() + 60.0)])
    await scene.ticks()
    assert scene.of_backend(0, "active") == scene.of_backend(0, "connections") == 1
    scene.plane.set_standings([Standing("b0", drained=True, drain_until=time.monotonic())])
    await scene.until(lambda: scene.of_backend(0, "connections") == 0)
    backend.reading = True
    await scene.until(lambda: backend.ending)
    assert backend.ending == "reset"
    assert scene.of_backend(0, "active") == 0
    if not client_leaves:
        await scene.until(lambda: client.ending == "reset")


@pytest_twisted.ensureDeferred
async def test_idle_connections_close_when_the_backends_tls_settings_change(
    scene: Scene, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = authority.server(authority.certificate("b.example"))
    settings = backend_spec(ca=authority.path, server_name="b.example")
    secure = scene.backend(0, tls=settings)
    scene.apply(backends=(secure, scene.backend(1)), rules=(RuleSpec("rule", ("b0",)),))
    served: list[TlsPeer] = []
    scene.origins[0].accepting = False

    def go_on() -> bool:
        with suppress(BlockingIOError):
            sock, _ = scene.origins[0].sock.accept()
            served.append(TlsPeer(sock, context, server=True))
        for peer in served:
            peer.poll()
            if peer.data.endswith(b"\r\n\r\n"):
                peer.data = b""
                peer.send(ok(b"x"))
        return True

    async def ask() -> None:
        client = scene.client(get())
        await scene.until(lambda: go_on() and client.data)
        await scene.ticks()
        assert scene.of_backend(0, "idle") == 1

    await ask()
    await ask()
    assert len(served) == 1, "the same settings: the same connection"
    scene.apply()
    await ask()
    assert len(served) == 1, "another generation with the same settings: it stays"
    scene.apply(backends=(replace(secure, tls=replace(settings, verify=False)), scene.backend(1)))
    await scene.until(lambda: go_on() and served[0].ending)
    await ask()
    assert len(served) == 2
    scene.apply(backends=(scene.backend(0), scene.backend(1)))
    await scene.until(lambda: go_on() and served[1].ending)
    await scene.ticks()
    assert scene.of_backend(0, "idle") == 0
    for peer in served:
        peer.close()
