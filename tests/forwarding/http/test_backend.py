from __future__ import annotations

from pathlib import Path

import pytest
from support.dataplane import Peer, Stage, chunked, cut, get, ok, post, stage
from support.tls import Authority, TlsPeer, backend_spec

from txlb.forwarding.http.backend import MAX_HEAD, MAX_INTERIM
from txlb.net.stream import HIGH_WATER, READ_MAX
from txlb.net.tls_origin import TlsOrigin, client_context

BIG = b"0123456789abcdef" * 65536 * 2  # 2 MiB: more than tight buffers take
HUGE = BIG * 4  # more than the kernel takes for a backend
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def answered(answer: bytes, pieces: list[bytes], request: bytes, fin: bool = False) -> tuple[bytes, str]:
    """What the client got of ``answer`` sent in ``pieces``."""
    with stage() as here:
        client = here.client()
        backend = here.asked(client, request)
        for piece in pieces:
            backend.send(piece)
            here.net.settle()
        if fin:
            backend.finish()
            here.net.settle()
        return client.data, here.terminations()[0]


ANSWERS = [
    (get(), ok(b"the body", "X-A: b", "Connection: X-A"), False),
    (get(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"), False),
    (get(), CONTINUE + HINTS + ok(b"x"), False),
    (get(), UNTIL_CLOSE + b"until the end", True),
    (get("/", method="HEAD"), ok(size=100), False),
    (get(), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", False),
    (get(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", False),
]


def meaning(data: bytes) -> bytes:
    """Bytes of the client, without the sizes of chunks that came with the way it was cut."""
    head, _, body = data.rpartition(b"\r\n\r\n") if b"chunked" not in data else data.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return data
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return head + b"|" + out


@pytest.mark.parametrize(("request_bytes", "answer", "fin"), ANSWERS)
def test_an_answer_cut_anywhere_is_passed_on_alike(request_bytes: bytes, answer: bytes, fin: bool) -> None:
    whole, termination = answered(answer, [answer], request_bytes, fin)
    assert termination == "--"
    for place in range(1, len(answer)):
        data, termination = answered(answer, cut(answer, [place]), request_bytes, fin)
        assert (meaning(data), termination) == (meaning(whole), "--"), place


@pytest.mark.parametrize(("request_bytes", "answer", "fin"), ANSWERS)
def test_an_answer_octet_by_octet_is_passed_on_alike(request_bytes: bytes, answer: bytes, fin: bool) -> None:
    whole, _ = answered(answer, [answer], request_bytes, fin)
    data, termination = answered(answer, cut(answer, range(len(answer))), request_bytes, fin)
    assert (meaning(data), termination) == (meaning(whole), "--")


# -- strictness ----------------------------------------------------------------

DEFECTS = [
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (MAX_HEAD + 10),
    b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (MAX_HEAD + 10) + b"\r\n\r\n",
]


@pytest.mark.parametrize("answer", DEFECTS)
@pytest.mark.parametrize("apart", [True, False])
def test_a_malformed_head_is_502_and_not_passed_on(answer: bytes, apart: bool) -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        for piece in cut(answer, [10, 4000] if apart else []):
            backend.send(piece)
            here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert client.data.count(b"HTTP/1.1") == 1
        assert client.ending == "", "the client did nothing wrong"
        assert backend.ending == "reset"
        assert here.terminations() == ["PH"]
        assert (here.backend.bad_responses, here.backend.errors) == (1, 1)


def test_a_malformed_body_breaks_the_client_off() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        here.net.settle()
        backend.send(b"zz\r\n")
        here.net.settle()
        assert client.ending == "reset"
        assert not client.data.endswith(b"0\r\n\r\n")
        assert here.terminations() == ["PD"]
        assert here.backend.bad_responses == 1


def test_a_body_that_is_malformed_from_the_start_is_502() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert backend.ending == "reset" and here.backend.bad_responses == 1


# -- interim answers ----------------------------------------------------------------


def test_interim_answers_are_relayed() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, post(b"", "Expect: 100-continue", size=4))
        assert b"Expect: 100-continue\r\n" in backend.take()
        backend.send(CONTINUE)
        here.net.settle()
        assert client.take() == CONTINUE
        client.send(b"body")
        here.net.settle()
        assert backend.data == b"body"
        backend.send(HINTS)
        here.net.settle()
        assert client.take() == HINTS
        backend.send(ok(b"x"))
        here.net.settle()
        assert client.data.endswith(b"x")
        assert here.records()[0]["status"] == 200


def test_interim_answers_are_not_for_http_1_0() -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get(version="1.0")).send(HINTS + ok(b"x"))
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("count", [MAX_INTERIM, MAX_INTERIM + 1])
def test_interim_answers_are_bounded(count: int) -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get()).send(HINTS * count + ok(b"x"))
        here.net.settle()
        assert client.data.startswith(HINTS)
        last = client.data.rpartition(b"HTTP/1.1 ")[2]
        assert last.startswith(b"200" if count == MAX_INTERIM else b"502")


def test_the_count_of_interim_answers_begins_anew_with_each_exchange() -> None:
    with stage() as here:
        client = here.client()
        for _ in range(3):
            here.asked(client, get()).send(HINTS * MAX_INTERIM + ok(b"x"))
            here.net.settle()
        assert here.terminations() == ["--"] * 3


# -- bytes that nobody asked for ----------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x") + b"y",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x") + b"y",
        b"HTTP/1.1 204 No Content\r\n\r\ny",
        ok(b"x") + ok(b"a poisoned answer"),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_bytes_beyond_the_answer_make_the_connection_useless(answer: bytes, apart: bool) -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/1"))
        for piece in cut(answer, [len(answer) - 1] if apart else []):
            backend.send(piece)
            here.net.settle()
        assert b"y" not in client.data.partition(b"\r\n\r\n")[2]
        assert client.data.count(b"HTTP/1.1") == 1
        assert backend.ending and here.backend.idle == 0
        client.take()
        fresh = here.asked(client, get("/2"))
        assert fresh is not backend
        fresh.send(ok(b"right"))
        here.net.settle()
        assert client.data.endswith(b"right")


def test_a_byte_while_idle_makes_the_connection_useless() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/1"))
        backend.send(ok(b"x"))
        here.net.settle()
        assert here.backend.idle == 1
        backend.send(b"H")
        here.net.settle()
        assert (here.backend.idle, here.backend.connections) == (0, 0)
        assert backend.ending == "reset"


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_connection_that_closes_while_idle_leaves(how: str) -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/1"))
        backend.send(ok(b"x"))
        here.net.settle()
        (backend.finish if how == "fin" else backend.reset)()
        here.net.settle()
        assert (here.backend.idle, here.backend.connections) == (0, 0)


def test_a_backend_that_wants_to_close_is_not_kept() -> None:
    with stage() as here:
        client = here.client()
        for version, field, kept in [
            ("1.1", "Connection: close", 0),
            ("1.0", "X: y", 0),
            ("1.0", "Connection: keep-alive", 1),
            ("1.1", "X: y", 1),
        ]:
            backend = here.asked(client, get())
            backend.send(f"HTTP/{version} 200 OK\r\nContent-Length: 1\r\n{field}\r\n\r\nx".encode())
            here.net.settle()
            assert here.backend.idle == kept, (version, field)
            assert client.ending == "", "that is between txlb and the backend"
            backend.take()


# -- bodies ----------------------------------------------------------------


def test_a_body_until_close_becomes_chunks() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        backend.send(UNTIL_CLOSE + b"first ")
        here.net.settle()
        assert b"Transfer-Encoding: chunked\r\n" in client.data
        assert client.data.endswith(b"\r\n\r\n6\r\nfirst \r\n")
        backend.send(b"second")
        backend.finish()
        here.net.settle()
        assert client.data.endswith(b"6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n")
        assert client.ending == "" and here.backend.idle == 0
        assert here.terminations() == ["--"]


def test_a_body_until_close_that_is_reset_does_not_look_whole() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        backend.send(UNTIL_CLOSE + b"first ")
        here.net.settle()
        backend.reset()
        here.net.settle()
        assert client.ending == "reset" and not client.data.endswith(b"0\r\n\r\n")
        assert here.terminations() == ["SD"]


@pytest.mark.parametrize("ending", ["notify", "cut"])
def test_a_body_until_close_over_tls_is_whole_with_close_notify_only(tmp_path: Path, ending: str) -> None:
    authority = Authority(tmp_path)
    settings = backend_spec(ca=authority.path, server_name="b.example")
    with stage() as here:
        here.backend.secure = TlsOrigin(settings, "127.0.0.1", client_context(settings))
        here.origin.accepting = False
        client = here.client(get())
        sock, _ = here.origin.sock.accept()
        backend = TlsPeer(sock, authority.server(authority.certificate("b.example")), server=True)
        here.net.peers.append(backend)  # type: ignore[arg-type]
        here.net.run_until(lambda: backend.data)
        backend.send(UNTIL_CLOSE + b"first ")
        here.net.run_until(lambda: client.data.endswith(b"6\r\nfirst \r\n"))
        if ending == "notify":
            backend.notify()
        else:
            backend.finish()  # FIN alone, as anybody on the way can send it
        here.net.run_until(lambda: here.terminations())
        here.net.settle()
        here.net.peers.remove(backend)  # type: ignore[arg-type]
        backend.close()
        if ending == "notify":
            assert client.data.endswith(b"0\r\n\r\n") and client.ending == ""
            assert here.terminations() == ["--"]
        else:
            assert client.ending == "reset" and not client.data.endswith(b"0\r\n\r\n")
            assert here.terminations() == ["SD"]


def test_a_body_until_close_ends_with_the_connection_for_http_1_0() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/", "Connection: keep-alive", version="1.0"))
        backend.send(UNTIL_CLOSE + b"all")
        backend.finish()
        here.net.settle()
        assert client.data.endswith(b"\r\n\r\nall") and b"chunked" not in client.data
        assert client.ending == "fin"


def test_chunks_are_decoded_for_http_1_0() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/", "Connection: keep-alive", version="1.0"))
        backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"))
        here.net.settle()
        assert client.data.endswith(b"\r\n\r\nonetwo") and b"chunked" not in client.data
        assert client.ending == "fin"
        assert here.backend.idle == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified", "204 No Content"])
def test_answers_without_a_body(method: str, status: str) -> None:
    if method == "GET" and status.startswith("200"):
        return
    with stage() as here:
        client = here.client()
        here.asked(client, get("/", method=method)).send(
            f"HTTP/1.1 {status}\r\nContent-Length: 10\r\n\r\n".encode()
        )
        here.net.settle()
        assert client.data.endswith(b"\r\n\r\n")
        assert here.terminations() == ["--"] and here.backend.idle == 1


def test_the_same_head_again_means_the_same_unless_the_request_differs() -> None:
    with stage() as here:
        client = here.client()
        for method, body in [("GET", b"1"), ("GET", b"2"), ("HEAD", b""), ("GET", b"3"), ("HEAD", b"")]:
            backend = here.asked(client, get("/", method=method))
            backend.send(ok(size=1) + body)
            here.net.settle()
            assert client.take().partition(b"\r\n\r\n")[2] == body
        assert here.terminations() == ["--"] * 5


def test_a_head_that_another_connection_met_means_the_same_unless_the_request_differs() -> None:
    with stage() as here:
        clients = [here.client() for _ in range(3)]
        backends = [here.asked(client, get("/")) for client in clients]  # a connection each
        for client, backend in zip(clients, backends, strict=True):
            backend.send(ok(b"1"))
            here.net.settle()
            assert client.take().endswith(b"\r\n\r\n1")
        heads = {id(one.last_head) for one in here.sources.idle.waiting(here.backend)}
        assert len(heads) == 1, "it was parsed once"
        client = here.client()
        here.asked(client, get("/", method="HEAD")).send(ok(size=1))
        here.net.settle()
        assert client.take().endswith(b"\r\n\r\n") and here.terminations() == ["--"] * 4


@pytest.mark.parametrize(
    "answer", [ok(b"part", size=10), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart"]
)
@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_cut_answer_does_not_look_whole(answer: bytes, how: str) -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        backend.send(answer)
        here.net.settle()
        (backend.finish if how == "fin" else backend.reset)()
        here.net.settle()
        assert client.ending == "reset"
        assert here.terminations() == ["SD"] and here.backend.resets == 1


def test_a_cut_head_is_502() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        backend.send(b"HTTP/1.1 200 OK\r\nX-")
        backend.finish()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 502 ")
        assert here.terminations() == ["SH"]


# -- silence ----------------------------------------------------------------


def test_silence_before_the_answer_is_504() -> None:
    with stage() as here:
        here.settings.backend_response = 5.0
        client = here.client()
        backend = here.asked(client, get())
        here.net.elapse(4.5)
        assert client.data == b""
        here.net.elapse(1.0)
        assert client.data.startswith(b"HTTP/1.1 504 ")
        assert backend.ending == "reset"
        assert here.terminations() == ["sH"] and here.backend.timeouts == 1


def test_silence_within_the_answer_breaks_the_client_off() -> None:
    with stage() as here:
        here.settings.backend_response = 5.0
        client = here.client()
        backend = here.asked(client, get())
        backend.send(ok(b"x", size=10))
        for _ in range(4):
            here.net.elapse(4.0)
            backend.send(b"y")  # what comes in time extends the wait
            here.net.settle()
            assert client.ending == ""
        here.net.elapse(6.0)
        assert client.ending == "reset"
        assert here.terminations() == ["sD"] and here.backend.timeouts == 1


def test_while_the_request_is_sent_the_answer_is_not_awaited() -> None:
    with stage() as here:
        here.settings.backend_response = 5.0
        here.settings.client_body = 60.0
        client = here.client()
        backend = here.asked(client, post(b"x", size=2))
        here.net.elapse(20.0)
        assert client.data == b""
        client.send(b"y")
        here.net.elapse(4.0)
        assert client.data == b""
        here.net.elapse(2.0)
        assert client.data.startswith(b"HTTP/1.1 504 ")
        assert backend.ending == "reset"


@pytest.mark.parametrize("body", ["length", "chunked", "close"])
def test_a_slow_client_is_not_the_backends_silence(body: str) -> None:
    with stage(tight=True) as here:
        here.settings.backend_response = 5.0
        here.settings.send_timeout = 1000.0
        client = here.client()
        client.reading = False
        backend = here.asked(client, get())
        if body == "length":
            backend.send(ok(BIG))
        elif body == "chunked":
            backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BIG))
        else:
            backend.send(UNTIL_CLOSE + BIG)
        here.net.settle()
        assert len(backend.unsent) > 0
        here.net.elapse(60.0)
        assert client.ending == "" and here.records() == []
        client.reading = True
        here.net.run_until(lambda: not backend.unsent)
        if body == "close":
            backend.finish()
        here.net.run_until(here.records)
        assert here.terminations() == ["--"]


# -- pace ----------------------------------------------------------------


def buffered(here: Stage) -> int:
    """The most that any transport holds now."""
    return max(getattr(handler, "pending_size", 0) for handler in here.net.loop.handlers.values())


def sizes(here: Stage, turns: int) -> int:
    worst = 0
    for _ in range(turns):
        here.net.turn(0.001)
        worst = max(worst, buffered(here))
    return worst


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_a_fast_backend_waits_for_a_slow_client(kind: str) -> None:
    with stage(tight=True) as here:
        here.net.loop.pipes.enabled = False  # splicing has a bound of its own
        client = here.client()
        client.reading = False
        backend = here.asked(client, get())
        head = ok(size=len(BIG))
        if kind == "chunked":
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = BIG if kind == "length" else chunked(BIG)
        backend.send(head + body)
        assert sizes(here, 100) <= HIGH_WATER + READ_MAX
        assert len(backend.unsent) > 0
        client.reading = True
        here.net.run_until(lambda: here.records())
        here.net.settle()
        assert client.data.partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("kind", ["length", "chunked"])
@pytest.mark.parametrize("spliced", [True, False])
def test_a_fast_client_waits_for_a_slow_backend(kind: str, spliced: bool) -> None:
    with stage(tight=True) as here:
        here.net.loop.pipes.enabled = spliced
        client = here.client()
        head = (
            post(size=len(HUGE))
            if kind == "length"
            else get("/", "Transfer-Encoding: chunked", method="POST")
        )
        body = HUGE if kind == "length" else chunked(HUGE)
        backend = here.asked(client, head)
        backend.reading = False
        client.send(body)
        assert sizes(here, 100) <= HIGH_WATER + READ_MAX
        assert len(client.unsent) > 0
        backend.reading = True
        here.net.run_until(lambda: backend.data.partition(b"\r\n\r\n")[2] == body)
        backend.send(ok(b"done"))
        here.net.settle()
        assert client.data.endswith(b"done")
        assert here.records()[0]["bytes_in"] == len(head) + len(body)


def test_a_backend_that_takes_nothing_is_504() -> None:
    with stage(tight=True) as here:
        here.sources.send_timeout = 5.0
        here.settings.client_body = 1000.0
        client = here.client()
        backend = here.asked(client, post(size=len(HUGE)))
        backend.reading = False
        client.send(HUGE)
        for _ in range(5):  # the kernel may take a little more when we were away: that begins the time anew
            here.net.elapse(7.0)
            if client.data:
                break
        assert client.data.startswith(b"HTTP/1.1 504 ")
        assert here.terminations() == ["sB"] and here.backend.timeouts == 1


def test_a_connection_that_has_not_taken_its_request_is_not_kept() -> None:
    """It answered early: what it has yet to take would hold up the next exchange, and unpaced."""
    with stage(tight=True) as here:
        client = here.client()
        backend = here.asked(client, get("/", "Transfer-Encoding: chunked", method="POST"))
        backend.reading = False
        while not buffered(here):
            client.send(b"8000\r\n" + bytes(32768) + b"\r\n")
            here.net.settle()
        client.send(b"0\r\n\r\n")
        here.net.settle()
        assert buffered(here)
        backend.send(ok(b"early"))
        here.net.settle()
        assert client.data.endswith(b"early") and client.ending == ""
        assert here.backend.idle == 0
        backend.reading = True
        here.net.run_until(lambda: backend.ending)


# -- tunnels ----------------------------------------------------------------


def tunnel(here: Stage) -> tuple[Peer, Peer]:
    client = here.client()
    backend = here.asked(client, get("/ws", *UPGRADE, "Sec-WebSocket-Key: x"))
    backend.take()
    backend.send(SWITCHED)
    here.net.settle()
    assert client.take().startswith(b"HTTP/1.1 101 ")
    return client, backend


def test_a_tunnel_passes_bytes_both_ways() -> None:
    with stage() as here:
        client, backend = tunnel(here)
        client.send(b"ping")
        backend.send(b"pong")
        here.net.settle()
        assert (backend.data, client.data) == (b"ping", b"pong")
        client.finish()
        here.net.settle()
        assert backend.ending == "fin" and client.ending == ""
        backend.send(b"last words")
        backend.finish()
        here.net.settle()
        assert client.data == b"ponglast words" and client.ending == "fin"
        record = here.records()[0]
        assert (record["status"], record["termination"]) == (101, "--")
        assert record["bytes_in"] > 4 and record["bytes_out"] > 14


@pytest.mark.parametrize("size", [10, 1 << 20], ids=["copied", "spliced"])
def test_a_tunnel_is_counted_while_it_lasts_and_its_bulk_is_spliced(size: int) -> None:
    with stage() as here:
        client, origin = tunnel(here)
        server, listener = here.backend, here.settings
        base = (listener.bytes_in, listener.bytes_out, server.bytes_in, server.bytes_out)
        for turn in (1, 2):
            client.send(bytes(size))
            here.net.run_until(lambda turn=turn: len(origin.data) == turn * size)
            origin.send(bytes(size))
            here.net.run_until(lambda turn=turn: len(client.data) == turn * size)
            now = (listener.bytes_in, listener.bytes_out, server.bytes_in, server.bytes_out)
            assert [after - before for before, after in zip(base, now, strict=True)] == [turn * size] * 4
        client.finish()
        origin.finish()
        here.net.settle()
        assert bool(here.net.loop.pipes.kept) == (size > 10)
        (record,) = here.records()
        assert record["bytes_in"] == listener.bytes_in > 2 * size
        assert record["bytes_out"] == listener.bytes_out > 2 * size


def test_bytes_behind_the_101_and_behind_the_request_belong_to_the_tunnel() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/ws", *UPGRADE, "Sec-WebSocket-Key: x") + b"early bird")
        assert b"early bird" not in backend.take()
        backend.send(SWITCHED + b"hello")
        here.net.settle()
        assert client.data.endswith(b"\r\n\r\nhello")
        assert backend.data == b"early bird"


def test_an_upgrade_that_is_declined_is_an_ordinary_exchange() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/ws", *UPGRADE, "Sec-WebSocket-Key: x"))
        backend.send(ok(b"no"))
        here.net.settle()
        assert client.data.endswith(b"no")
        assert here.backend.idle == 1


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_reset_of_one_side_of_a_tunnel_resets_the_other(side: str) -> None:
    with stage() as here:
        client, backend = tunnel(here)
        (client if side == "client" else backend).reset()
        here.net.settle()
        assert (backend if side == "client" else client).ending == "reset"
        assert here.terminations() == ["CT" if side == "client" else "ST"]


def test_a_silent_tunnel_ends_in_time() -> None:
    with stage() as here:
        here.settings.tunnel_idle = 5.0
        client, backend = tunnel(here)
        for _ in range(4):
            client.send(b"x")
            here.net.elapse(2.0)
            backend.send(b"y")
            here.net.elapse(2.0)
        assert client.ending == ""
        here.net.elapse(6.0)
        assert client.ending == backend.ending == "reset"
        assert here.terminations() == ["PT"]
