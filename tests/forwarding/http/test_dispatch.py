from __future__ import annotations

import socket
from typing import Any

import pytest
from support.dataplane import Peer, Stage, chunked, get, ok, post, stage

from txlb.core.algorithms import native
from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable
from txlb.forwarding.http.hold import HOLD
from txlb.forwarding.suspects import line_of

MAX_CONNECTS = 3  # with the default of two retries
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


# -- elsewhere ----------------------------------------------------------------


def ending(peer: Peer, how: str) -> None:
    if how == "fin":
        peer.finish()
    else:
        peer.reset()


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("method", IDEMPOTENT)
def test_an_idempotent_request_that_got_no_byte_is_tried_elsewhere(method: str, how: str) -> None:
    with stage(backends=2) as here:
        client = here.client()
        ending(here.asked(client, get("/x", method=method), origin=0), how)
        here.net.settle()
        other = here.origins[1].last
        assert other.data.startswith(f"{method} /x ".encode())
        other.send(ok(size=5) + (b"" if method == "HEAD" else b"right"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")
        record = here.records()[0]
        assert (record["backend"], record["tries"], record["termination"]) == ("b1", 2, "--")
        assert (here.backends[0].resets, here.backends[1].errors) == (1, 0)
        assert here.pool.retries == 1
        assert here.settings.errors == {}


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("method", OTHERS)
def test_another_request_that_was_sent_is_not_tried_elsewhere(method: str, how: str) -> None:
    with stage(backends=2) as here:
        client = here.client()
        ending(here.asked(client, get(method=method), origin=0), how)
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert here.origins[1].peers == []
        assert here.pool.retries == 0


def test_no_backend_is_asked_twice() -> None:
    with stage(backends=2) as here:
        client = here.client()
        here.asked(client, get(), origin=0).reset()
        here.net.settle()
        here.origins[1].last.reset()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert [len(origin.peers) for origin in here.origins] == [1, 1]
        assert here.terminations() == ["SH"]


@pytest.mark.parametrize("most", [0, 1, 2, 3])
def test_the_rule_bounds_the_retries_of_one_request(most: int) -> None:
    with stage(backends=5) as here:
        here.pool.max_retries = most
        client = here.client(get())
        while not client.data:
            next(peer for origin in here.origins for peer in origin.peers if not peer.ending).reset()
            here.net.settle()
            for origin in here.origins:
                origin.peers = [peer for peer in origin.peers if peer.sock.fileno() >= 0]
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert (here.pool.retries, here.records()[0]["tries"]) == (most, most + 1)


def test_the_rule_bounds_the_connects_of_one_request() -> None:
    with stage(backends=5) as here:
        here.pool.max_retries = 0
        here.origins[0].close()
        client = here.client(get())
        here.net.run_until(lambda: client.data)
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert [origin.peers for origin in here.origins[1:]] == [[]] * 4


def test_without_budget_nothing_is_tried_elsewhere() -> None:
    with stage(backends=2) as here:
        here.pool.budget.configure(0.0, 10.0, 0.0)
        client = here.client()
        here.asked(client, get(), origin=0).reset()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert here.origins[1].peers == []


def test_failed_connects_and_stale_connections_cost_no_budget() -> None:
    with stage(backends=2) as here:
        here.pool.budget.configure(0.0, 10.0, 0.0)
        client = here.client()
        here.asked(client, get(), origin=0).send(ok(b"x"))
        here.asked(client, get(), origin=1).send(ok(b"x"))
        here.net.settle()
        client.take()
        here.origins[0].sock.close()
        client.send(get("/again"))
        here.net.run_until(lambda: b"/again" in here.origins[0].last.data)
        here.origins[0].last.reset()  # stale, and gone: the other has a stale one as well
        here.net.run_until(lambda: b"/again" in here.origins[1].last.data)
        stale = here.origins[1].last
        stale.reset()
        here.net.run_until(lambda: here.origins[1].last is not stale)
        here.net.settle()
        here.origins[1].last.send(ok(b"right"))
        here.net.settle()
        assert client.data.endswith(b"right")


def test_an_error_that_a_backend_answers_is_its_answer() -> None:
    with stage(backends=2) as here:
        client = here.client()
        for status in ("502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"):
            here.pool.rebuild()  # begins with b0 again
            here.asked(client, get(), origin=0).send(ok(b"mine", status=status))
            here.net.settle()
            assert client.take().startswith(f"HTTP/1.1 {status}".encode())
        assert here.origins[1].peers == []


def test_a_held_body_goes_elsewhere_with_it() -> None:
    with stage(backends=2) as here:
        client = here.client()
        data = post(b"the whole body").replace(b"POST", b"PUT", 1)
        here.asked(client, data, origin=0).reset()
        here.net.settle()
        assert here.origins[1].last.data.endswith(b"\r\n\r\nthe whole body")
        here.origins[1].last.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")


def test_a_body_in_pieces_goes_on_elsewhere() -> None:
    with stage(backends=2) as here:
        client = here.client()
        first = here.asked(client, get("/", "Transfer-Encoding: chunked", method="PUT"), origin=0)
        client.send(b"3\r\none\r\n")
        here.net.settle()
        first.reset()
        here.net.settle()
        client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        here.net.settle()
        other = here.origins[1].last
        assert other.data.partition(b"\r\n\r\n")[2] == chunked(b"one", b"two")
        other.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")


def test_a_body_too_long_to_be_held_goes_nowhere_else() -> None:
    with stage(backends=2) as here:
        client = here.client()
        data = post(bytes(HOLD * 2), size=HOLD * 4).replace(b"POST", b"PUT", 1)
        here.asked(client, data, origin=0).reset()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert here.origins[1].peers == []
        assert here.terminations() == ["SB"]


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_after_a_byte_of_an_answer_nothing_goes_elsewhere(begun: bytes) -> None:
    with stage(backends=2) as here:
        client = here.client()
        backend = here.asked(client, get(), origin=0)
        backend.send(begun)
        here.net.settle()
        backend.reset()
        here.net.settle()
        assert b"HTTP/1.1 502 " in client.data
        assert here.origins[1].peers == []


# -- moved ----------------------------------------------------------------


def test_who_waits_for_an_unhealthy_backend_is_moved() -> None:
    with stage(backends=2) as here:
        clients = [here.client(get(f"/{number}")) for number in range(6)]
        here.backends[0].healthy = False
        line = line_of(here.backends[0])
        assert [exchange.head.target for exchange in line] == [b"/0", b"/2", b"/4"]
        assert all(exchange.move() for exchange in line)
        here.net.settle()
        assert len(here.origins[1].peers) == 6
        for peer in here.origins[1].peers:
            peer.send(ok(b"x"))
        here.net.settle()
        assert all(client.data.startswith(b"HTTP/1.1 200 ") for client in clients)
        assert (here.pool.retries, here.backends[0].timeouts) == (3, 3)
        assert here.backends[0].active_connections == 0


def test_who_cannot_be_moved_stays() -> None:
    with stage(backends=2) as here:
        here.pool.max_retries = 1
        sent = here.asked(here.client(), get(method="POST"), origin=0)
        here.pool.rebuild()
        begun = here.asked(here.client(), get(), origin=0)
        begun.send(b"HTTP/1.1")
        here.pool.rebuild()
        waiting = here.asked(here.client(), get(), origin=0)
        here.net.settle()
        here.backends[0].healthy = False
        line = line_of(here.backends[0])
        assert len(line) == 2, "one has an answer, begun"
        assert not line[0].move(), "POST"
        here.backends[1].drained = True
        assert not line[1].move(), "nobody else can take it"
        assert here.backends[0].active_connections == 3
        for peer in (sent, waiting):
            peer.send(ok(b"late"))
        begun.send(ok(b"late").removeprefix(b"HTTP/1.1"))
        here.net.settle()
        assert here.terminations() == ["--"] * 3


def test_who_was_still_sending_is_moved_when_all_is_sent() -> None:
    with stage(backends=2) as here:
        client = here.client()
        data = post(b"half", size=8).replace(b"POST", b"PUT", 1)
        first = here.asked(client, data, origin=0)
        here.backends[0].healthy = False
        here.net.settle()
        assert not first.ending
        client.send(b"half")
        here.net.settle()
        assert first.ending
        other = here.origins[1].last
        assert other.data.endswith(b"\r\n\r\nhalfhalf")
        other.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")


def arrives(here: Stage, data: bytes) -> Peer:
    """A client whose backend is chosen and being connected to."""
    near, client = here.net.pair()
    here.gate.open += 1
    here.acceptor.accepted(near, near.getpeername())
    client.send(data)
    here.net.loop.dispatch(here.net.epoll.poll(1.0))
    return client


@pytest.mark.parametrize("data", [get(), post(b"body")])
def test_a_backend_that_turns_unhealthy_while_connecting_is_left(data: bytes) -> None:
    with stage(backends=2) as here:
        here.pool.budget.configure(0.0, 10.0, 0.0)
        client = arrives(here, data)
        here.backends[0].healthy = False
        assert line_of(here.backends[0]) == [], "nobody to be moved yet"
        here.net.settle()
        assert (here.origins[0].last.data, here.origins[0].last.ending) == (b"", "reset")
        assert here.origins[1].last.data.startswith(data[:4])
        here.origins[1].last.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")
        record = here.records()[0]
        assert (record["backend"], record["tries"]) == ("b1", 2)
        assert (here.pool.retries, here.backends[0].errors) == (1, 0)
        assert here.backends[0].active_connections == here.backends[0].idle == 0


def test_the_only_backend_is_asked_though_it_turned_unhealthy() -> None:
    with stage() as here:
        client = arrives(here, get())
        here.backend.healthy = False
        here.net.settle()
        here.origin.last.send(ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 ")


def test_a_panic_asks_who_was_chosen() -> None:
    with stage(backends=2) as here:
        here.pool.panic_threshold = 1.0
        for backend in here.backends:
            backend.healthy = False
        here.pool.rebuild()
        half = post(b"half", size=8).replace(b"POST", b"PUT", 1)
        for data, rest in ((get(), b""), (half, b"half")):
            here.pool.rebuild()  # begins with b0 again
            client = here.client(data)
            client.send(rest)
            here.net.settle()
            assert here.origins[1].peers == []
            here.origins[0].last.send(ok(b"x"))
            here.net.settle()
            assert client.data.startswith(b"HTTP/1.1 200 ")
        assert here.pool.retries == 0


def test_the_line_is_left_with_the_first_byte_in_any_order() -> None:
    with stage() as here:
        peers = [here.asked(here.client(), get(f"/{number}")) for number in range(5)]
        assert len(line_of(here.backend)) == 5
        for number in (2, 0, 4):
            peers[number].send(b"H")
            here.net.settle()
        assert [exchange.head.target for exchange in line_of(here.backend)] == [b"/1", b"/3"]
        peers[1].reset()
        here.net.settle()
        assert [exchange.head.target for exchange in line_of(here.backend)] == [b"/3"]
        for number in (2, 0, 4):
            peers[number].send(ok(b"x")[1:])
        peers[3].send(ok(b"x"))
        here.net.settle()
        assert line_of(here.backend) == []


def test_a_request_that_is_not_whole_owes_us_nothing() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, post(b"half", size=8))
        assert line_of(here.backend) == []
        client.send(b"half")
        here.net.settle()
        assert len(line_of(here.backend)) == 1
        backend.send(ok(b"x"))
        here.net.settle()
