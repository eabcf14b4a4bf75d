from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.dataplane import Peer, Stage, get, ok, post, segments_in, stage

from txlb.forwarding.suspects import line_of

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


# -- the last bytes -------------------------------------------------------------------

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"


def segments_of(here: Stage, request: bytes, answer: bytes | None) -> int:
    """How many segments bring a new client its answer, and FIN if that follows; None = txlb's own answer."""
    client = here.client()
    before = segments_in(client)
    if answer is None:
        client.send(request)
    else:
        here.asked(client, request).send(answer)
    here.net.settle()
    assert client.ending == ("fin" if b"Connection: close" in request or answer is None else "")
    count = segments_in(client) - before
    client.finish()
    here.net.settle()
    return count


def test_fin_leaves_with_the_end_of_the_answer() -> None:
    with stage() as here:
        for answer in (ok(b"x"), ok(b""), CHUNKS):
            last = segments_of(here, get("/", "Connection: close"), answer)
            assert last == segments_of(here, get("/"), answer)
        assert segments_of(here, b"nonsense\r\n\r\n", None) == last


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
        st.tuples(st.just("backend ill"), st.integers(0, 1), st.integers(0, 1)),
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
        elif kind == "backend ill":
            here.backends[who].healthy = not which
            if which:
                here.sources.idle.close(here.backends[who])
                for exchange in line_of(here.backends[who]):
                    exchange.move()
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
