"""TCP listeners of a whole txlb: Redis behind one, bulk data both ways, backends that die, a clean stop."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.balancer import Balancer, wait_for_port
from support.origins import Origin, Visit, eventually
from support.ports import free_port
from support.processes import Program, find_tool
from support.wire import Ended

Start = Callable[..., Balancer]
LISTENER = {"id": "tcp", "bind": "127.0.0.1:0", "protocol": "tcp"}
MIB = 1 << 20


def start(start_balancer: Start, *ports: int, **settings: object) -> Balancer:
    rule = {"id": "all", "listeners": ["tcp"], "backends": [f"b{index}" for index in range(len(ports))]}
    return start_balancer(ports, listeners=[LISTENER], routing_rules=[rule], **settings)


@pytest.fixture
def redis(tmp_path: Path, start_program: Callable[..., Program]) -> Iterator[int]:
    tool = find_tool("redis-server")
    assert tool is not None
    port = free_port()
    program = start_program(
        [tool, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    )
    wait_for_port(port, program)
    yield port


@pytest.mark.integration(needs="redis-server")
def test_redis(start_balancer: Start, redis: int) -> None:
    balancer = start(start_balancer, redis)
    value = os.urandom(4 * MIB)
    with balancer.connect() as wire:
        wire.send(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n" % len(value), value, b"\r\n")
        assert wire.until(b"\r\n") == b"+OK\r\n"
        wire.send(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")
        assert wire.until(b"\r\n") == b"$%d\r\n" % len(value)
        assert wire.exactly(len(value)) == value
        assert wire.exactly(2) == b"\r\n"
        wire.send(b"PING\r\n" * 10_000)
        assert wire.exactly(7 * 10_000) == b"+PONG\r\n" * 10_000
    for _ in range(500):
        with balancer.connect() as wire:
            wire.send(b"PING\r\n")
            assert wire.until(b"\r\n") == b"+PONG\r\n"
    lines = balancer.logged(501)
    assert len(lines) == 501
    assert {line["backend"] for line in lines} == {"b0"}
    assert balancer.metric("txlb_connections_total") == 501


def test_bulk_both_ways_at_once_and_half_close(start_balancer: Start, origin: Origin) -> None:
    size = 64 * MIB
    up, down = hashlib.sha256(), hashlib.sha256()
    chunk = os.urandom(MIB)

    def talk(visit: Visit) -> None:
        sender = threading.Thread(target=lambda: visit.send(*[chunk] * (size // MIB)))
        sender.start()
        while data := visit.more():
            up.update(data)
        sender.join()

    balancer = start(start_balancer, origin.port)
    before = balancer.resident()
    with origin.serving(talk), balancer.connect() as wire:

        def send() -> None:
            wire.send(*[chunk] * (size // MIB))
            wire.finish()

        sender = threading.Thread(target=send)
        sender.start()
        while data := wire.more():
            down.update(data)
        sender.join()
    expected = hashlib.sha256(chunk * (size // MIB)).hexdigest()
    assert up.hexdigest() == down.hexdigest() == expected
    (line,) = balancer.logged()
    assert (line["bytes_in"], line["bytes_out"], line["termination"]) == (size, size, "--")
    assert balancer.resident() - before < 16 * MIB


def test_a_backend_that_is_not_there_costs_nobody_a_connection(start_balancer: Start, origin: Origin) -> None:
    balancer = start(start_balancer, free_port(), origin.port, free_port())

    def greet(visit: Visit) -> None:
        visit.send(b"hello " + visit.until(b"\n"))

    with origin.serving(greet):
        for number in range(30):
            with balancer.connect() as wire:
                wire.send(b"%d\n" % number)
                assert wire.until(b"\n") == b"hello %d\n" % number
    assert balancer.metric("txlb_errors_total", listener="tcp") == 0


def test_without_any_backend_the_client_is_reset(start_balancer: Start) -> None:
    balancer = start(start_balancer, free_port())
    try:
        with balancer.connect() as wire:
            assert wire.is_reset()
    except ConnectionResetError:
        pass  # refusing took so little time that the client's connect() itself hears of the reset
    (line,) = balancer.logged()
    assert (line["termination"], line["reason"]) == ("SC", "connect_refused")
    assert balancer.metric("txlb_errors_total", kind="502") == 1


def test_a_backend_that_breaks_off_is_a_reset(start_balancer: Start, origin: Origin) -> None:
    balancer = start(start_balancer, origin.port)

    def break_off(visit: Visit) -> None:
        visit.send(b"half a")
        visit.until(b"\n")
        visit.reset()

    with origin.serving(break_off), balancer.connect() as wire:
        assert wire.exactly(6) == b"half a"
        wire.send(b"\n")
        assert wire.is_reset()
    assert balancer.logged()[0]["termination"] == "ST"


def test_a_graceful_stop_lets_connections_finish(start_balancer: Start, origin: Origin) -> None:
    balancer = start(start_balancer, origin.port)

    def greet(visit: Visit) -> None:
        visit.send(b"hello " + visit.until(b"\n"))

    with origin.serving(greet), balancer.connect() as wire:
        eventually(lambda: balancer.connections() == 1, "the client is there")
        balancer.program.send_signal(signal.SIGTERM)
        eventually(lambda: not accepts(balancer.port), "it listens no more")
        wire.send(b"world\n")
        assert wire.until(b"\n") == b"hello world\n"
        assert wire.at_end()
    balancer.ended()


def accepts(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_silence_ends_a_connection(start_balancer: Start, origin: Origin) -> None:
    balancer = start(start_balancer, origin.port, timeouts={"tunnel_idle": "500ms"})

    def wait(visit: Visit) -> None:
        with pytest.raises((Ended, ConnectionResetError)):
            visit.until(b"\n")

    with origin.serving(wait), balancer.connect() as wire:
        assert wire.is_reset()
    assert balancer.logged()[0]["reason"] == "tunnel_idle"
