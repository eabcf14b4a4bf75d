from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dataplane import Peer, Stage, chunked, get, ok, post, stage

from txlb.core.algorithms import native
from txlb.core.http.retry import MAX_CONNECTS
from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable
from txlb.forwarding.http.hold import HOLD

IDEMPOTENT = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]
OTHERS = ["POST", "PATCH"]


def warm(here: Stage) -> Peer:
    """One connection to the backend waits for reuse; it is the test's end of it."""
    client = here.client()
    backend = here.asked(client, get("/warm"))
    backend.send(ok(b"x"))
    here.net.settle()
    client.reset()
    here.net.settle()
    backend.take()
    assert here.backend.idle == 1
    return backend


# -- where it goes ----------------------------------------------------------------


def test_no_rule_is_404_and_the_connection_goes_on() -> None:
    with stage() as here:
        here.settings.routes = RouteTable([Route(None, "/api", here.pool)])
        client = here.client(get("/other"))
        assert client.take().startswith(b"HTTP/1.1 404 ")
        here.asked(client, get("/api/x")).send(ok(b"found"))
        here.net.settle()
        assert client.data.endswith(b"found")
        assert here.reasons() == ["no_rule", None]
        assert [record["rule"] for record in here.records()] == [None, "rule"]
        assert here.settings.errors == {404: 1}


def test_a_404_to_a_request_with_a_body_closes_in_stages() -> None:
    with stage() as here:
        here.settings.routes = RouteTable([])
        client = here.client(post(b"part", size=100))
        assert client.data.startswith(b"HTTP/1.1 404 ") and client.ending == "fin"
        assert b"Connection: close" in client.data


def test_no_backend_is_503() -> None:
    with stage() as here:
        here.backend.healthy = False
        here.pool.rebuild()
        client = here.client(get())
        assert client.data.startswith(b"HTTP/1.1 503 ") and client.ending == ""
        assert here.reasons() == ["no_backend"]
        record = here.records()[0]
        assert (record["backend"], record["tries"]) == (None, 0)


def test_a_full_backend_is_503() -> None:
    with stage(max_connections=1) as here:
        first, second = here.client(), here.client()
        backend = here.asked(first, get())
        second.send(get())
        here.net.settle()
        assert second.data.startswith(b"HTTP/1.1 503 ")
        backend.send(ok(b"x"))
        here.net.settle()
        assert here.backend.active_connections == 0


def test_requests_spread_over_the_backends() -> None:
    with stage(backends=3) as here:
        client = here.client()
        seen = []
        for _ in range(6):
            client.send(get())
            here.net.settle()
            for index, origin in enumerate(here.origins):
                for peer in origin.peers:
                    if peer.take():
                        seen.append(index)
                        peer.send(ok(b"x"))
            here.net.settle()
        assert seen == [0, 1, 2, 0, 1, 2]
        assert [record["backend"] for record in here.records()] == ["b0", "b1", "b2"] * 2


def test_the_algorithm_sees_the_exchange_as_its_context() -> None:
    seen: list[dict[str, Any]] = []

    class Looking:
        def rebuild(self, backends: Any) -> None:
            self.backends = list(backends)

        def pick(self, context: Any, tried: Any) -> Any:
            names = ("listener", "client_ip", "client_port", "host", "method", "path")
            seen.append({name: getattr(context, name) for name in names})
            seen[-1]["now"] = context.now
            seen[-1]["user"] = context.header("X-User")
            seen[-1]["none"] = context.header("x-none")
            return self.backends[0]

    with stage() as here:
        pool = Pool("rule", lambda: native(Looking()), here.backends)
        here.settings.routes = RouteTable([Route(None, None, pool)])
        client = here.client()
        here.asked(client, get("/path?query", "X-User: somebody")).send(ok(b"x"))
        here.net.settle()
        it = seen[0]
        assert (it["listener"], it["client_ip"]) == ("web", "127.0.0.1")
        assert it["client_port"] == client.sock.getsockname()[1]
        assert (it["host"], it["method"], it["path"]) == ("a.example", "GET", "/path")
        assert (it["user"], it["none"]) == ("somebody", None)
        assert it["now"] > 0.0


# -- connecting ----------------------------------------------------------------


def test_a_refused_connect_is_tried_elsewhere() -> None:
    with stage(backends=2) as here:
        here.origins[0].close()
        client = here.client()
        here.asked(client, post(b"body"), origin=1).send(ok(b"from b1"))
        here.net.settle()
        assert client.data.endswith(b"from b1")
        record = here.records()[0]
        assert (record["backend"], record["tries"], record["status"]) == ("b1", 2, 200)
        assert (here.backends[0].connect_failures, here.backends[0].errors) == (1, 1)
        assert here.pool.retries == 1


@pytest.mark.parametrize("backends", [1, 2, MAX_CONNECTS, MAX_CONNECTS + 2])
def test_when_all_refuse_it_is_502_after_a_bounded_number_of_tries(backends: int) -> None:
    with stage(backends=backends) as here:
        for origin in here.origins:
            origin.close()
        client = here.client(get())
        here.net.run_until(lambda: client.data)
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ") and client.ending == ""
        assert here.reasons() == ["connect_refused"]
        tries = min(backends, MAX_CONNECTS)
        assert here.records()[0]["tries"] == tries
        assert sum(backend.connect_failures for backend in here.backends) == tries


def test_no_connection_in_time_is_504() -> None:
    with stage() as here:
        # A queue of one place, taken: a SYN is dropped.
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        here.backend.port = full.getsockname()[1]
        client = here.client(get())
        here.net.elapse(here.sources.connect_timeout - 0.3)
        assert client.data == b""
        here.net.elapse(0.6)
        assert client.data.startswith(b"HTTP/1.1 504 ")
        assert here.reasons() == ["connect_timeout"]
        for sock in (full, *callers):
            sock.close()


def test_the_body_waits_for_the_connection_within_bounds() -> None:
    """While connecting everything is held, and the client is paused beyond a limit."""
    with stage(backends=2, tight=True) as here:
        here.sources.connect_timeout = 5.0
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        here.backend.port = full.getsockname()[1]
        body = bytes(range(256)) * 8192  # 2 MiB
        client = here.client(post(body))
        here.net.settle()
        assert len(client.unsent) > len(body) - 16 * HOLD
        here.net.elapse(6.0)
        here.net.run_until(lambda: here.origins[1].peers)
        backend = here.origins[1].last
        here.net.run_until(lambda: backend.data.partition(b"\r\n\r\n")[2] == body)
        backend.send(ok(b"all there"))
        here.net.settle()
        assert client.data.endswith(b"all there")
        for sock in (full, *callers):
            sock.close()


# -- once more, or not ----------------------------------------------------------------


def stale_reuse(here: Stage, method: str, how: str, body: bytes = b"") -> tuple[Peer, Peer]:
    """A request on a reused connection that turns out to be closed; client and the dead connection."""
    dead = warm(here)
    client = here.client()
    data = (
        post(body, path="/again").replace(b"POST", method.encode()) if body else get("/again", method=method)
    )
    client.send(data)
    here.net.run_until(lambda: dead.data or len(here.origin.peers) > 1)
    if how == "fin":
        dead.finish()
    else:
        dead.reset()
    here.net.settle()
    return client, dead


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_an_idempotent_request_on_a_stale_connection_is_sent_once_more(method: str, how: str) -> None:
    with stage() as here:
        client, _dead = stale_reuse(here, method, how)
        assert len(here.origin.peers) == 2
        fresh = here.origin.last
        assert fresh.data.startswith(f"{method} /again ".encode())
        fresh.send(ok(size=5) + (b"" if method == "HEAD" else b"right"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")
        assert here.backend.errors == 0
        record = here.records()[-1]
        assert (record["status"], record["tries"], record["termination"]) == (200, 1, "--")


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("method", OTHERS)
def test_another_request_is_not_sent_twice(method: str, how: str) -> None:
    with stage() as here:
        client, dead = stale_reuse(here, method, how)
        assert dead.data, "it was sent: who knows what came of it"
        assert len(here.origin.peers) == 1
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert here.terminations()[-1] == "SH"


@pytest.mark.parametrize("method", OTHERS)
def test_nothing_is_sent_on_a_connection_known_to_be_stale(method: str) -> None:
    """The backend closed, and the loop has not heard of it yet."""
    with stage() as here:
        dead = warm(here)
        client = here.client()
        client.sock.send(get("/x", method=method))
        events = here.net.epoll.poll(1.0)  # the request; the FIN below comes with the next batch
        dead.finish()
        here.net.loop.dispatch(events)
        here.net.settle()
        assert dead.data == b""
        fresh = here.origin.last
        assert fresh is not dead and fresh.data.startswith(f"{method} /x ".encode())
        fresh.send(ok(b"right"))
        here.net.settle()
        assert client.data.endswith(b"right")


def test_a_body_that_is_held_is_sent_again() -> None:
    with stage() as here:
        client, _ = stale_reuse(here, "PUT", "fin", b"the whole body")
        assert here.origin.last.data.endswith(b"\r\n\r\nthe whole body")
        here.origin.last.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_came_in_pieces_is_sent_again_and_goes_on() -> None:
    with stage() as here:
        dead = warm(here)
        client = here.client()
        here.asked(client, get("/", "Transfer-Encoding: chunked", method="PUT"))
        client.send(b"3\r\none\r\n")
        here.net.settle()
        dead.finish()
        here.net.settle()
        fresh = here.origin.last
        assert fresh is not dead
        client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        here.net.settle()
        assert fresh.data.partition(b"\r\n\r\n")[2] == chunked(b"one", b"two")
        fresh.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")


def test_a_body_too_long_to_be_held_is_not_sent_again() -> None:
    with stage() as here:
        dead = warm(here)
        client = here.client()
        client.send(post(bytes(HOLD * 2), size=HOLD * 4).replace(b"POST", b"PUT", 1))
        here.net.settle()
        dead.finish()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert len(here.origin.peers) == 1
        assert here.terminations()[-1] == "SB"


def test_a_fresh_connection_that_closes_unanswered_is_502() -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get()).finish()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert (len(here.origin.peers), here.backend.resets) == (1, 1)


def test_it_is_sent_again_only_once() -> None:
    with stage() as here:
        client, _ = stale_reuse(here, "GET", "fin")
        here.origin.last.finish()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert len(here.origin.peers) == 2


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_nothing_is_sent_again_after_the_first_byte_of_an_answer(begun: bytes) -> None:
    with stage() as here:
        dead = warm(here)
        client = here.client()
        here.asked(client, get())
        dead.send(begun)
        dead.finish()
        here.net.settle()
        assert b"HTTP/1.1 502 " in client.data
        assert len(here.origin.peers) == 1


def test_a_stale_connection_that_can_not_be_replaced_is_502() -> None:
    with stage() as here:
        dead = warm(here)
        here.origin.close()
        client = here.client()
        client.send(get())
        here.net.run_until(lambda: dead.data)
        dead.finish()
        here.net.run_until(lambda: client.data)
        assert client.data.startswith(b"HTTP/1.1 502 ")
        here.net.settle()
        assert here.backend.connect_failures == 1


# -- what is left behind ----------------------------------------------------------------


def test_counters_log_and_cells_agree() -> None:
    with stage() as here:
        client = here.client()
        for status in ("200 OK", "404 Not Found", "503 Service Unavailable", "301 Moved Permanently"):
            here.asked(client, post(b"body")).send(ok(b"answer", status=status))
            here.net.settle()
        sent, received = 4 * len(post(b"body")), len(client.data)
        assert here.pool.requests == here.settings.requests == here.backend.requests == 4
        for counted in (here.pool, here.backend):
            assert (counted.code_2xx, counted.code_3xx, counted.code_4xx, counted.code_5xx) == (1, 1, 1, 1)
            assert sum(counted.latency) == 4
        assert (here.settings.bytes_in, here.settings.bytes_out) == (sent, received)
        records = here.records()
        assert sum(record["bytes_in"] for record in records) == sent
        assert sum(record["bytes_out"] for record in records) == received
        assert [record["reused"] for record in records] == [False, True, True, True]
        assert here.backend.bytes_in == 4 * len(ok(b"answer")) + len(
            "Not FoundService UnavailableMoved Permanently"
        ) - 3 * len("OK")
        assert here.settings.errors == {}, "those are the backend's own answers"


def test_own_answers_count_for_the_rule_and_not_for_the_backend() -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get()).finish()
        here.net.settle()
        assert here.pool.code_5xx == 1 and here.backend.code_5xx == 0
        assert here.settings.errors == {502: 1}
        assert here.records()[0]["backend"] == "b0"


def test_times_grow_in_order() -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get()).send(ok(b"x"))
        here.net.settle()
        record = here.records()[0]
        assert 0 <= record["connect_ms"] <= record["first_byte_ms"] <= record["total_ms"]


# -- whatever happens ----------------------------------------------------------------

REQUESTS = [
    get(),
    get("/", "Connection: close"),
    get("/", method="HEAD"),
    get("/", version="1.0"),
    get()[:20],
    get() + get("/2"),
    post(b"body"),
    post(b"part", size=50),
    post(b"part", size=300_000),
    get("/", "Transfer-Encoding: chunked", method="PUT"),
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    bytes(50),
    b"nonsense\r\n\r\n",
    get("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
]
ANSWERS = [
    ok(b"x"),
    ok(b"x", "Connection: close"),
    ok(b"part", size=50),
    ok(b"", size=300_000),
    bytes(50),
    b"HTTP/1.1 200 OK\r\n\r\nuntil close",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 200",
    b"nonsense\r\n\r\n",
]
WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("connect"), WHO, st.just(0)),
        st.tuples(st.just("ask"), WHO, st.integers(0, len(REQUESTS) - 1)),
        st.tuples(st.just("answer"), WHO, st.integers(0, len(ANSWERS) - 1)),
        st.tuples(st.just("ask"), WHO, st.integers(0, 8)),
        st.tuples(st.just("answer"), WHO, st.integers(0, 7)),
        st.tuples(st.just("settle"), WHO, st.just(0)),
        st.tuples(st.just("bulk from client"), WHO, st.just(0)),
        st.tuples(st.just("bulk from backend"), WHO, st.just(0)),
        st.tuples(st.just("client fin"), WHO, st.just(0)),
        st.tuples(st.just("client reset"), WHO, st.just(0)),
        st.tuples(st.just("client reads"), WHO, st.integers(0, 1)),
        st.tuples(st.just("backend fin"), WHO, st.just(0)),
        st.tuples(st.just("backend reset"), WHO, st.just(0)),
        st.tuples(st.just("backend reads"), WHO, st.integers(0, 1)),
        st.tuples(st.just("backend accepts"), WHO, st.integers(0, 1)),
        st.tuples(st.just("backend gone"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("turn"), WHO, st.just(0)),
        st.tuples(st.just("settle"), WHO, st.just(0)),
        st.tuples(st.just("elapse"), WHO, st.sampled_from([1, 6, 40])),
        st.tuples(st.just("drain"), st.integers(0, 9), st.just(0)),
    ),
    max_size=25,
)


class Chaos:
    """Clients and backends that do as they are told, in whatever order."""

    def __init__(self, here: Stage) -> None:
        self.here = here
        self.clients: list[Peer] = []

    def client(self, who: int) -> Peer:
        if not self.clients:
            self.connect()
        return self.clients[who % len(self.clients)]

    def backend(self, who: int) -> Peer | None:
        peers = [peer for origin in self.here.origins for peer in origin.peers if peer.sock.fileno() >= 0]
        return peers[-1 - who % len(peers)] if peers else None

    def connect(self) -> None:
        near, peer = self.here.net.pair()
        self.here.gate.open += 1
        self.here.acceptor.accepted(near, near.getpeername())
        self.clients.append(peer)

    def do(self, kind: str, who: int, which: int) -> None:
        here = self.here
        backend = self.backend(who)
        if kind == "connect":
            self.connect()
        elif kind == "ask":
            self.client(who).send(REQUESTS[which])
        elif kind == "bulk from client":
            self.client(who).send(bytes(300_000))
        elif kind == "client fin":
            self.client(who).finish()
        elif kind == "client reset":
            self.client(who).reset()
            self.clients.remove(self.client(who))
        elif kind == "client reads":
            self.client(who).reading = bool(which)
        elif kind == "backend accepts":
            here.origins[who % 2].accepting = bool(which)
        elif kind == "backend gone":
            if who == 0:
                here.origins[0].close()
        elif kind == "turn":
            here.net.turn()
        elif kind == "settle":
            here.net.settle()
        elif kind == "elapse":
            here.net.elapse(which)
        elif kind == "drain":
            here.settings.draining = here.settings.draining or who == 0
        elif backend is None:
            here.net.settle()
        elif kind == "answer":
            backend.send(ANSWERS[which])
        elif kind == "bulk from backend":
            backend.send(bytes(300_000))
        elif kind == "backend fin":
            backend.finish()
        elif kind == "backend reset":
            backend.reset()
        else:
            assert kind == "backend reads"
            backend.reading = bool(which)


@settings(max_examples=150)
@given(STEPS)
def test_whatever_happens_everything_is_given_back(steps: list[tuple[str, int, int]]) -> None:
    """`stage` checks at its end: no lease out, gauges zero, each exchange logged once, no exception."""
    with stage(backends=2, tight=True) as here:
        here.settings.client_body = here.settings.client_header = 5.0
        here.settings.backend_response = here.settings.send_timeout = here.sources.send_timeout = 5.0
        here.settings.client_idle = here.settings.tunnel_idle = 30.0
        chaos = Chaos(here)
        for step in steps:
            chaos.do(*step)
        here.net.settle()


@settings(max_examples=60)
@given(STEPS)
def test_whatever_happens_time_ends_it(steps: list[tuple[str, int, int]]) -> None:
    """Nobody closes anything: every client is closed by a deadline."""
    with stage(backends=2, tight=True) as here:
        here.settings.client_body = here.settings.client_header = 5.0
        here.settings.backend_response = here.settings.send_timeout = here.sources.send_timeout = 5.0
        here.settings.client_idle = here.settings.tunnel_idle = 30.0
        chaos = Chaos(here)
        for step in steps:
            chaos.do(*step)
        here.net.settle()
        for _ in range(12):
            here.net.elapse(10.0)
        assert here.gate.open == 0
        assert [backend.active_connections for backend in here.backends] == [0, 0]
