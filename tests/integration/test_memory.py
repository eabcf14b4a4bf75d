"""Bodies of any length pass in constant memory: ``TXLB_TEST_BODY_GIB`` says how long (1 GiB each way)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from support.balancer import Balancer
from support.memory import flat
from support.origins import Origin, Visit, eventually
from support.wire import Message, Wire, get, lines, ok

BODY = int(float(os.environ.get("TXLB_TEST_BODY_GIB", "1")) * (1 << 30))
PIECE = bytes(1 << 20)

Start = Callable[..., Balancer]


def push(wire: Wire, size: int) -> None:
    for _ in range(size // len(PIECE)):
        wire.send(PIECE)
    wire.send(PIECE[: size % len(PIECE)])


def warm_up(balancer: Balancer, origin: Origin) -> None:
    """One exchange, so that what is allocated once is."""

    def script(visit: Visit) -> None:
        visit.request()
        visit.send(ok(PIECE))

    with origin.serving(script), balancer.connect() as client:
        assert len(client.ask(f"POST / HTTP/1.1\nHost: a\nContent-Length: {len(PIECE)}", PIECE).body) == len(
            PIECE
        )


@pytest.mark.timeout(60 + 60 * (BODY >> 30))
@pytest.mark.parametrize("workers", [1, 0])
def test_a_long_upload(origin: Origin, start_balancer: Start, workers: int) -> None:
    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        visit.send(ok(b"%d" % visit.discard(BODY)))

    balancer = start_balancer([origin.port], workers=workers)
    warm_up(balancer, origin)
    with origin.serving(script), balancer.connect() as client, flat(balancer):
        client.send(lines(f"POST /up HTTP/1.1\nHost: a\nContent-Length: {BODY}"))
        push(client, BODY)
        assert client.answer().body == b"%d" % BODY
    assert balancer.line("/up")["bytes_in"] > BODY


@pytest.mark.timeout(60 + 60 * (BODY >> 30))
@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
def test_a_long_download(origin: Origin, start_balancer: Start, framing: str) -> None:
    size = BODY if framing == "length" else BODY // 4
    size -= size % len(PIECE)

    def script(visit: Visit) -> None:
        visit.request()
        if framing == "length":
            visit.send(lines(f"HTTP/1.1 200 OK\nContent-Length: {size}"))
            push(visit, size)
        elif framing == "close":
            visit.send(lines("HTTP/1.1 200 OK"))
            push(visit, size)
        else:
            visit.send(lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked"))
            for _ in range(size // len(PIECE)):
                visit.send(b"%x\r\n" % len(PIECE), PIECE, b"\r\n")
            visit.send(b"0\r\n\r\n")

    balancer = start_balancer([origin.port])
    warm_up(balancer, origin)
    with origin.serving(script), balancer.connect() as client, flat(balancer):
        client.send(get("/down"))
        message = Message(client.head())
        if framing == "length":
            assert client.discard(size) == size
        else:
            assert message.get("transfer-encoding") == "chunked"
            assert discard_chunks(client) == size


def discard_chunks(wire: Wire) -> int:
    size = 0
    while (length := int(wire.until(b"\r\n")[:-2], 16)) > 0:
        assert wire.discard(length) == length
        assert wire.exactly(2) == b"\r\n"
        size += length
    assert wire.exactly(2) == b"\r\n"
    return size


def test_slow_readers_hold_the_backends_back(origin: Origin, start_balancer: Start) -> None:
    """Twenty clients that do not read 64 MiB each: neither does txlb."""
    size = 64 << 20
    sent = [0] * 20

    def script(visit: Visit) -> None:
        number = int(visit.request().target[1:])
        visit.send(lines(f"HTTP/1.1 200 OK\nContent-Length: {size}"))
        while sent[number] < size:
            sent[number] += visit.sock.send(PIECE[: size - sent[number]])

    balancer = start_balancer([origin.port])
    warm_up(balancer, origin)
    with origin.serving(script), flat(balancer):
        clients = [balancer.connect(receive_buffer=16384) for _ in sent]
        try:
            for number, client in enumerate(clients):
                client.send(get(f"/{number}"))
            for client in clients:
                assert Message(client.head()).status == 200
            settled(lambda: sum(sent))
            assert max(sent) < size
            for client in clients[:5]:  # who reads on gets all of it
                assert client.discard(size) == size
        finally:
            for client in clients:
                client.close()


def test_a_slow_backend_holds_the_client_back(origin: Origin, start_balancer: Start) -> None:
    size = 256 << 20
    sent = 0
    reading = threading.Event()

    def script(visit: Visit) -> None:
        visit.note(Message(visit.head()))
        assert reading.wait(30)
        visit.send(ok(b"%d" % visit.discard(size)))

    def upload() -> None:
        nonlocal sent
        while sent < size:
            sent += client.sock.send(PIECE[: size - sent])

    balancer = start_balancer([origin.port])
    warm_up(balancer, origin)
    with origin.serving(script), balancer.connect() as client, flat(balancer):
        client.send(lines(f"POST /up HTTP/1.1\nHost: a\nContent-Length: {size}"))
        uploading = threading.Thread(target=upload)
        uploading.start()
        settled(lambda: sent)
        assert sent < size
        reading.set()
        uploading.join()
        assert client.answer().body == b"%d" % size


def settled(count: Callable[[], int]) -> None:
    """Wait until ``count`` is above 0 and has stood still for a while."""
    eventually(lambda: count() > 0, "a start")
    last, same = -1, 0

    def still() -> bool:
        nonlocal last, same
        now = count()
        same = same + 1 if now == last else 0
        last = now
        return same >= 50  # polls 10 ms apart

    eventually(still, "a standstill")
