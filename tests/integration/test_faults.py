"""What is txlb's own fault: an exception within it (`I-`), no descriptor for a backend (`RC`).

The exceptions come out of `os.splice`, which an algorithm's module replaces in the worker that imports it.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, answering, eventually
from support.wire import Ended, Message, Wire, ok

Start = Callable[..., Balancer]
SIZE = 64 << 20
POST = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n".encode()
FAULTY = """
import os, stat
real, full, PATIENT = os.splice, set(), {patient}
def splice(source, sink, size, *rest):
    outward = stat.S_ISSOCK(os.fstat(sink).st_mode)
    if outward and (sink in full or not PATIENT):
        raise RuntimeError("a fault for the test")
    moved = real(source, sink, size, *rest)
    if outward and moved < size:
        full.add(sink)
    return moved
os.splice = splice
class Faulty:
    def rebuild(self, backends): self.backends = backends
    def pick(self, context, tried): return self.backends[0]
"""


@pytest.fixture(params=["http", "tcp"])
def protocol(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def start(start_balancer: Start, origin: Origin, protocol: str, patient: bool | None = None) -> Balancer:
    """``patient``: the fault comes once a socket has been full, within the event of that socket."""
    algorithm = "round_robin" if patient is None else "faulty:Faulty"
    balancer = start_balancer(
        [origin.port],
        beside={"faulty.py": FAULTY.format(patient=patient)},
        listeners=[{"id": "in", "bind": "127.0.0.1:0", "protocol": protocol}],
        routing_rules=[{"id": "all", "listeners": ["in"], "backends": ["b0"], "algorithm": algorithm}],
        idle_connections={"max_per_backend": 0},
    )
    return balancer


def how(line: dict[str, object]) -> tuple[object, ...]:
    return line["termination"], line["reason"], line.get("status")


@contextmanager
def sending(client: Wire) -> Iterator[list[int]]:
    """A request whose body does not end, sent aside; yields the count of its pieces so far."""
    pieces = [0]

    def send() -> None:
        try:
            client.send(POST)
            while True:
                client.send(bytes(1 << 16))
                pieces[0] += 1
        except OSError:
            pass

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield pieces
    finally:
        with suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
        thread.join(30)
        assert not thread.is_alive()


def ends_in_a_fault(balancer: Balancer, status: int | None) -> None:
    """One line and one count say so, the traceback is in the daemon's log, nothing stays behind."""
    line = balancer.logged(1)[0]
    assert how(line) == ("I-", "internal_error", status)
    assert line["backend"] == "b0"
    eventually(lambda: balancer.metric("txlb_errors_total", listener="in", kind="internal") == 1, "counted")
    eventually(lambda: balancer.metric("txlb_client_connections") == 0, "no client")
    assert balancer.metric("txlb_backend_connections") == 0
    text = balancer.program.output
    assert "Traceback" in text
    assert text.count("RuntimeError: a fault for the test") == 1
    balancer.kill()  # `stop` wants a log without faults


def test_a_fault_before_the_answer_is_500(origin: Origin, start_balancer: Start) -> None:
    full = threading.Event()

    def script(visit: Visit) -> None:
        visit.head()
        full.wait(30)
        visit.rest()

    balancer = start(start_balancer, origin, "http", patient=True)
    with origin.serving(script), balancer.connect() as client, sending(client) as sent:
        seen = 0

        def stuck() -> bool:
            nonlocal seen
            before, seen = seen, sent[0]
            time.sleep(0.3)
            return seen == before > 0

        eventually(stuck, "no more is taken")
        full.set()
        answer = Message(client.head())
        assert answer.status == 500
        assert answer.get("connection") == "close"
        ends_in_a_fault(balancer, 500)


def test_a_fault_on_the_clients_side_ends_its_connection(origin: Origin, start_balancer: Start) -> None:
    balancer = start(start_balancer, origin, "http", patient=False)
    with origin.serving(lambda visit: visit.discard(SIZE) and None), balancer.connect() as client:
        with sending(client), pytest.raises((ConnectionError, Ended)):
            client.head()
        ends_in_a_fault(balancer, None)


def test_a_fault_within_an_answer_breaks_it_off(origin: Origin, start_balancer: Start) -> None:
    balancer = start(start_balancer, origin, "http", patient=False)
    with origin.serving(answering(lambda _: ok(bytes(SIZE)))), balancer.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert Message(client.head()).status == 200
        with pytest.raises((ConnectionError, Ended)):
            client.exactly(SIZE)
        ends_in_a_fault(balancer, 200)


def test_a_fault_ends_a_tcp_connection(origin: Origin, start_balancer: Start) -> None:
    balancer = start(start_balancer, origin, "tcp", patient=False)
    with origin.serving(lambda visit: visit.discard(SIZE) and None), balancer.connect() as client:
        with sending(client), pytest.raises((ConnectionError, Ended)):
            client.exactly(1)
        ends_in_a_fault(balancer, None)


def test_without_descriptors_for_a_backend(origin: Origin, start_balancer: Start, protocol: str) -> None:
    balancer = start(start_balancer, origin, protocol)
    (worker,) = balancer.worker_pids()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    with origin.serving(answering(lambda _: ok(b"yes"))):
        taken = set(map(int, os.listdir(f"/proc/{worker}/fd")))
        free = min(set(range(max(taken) + 2)) - taken)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (free + 1, before[1]))  # the client takes the last
        with balancer.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if protocol == "http":
                assert client.answer().status == 503
            else:
                with pytest.raises((ConnectionError, Ended)):
                    client.exactly(1)
        line = balancer.logged(1)[0]
        assert how(line) == ("RC", "no_resources", 503 if protocol == "http" else None)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.1\nHost: a").body == b"yes"
        assert balancer.metric("txlb_backend_status", backend="b0", status="HEALTHY") == 1
