from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dataplane import Peer, Stage, chunked, cut, get, ok, post, stage
from twisted.internet.testing import StringTransport

from txlb.forwarding.http.client import (
    EMPTY_LINES,
    MAX_PIPELINED,
    ClientConnection,
)
from txlb.net.lingering import LINGER_TIME
from txlb.net.listener import Gate

BIG = b"0123456789abcdef" * 65536 * 8  # 8 MiB


def forwarded(request: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What the backend got of ``request`` sent in ``pieces``, and what the client got for it."""
    with stage() as here:
        client = here.client()
        for piece in pieces:
            client.send(piece)
            here.net.settle()
        here.origin.last.send(ok(b"answer"))
        here.net.settle()
        return here.origin.last.data.replace(b"%d" % client.sock.getsockname()[1], b"PORT"), client.data


def sent_apart(client: Peer, here: Stage, data: bytes) -> None:
    for at in range(len(data)):
        client.send(data[at : at + 1])
        here.net.turn()
    here.net.settle()


# -- heads ----------------------------------------------------------------

REQUESTS = [
    get("/x?y", "Accept: */*", "X-Long: " + "v" * 40),
    b"\r\n\r\n" + get("/x"),
    post(b"the body", "X-A: b"),
    get("/c", "Transfer-Encoding: chunked", method="POST") + chunked(b"one", b"two"),
    get("/", version="1.0"),
]


@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_a_request_cut_anywhere_is_forwarded_alike(request_bytes: bytes) -> None:
    whole = forwarded(request_bytes, [request_bytes])
    assert whole[0].count(b"HTTP/1.1\r\n") == 1 and whole[1].endswith(b"answer")
    for place in range(1, len(request_bytes)):
        assert forwarded(request_bytes, cut(request_bytes, [place])) == whole, place


@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_a_request_octet_by_octet_is_forwarded_alike(request_bytes: bytes) -> None:
    octets = [request_bytes[at : at + 1] for at in range(len(request_bytes))]
    assert forwarded(request_bytes, octets) == forwarded(request_bytes, [request_bytes])


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_pipelined_requests_cut_anywhere_are_answered_alike(places: list[int]) -> None:
    requests = get("/1") + post(b"body", path="/2") + get("/3", "Transfer-Encoding: chunked", method="POST")
    requests += chunked(b"x", b"yz") + get("/4", "Connection: close")
    with stage() as here:
        client = here.client()
        seen = b""
        for piece in cut(requests, places):
            client.send(piece)
            here.net.settle()
        for index in range(1, 5):
            backend = here.origin.last
            seen += backend.take()
            backend.send(ok(b"%d" % index))
            here.net.settle()
        bodies = [part.split(b"\r\n")[0] for part in client.data.split(b"\r\n\r\n")[1:]]
        assert [body[:1] for body in bodies] == [b"1", b"2", b"3", b"4"]
        assert client.ending == "fin"
        assert [line.split(b" ")[1] for line in seen.split(b"\r\n") if b" HTTP/1.1" in line] == [
            b"/1",
            b"/2",
            b"/3",
            b"/4",
        ]
        assert here.terminations() == ["--"] * 4


@pytest.mark.parametrize("count", [1, EMPTY_LINES])
def test_some_empty_lines_before_a_request_are_skipped(count: int) -> None:
    for pieces in ([b"\r\n" * count, get()], [b"\r\n" * count + get()]):
        with stage() as here:
            client = here.client()
            for piece in pieces:
                client.send(piece)
                here.net.settle()
            assert here.origin.last.data.startswith(b"GET / HTTP/1.1\r\n")


def test_many_empty_lines_are_no_request() -> None:
    with stage() as here:
        client = here.client(b"\r\n" * 40 + get())
        assert client.data.startswith(b"HTTP/1.1 400 ")


def test_a_bare_lf_is_refused_before_the_head_is_whole() -> None:
    with stage() as here:
        client = here.client(b"GET / HTTP/1.1\nHost")
        assert client.data.startswith(b"HTTP/1.1 400 ")
        assert here.reasons() == ["bad_request"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("octets", [True, False])
def test_a_request_line_beyond_its_limit_is_414(whole: bool, octets: bool) -> None:
    with stage() as here:
        here.settings.max_line = 100
        request = get("/" + "x" * 90) if whole else b"GET /" + b"x" * 110
        client = here.client()
        if octets:
            sent_apart(client, here, request)
        else:
            client.send(request)
            here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 414 ")
        assert client.data.count(b"HTTP/1.1") == 1
        assert here.reasons() == ["request_too_large"]
        assert here.settings.errors == {414: 1}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("octets", [True, False])
def test_a_head_beyond_its_limit_is_431(whole: bool, octets: bool) -> None:
    with stage() as here:
        here.settings.max_head = 200
        request = get("/", "X-Long: " + "x" * 300)
        client = here.client()
        if octets:
            sent_apart(client, here, request)
        else:
            client.send(request if whole else request[:-2])
            here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 431 ")
        assert here.settings.errors == {431: 1}


def test_a_request_of_exactly_the_limit_is_taken_however_it_comes() -> None:
    request = get("/", "X-Long: " + "x" * 100)
    line = len(b"GET / HTTP/1.1")
    for octets in (False, True):
        with stage() as here:
            here.settings.max_head = len(request) - 4
            here.settings.max_line = line
            client = here.client()
            if octets:
                sent_apart(client, here, request)
            else:
                client.send(request)
                here.net.settle()
            assert here.origin.last.data.startswith(b"GET / ")


# -- deadlines ----------------------------------------------------------------


def test_the_head_has_one_deadline_that_single_bytes_do_not_extend() -> None:
    with stage() as here:
        here.settings.client_header = 10.0
        client = here.client()
        request = get()
        for at in range(20):
            if client.data:
                break
            client.send(request[at : at + 1])
            here.net.elapse(1.0)
        assert 9 <= at <= 13
        assert client.data.startswith(b"HTTP/1.1 408 ")
        assert here.terminations() == ["cR"]


def test_the_head_of_a_later_request_has_its_own_deadline() -> None:
    with stage() as here:
        here.settings.client_header = 5.0
        here.settings.client_idle = 60.0
        client = here.client()
        here.asked(client, get()).send(ok())
        here.net.elapse(30.0)
        client.send(get()[:5])
        here.net.elapse(4.0)
        assert client.take().count(b"HTTP/1.1") == 1
        here.net.elapse(2.0)
        assert client.data.startswith(b"HTTP/1.1 408 ")


def test_who_never_says_a_word_is_closed_without_an_answer() -> None:
    with stage() as here:
        client = here.client()
        here.net.elapse(here.settings.client_header + 0.5)
        assert client.data == b"" and client.ending == "fin"
        assert here.settings.errors_client_timeout == 1
        assert here.records() == []


def test_an_idle_connection_is_closed_without_an_answer() -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get()).send(ok())
        here.net.settle()
        client.take()
        here.net.elapse(here.settings.client_idle - 1.0)
        assert client.ending == ""
        here.net.elapse(2.0)
        assert client.data == b"" and client.ending == "fin"
        assert here.terminations() == ["--"]


def test_an_exchange_in_progress_has_no_client_deadline() -> None:
    with stage() as here:
        here.settings.backend_response = 1000.0
        client = here.client()
        backend = here.asked(client, get())
        here.net.elapse(200.0)
        backend.send(ok(b"late"))
        here.net.settle()
        assert client.data.endswith(b"late")


def test_a_body_that_trickles_is_408() -> None:
    with stage() as here:
        here.settings.client_body = 5.0
        client = here.client()
        here.asked(client, post(b"x", size=100_000))
        for _ in range(14):
            client.send(b"y")
            here.net.elapse(1.0)
            if client.data:
                break
        assert client.data.startswith(b"HTTP/1.1 408 ")
        assert here.terminations() == ["cB"]
        assert here.settings.errors_client_timeout == 1
        assert here.origin.last.ending == "reset"


def test_a_body_that_advances_is_not() -> None:
    with stage() as here:
        here.settings.client_body = 5.0
        client = here.client()
        backend = here.asked(client, post(b"", size=60_000))
        for _ in range(12):
            client.send(bytes(5_000))
            here.net.elapse(4.0)
        backend.send(ok(b"fine"))
        here.net.settle()
        assert client.data.endswith(b"fine")


def test_a_body_that_waits_for_the_backend_is_not_slow() -> None:
    with stage(tight=True) as here:
        here.settings.client_body = 5.0
        here.sources.send_timeout = 1000.0
        client = here.client()
        backend = here.asked(client, post(b"x", size=len(BIG)))
        backend.reading = False
        client.send(BIG[1:])
        here.net.elapse(60.0)
        assert client.unsent and client.data == b""
        backend.reading = True
        here.net.run_until(lambda: len(backend.data) >= len(BIG))
        backend.send(ok(b"fine"))
        here.net.settle()
        assert client.data.endswith(b"fine")


# -- pipelining ----------------------------------------------------------------


def test_one_exchange_at_a_time() -> None:
    with stage() as here:
        client = here.client(get("/1") + get("/2"))
        backend = here.origin.last
        assert backend.data.count(b"HTTP/1.1\r\n") == 1
        backend.take()
        backend.send(ok(b"one"))
        here.net.settle()
        assert client.take().endswith(b"one")
        assert backend.data.startswith(b"GET /2 ")
        backend.send(ok(b"two"))
        here.net.settle()
        assert client.data.endswith(b"two")
        assert len(here.origin.peers) == 1


def test_what_is_pipelined_is_bounded() -> None:
    with stage(tight=True) as here:
        client = here.client()
        backend = here.asked(client, get("/first"))
        client.send(b"".join(get(f"/{index}") for index in range(100_000)))
        here.net.settle()
        assert len(client.unsent) > 0, "the client was read on and on"
        connection = next(iter(here.net.loop.handlers.values())).protocol
        assert isinstance(connection, ClientConnection)
        assert len(connection.inbox) <= MAX_PIPELINED + (1 << 17)
        client.unsent = b""
        for _ in range(30):  # reading goes on when there is room again
            backend.send(ok(b"x"))
            here.net.settle()
        assert client.data.count(b"HTTP/1.1 200") == 30


def test_no_exchange_begins_while_the_client_does_not_take_answers() -> None:
    with stage(tight=True) as here:
        client = here.client()
        client.reading = False
        backend = here.asked(client, get("/big"))
        client.send(get("/1") + get("/2"))
        backend.take()
        backend.send(ok(BIG[:6_000_000]))
        here.net.settle()
        asked = backend.data.count(b"HTTP/1.1\r\n")
        assert asked == 0 and len(backend.unsent) > 0
        client.reading = True
        here.net.run_until(lambda: b"GET /1 " in backend.data)
        client.reading = False
        backend.take()
        backend.send(ok(b"one"))
        here.net.settle()
        assert backend.data.startswith(b"GET /2 ")
        backend.send(ok(b"two"))
        client.reading = True
        here.net.run_until(lambda: client.data.endswith(b"two"))


def test_own_answers_to_pipelined_requests_stop_when_the_client_does_not_read() -> None:
    """Requests that cost the client nothing must not fill memory with answers."""
    with stage(tight=True) as here:
        here.settings.routes = type(here.settings.routes)([])
        client = here.client()
        client.reading = False
        client.send(get("/404") * 60_000)
        here.net.settle()
        transport = next(iter(here.net.loop.handlers.values()))
        assert transport.pending_size < 300_000
        assert len(client.unsent) > 0
        done = here.settings.requests
        client.reading = True
        here.net.run_until(lambda: here.settings.requests > done)
        client.unsent = b""


def test_the_connection_serves_many_exchanges_in_turn() -> None:
    with stage() as here:
        client = here.client()
        for index in range(20):
            here.asked(client, post(b"body", path=f"/{index}")).send(ok(b"%d" % index))
            here.net.settle()
            assert client.take().endswith(b"\r\n\r\n%d" % index)
            here.origin.last.take()
        assert len(here.origin.peers) == 1
        assert here.terminations() == ["--"] * 20


@pytest.mark.parametrize(
    ("version", "field", "stays"),
    [
        ("1.1", "X: y", True),
        ("1.1", "Connection: close", False),
        ("1.0", "X: y", False),
        ("1.0", "Connection: keep-alive", True),
    ],
)
def test_who_may_ask_again(version: str, field: str, stays: bool) -> None:
    with stage() as here:
        client = here.client()
        here.asked(client, get("/", field, version=version)).send(ok(b"x"))
        here.net.settle()
        assert client.ending == ("" if stays else "fin")
        head = client.data.lower()
        assert (b"connection: close" in head) is not stays
        assert (b"connection: keep-alive" in head) is (stays and version == "1.0")


# -- the client leaves ----------------------------------------------------------------


def test_fin_after_a_whole_request_still_gets_its_answer() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get())
        client.finish()
        here.net.settle()
        backend.send(ok(b"the answer"))
        here.net.settle()
        assert client.data.endswith(b"the answer") and client.ending == "fin"
        assert here.terminations() == ["--"]


def test_fin_after_pipelined_requests_gets_all_their_answers() -> None:
    with stage() as here:
        client = here.client(get("/1") + post(b"x", path="/2") + get("/3"))
        client.finish()
        here.net.settle()
        for index in range(3):
            here.origin.last.send(ok(b"%d" % index))
            here.net.settle()
        assert client.data.count(b"200 OK") == 3 and client.ending == "fin"


def test_fin_together_with_the_request() -> None:
    with stage() as here:
        client = here.client()
        client.sock.send(get())
        client.finish()
        here.net.settle()
        here.origin.last.send(ok(b"the answer"))
        here.net.settle()
        assert client.data.endswith(b"the answer") and client.ending == "fin"


def test_fin_without_a_request_closes_quietly() -> None:
    with stage() as here:
        client = here.client()
        client.finish()
        here.net.settle()
        assert client.data == b"" and client.ending == "fin"
        assert here.records() == []


def test_fin_within_a_head_is_400() -> None:
    with stage() as here:
        client = here.client(get()[:-5])
        client.finish()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 400 ") and client.ending == "fin"
        assert here.terminations() == ["CR"]


def test_fin_within_a_head_that_was_pipelined_is_400_after_the_answers() -> None:
    with stage() as here:
        client = here.client(get("/1") + get("/2")[:-5])
        client.finish()
        here.net.settle()
        here.origin.last.send(ok(b"one"))
        here.net.settle()
        assert [part[9:12] for part in client.data.split(b"HTTP/1.1")[1:]] != []
        assert client.data.count(b"HTTP/1.1 200 ") == 1
        assert client.data.count(b"HTTP/1.1 400 ") == 1
        assert client.ending == "fin"
        assert here.terminations() == ["--", "CR"]


@pytest.mark.parametrize(
    "body", [post(b"part", size=100), get("/", "Transfer-Encoding: chunked", method="POST")]
)
def test_fin_within_a_body_ends_the_exchange(body: bytes) -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, body)
        client.finish()
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 400 ") and client.ending == "fin"
        assert backend.ending == "reset"
        assert here.terminations() == ["CB"]


@pytest.mark.parametrize(
    ("moment", "termination"),
    [("head", None), ("body", "CB"), ("connect", "CC"), ("wait", "CH"), ("data", "CD"), ("idle", "--")],
)
def test_a_reset_ends_the_exchange_at_once(moment: str, termination: str | None) -> None:
    with stage() as here:
        client = here.client()
        if moment == "head":
            client.send(get()[:-3])
        elif moment == "body":
            here.asked(client, post(b"part", size=100))
        elif moment == "connect":
            client.sock.send(get())
            here.net.loop.dispatch(here.net.epoll.poll(1.0))  # and no turn that would let the connect through
        elif moment == "wait":
            here.asked(client, get())
        elif moment == "data":
            here.asked(client, get()).send(ok(b"part", size=100))
            here.net.settle()
        else:
            here.asked(client, get()).send(ok(b"x"))
            here.net.settle()
        client.reset()
        if moment == "connect":
            here.net.loop.dispatch([event for event in here.net.epoll.poll(1.0) if event[1] & 8])
        here.net.settle()
        assert here.gate.open == 0
        assert here.backend.active_connections == 0
        assert here.terminations() == ([] if termination is None else [termination])
        if termination in ("CB", "CH", "CD"):
            assert here.origin.last.ending == "reset"
            assert here.settings.errors_client_abort == 1
            assert here.backend.errors == 0, "it is not the backend's fault"


def test_a_reset_during_a_paused_body_is_heard() -> None:
    with stage(tight=True) as here:
        client = here.client()
        backend = here.asked(client, post(b"x", size=len(BIG)))
        backend.reading = False
        client.send(BIG)
        here.net.settle()
        assert len(client.unsent) > 0
        client.reset()
        here.net.settle()
        assert here.gate.open == 0
        assert here.terminations() == ["CB"]


# -- closing in stages ----------------------------------------------------------------


def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, post(b"x", size=len(BIG)))
        backend.send(ok(b"no thanks", status="413 Content Too Large"))
        here.net.settle()
        client.send(BIG)
        here.net.settle()
        assert client.data.endswith(b"no thanks")
        assert b"Connection: close\r\n" in client.data
        assert client.ending == "fin"  # and no reset, though more was sent
        assert backend.ending == "reset"
        assert here.terminations() == ["--"]


def test_a_body_beyond_the_limit_is_413_and_the_client_can_read_it() -> None:
    with stage() as here:
        here.settings.max_body = 1000
        client = here.client(post(b"x" * 100, size=1001))
        client.send(b"y" * 901)
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 413 ") and client.ending == "fin"
        assert here.origin.peers == []
        client = here.client()
        here.asked(client, get("/", "Transfer-Encoding: chunked", method="POST") + b"3e8\r\n" + bytes(1000))
        assert client.data == b""
        client.send(b"\r\n1\r\nx\r\n0\r\n\r\n")
        here.net.settle()
        assert client.data.startswith(b"HTTP/1.1 413 ") and client.ending == "fin"
        assert here.terminations() == ["PB", "PB"]


def test_who_goes_on_sending_after_the_last_answer_is_cut_off_in_time() -> None:
    with stage() as here:
        here.settings.max_body = 10
        client = here.client(post(b"x", size=len(BIG) * 4))
        for _ in range(8):
            client.send(BIG[: 1 << 20])
            here.net.elapse(LINGER_TIME / 2)
        assert here.gate.open == 0
        assert client.data.startswith(b"HTTP/1.1 413 ") and client.ending == "fin"


def test_who_does_not_close_after_the_last_answer_is_closed_in_time() -> None:
    with stage() as here:
        here.settings.max_body = 10
        client = here.client(post(b"x", size=100))
        here.net.elapse(LINGER_TIME - 0.5)
        assert here.gate.open == 1
        here.net.elapse(4 * LINGER_TIME)  # less where the kernel tells at once that the answer has arrived
        assert here.gate.open == 0
        assert client.data.startswith(b"HTTP/1.1 413 ")


def test_lingering_ends_with_the_clients_fin() -> None:
    with stage() as here:
        client = here.client(b"nonsense\r\n\r\n")
        assert client.data.startswith(b"HTTP/1.1 400 ") and client.ending == "fin"
        assert here.gate.open == 1
        client.finish()
        here.net.settle()
        assert here.gate.open == 0


def test_nothing_is_processed_after_the_last_answer() -> None:
    with stage() as here:
        client = here.client(b"nonsense\r\n\r\n" + get())
        client.send(get())
        here.net.settle()
        assert client.data.count(b"HTTP/1.1") == 1
        assert here.origin.peers == []


def test_nothing_is_processed_after_close() -> None:
    with stage() as here:
        client = here.client(get("/1", "Connection: close") + get("/2"))
        here.origin.last.send(ok(b"one"))
        here.net.settle()
        assert client.data.count(b"HTTP/1.1") == 1 and client.ending == "fin"
        assert b"/2" not in here.origin.last.data


# -- draining ----------------------------------------------------------------


def test_draining_closes_idle_connections_and_lets_the_busy_finish() -> None:
    with stage() as here:
        idle, fresh, busy, partial = here.client(), here.client(), here.client(), here.client(get()[:5])
        here.asked(idle, get()).send(ok(b"x"))
        here.net.settle()
        backend = here.asked(busy, get())
        here.settings.draining = True
        for handler in list(here.net.loop.handlers.values()):
            if isinstance(handler.protocol, ClientConnection):
                handler.protocol.drain()
        here.net.settle()
        assert (idle.ending, fresh.ending, busy.ending, partial.ending) == ("fin", "fin", "", "")
        backend.send(ok(b"last"))
        here.net.settle()
        assert b"Connection: close\r\n" in busy.data and busy.data.endswith(b"last")
        assert busy.ending == "fin"


def test_while_draining_own_answers_close_too() -> None:
    with stage() as here:
        here.settings.routes = type(here.settings.routes)([])
        here.settings.draining = True
        client = here.client(get())
        assert client.data.startswith(b"HTTP/1.1 404 ")
        assert b"Connection: close" in client.data and client.ending == "fin"


# -- on other transports ----------------------------------------------------------------


def test_a_client_connection_runs_on_twisteds_string_transport() -> None:
    with stage() as here:
        here.settings.routes = type(here.settings.routes)([])
        gate = Gate(here.net.loop, 10)
        gate.open = 1
        connection = ClientConnection(here.settings, gate, "192.0.2.1", 4711)
        transport = StringTransport()
        connection.makeConnection(transport)
        connection.dataReceived(get("/1") + get("/2"))
        assert transport.value().count(b"HTTP/1.1 404 ") == 2
        connection.dataReceived(b"\n")
        assert transport.value().count(b"HTTP/1.1 400 ") == 1
        assert transport.disconnecting
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        connection.connectionLost(Failure(ConnectionDone()))
        assert gate.open == 0
        assert [record["client_ip"] for record in here.records()] == ["192.0.2.1"] * 3
