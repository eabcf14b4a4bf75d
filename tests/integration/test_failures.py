"""What breaks, and what does not: workers, backends, ports, logs, shutdown."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.balancer import Balancer, Nginx, children
from support.clients import Clients
from support.origins import Origin, Visit, answering, echo, eventually
from support.ports import free_port
from support.processes import Program, twistd
from support.wire import Ended, Message, Wire, get, lines, ok

Start = Callable[..., Balancer]


def holder(balancer: Balancer, port: int) -> int:
    """Which worker has the client connection from ``port``."""
    for pid in balancer.worker_pids():
        if f":{port:04X} " in remote_ends(pid):
            return pid
    raise AssertionError("nobody has it")


def remote_ends(pid: int) -> str:
    """The remote ends of the sockets that ``pid`` holds, as /proc/net/tcp writes them."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[9] in inodes:
            found.append(columns[2] + " ")
    return "".join(found)


# -- workers ----------------------------------------------------------------------------------------


def test_a_killed_worker_takes_only_its_own_connections(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers=4)
    with origin.serving(answering(echo)), ExitStack() as stack:
        open_now = [stack.enter_context(balancer.connect()) for _ in range(40)]
        for client in open_now:
            assert client.ask("GET /kept HTTP/1.1\nHost: a").status == 200
        where = {client: holder(balancer, client.sock.getsockname()[1]) for client in open_now}
        victim = Counter(where.values()).most_common(1)[0][0]
        pids = balancer.worker_pids()
        assert len(pids) == 4
        with Clients(balancer.port, 4) as clients:
            eventually(lambda: clients.total > 100, "traffic")
            os.kill(victim, signal.SIGKILL)
            eventually(
                lambda: victim not in (now := balancer.worker_pids()) and len(now) == 4, "a new worker"
            )
            eventually(lambda: balancer.metric("txlb_worker_up") == 4, "four workers serve")
            before = clients.total
            eventually(lambda: clients.total > before + 200, "traffic goes on")
        broken = {outcome: n for outcome, n in clients.outcomes.items() if outcome != "200"}
        assert sum(broken.values()) <= 4, broken  # at most what each client had open on the victim
        assert clients.slowest < 1.0
        print(f"{clients.total} requests, the slowest {clients.slowest * 1000:.0f} ms")
        for client, pid in where.items():
            if pid == victim:
                with pytest.raises((OSError, Ended)):
                    client.ask("GET /kept HTTP/1.1\nHost: a")
            else:
                assert client.ask("GET /kept HTTP/1.1\nHost: a").status == 200
    eventually(lambda: balancer.connections() == 0, "no connection is counted any more")
    for gauge in ("txlb_client_connections", "txlb_backend_connections", "txlb_idle_connections"):
        eventually(lambda gauge=gauge: balancer.metric(gauge) == 0, gauge)  # type: ignore[misc]
    assert balancer.metric("txlb_worker_restarts_total") == 1


def test_every_worker_killed_once_under_load(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers=2)
    with origin.serving(answering(echo)), Clients(balancer.port, 4) as clients:
        for victim in balancer.worker_pids():
            before = clients.total
            eventually(lambda before=before: clients.total > before + 50, "traffic")  # type: ignore[misc]
            os.kill(victim, signal.SIGKILL)
            eventually(
                lambda victim=victim: (
                    len(balancer.worker_pids()) == 2 and victim not in balancer.worker_pids()
                ),  # type: ignore[misc]
                "a new worker",
            )
            eventually(lambda: balancer.metric("txlb_worker_up") == 2, "it serves")
    assert clients.outcomes["200"] >= clients.total - 8, clients.outcomes
    assert clients.slowest < 1.0
    eventually(lambda: balancer.connections() == 0, "no connection is counted any more")


# -- backends ----------------------------------------------------------------------------------------


@pytest.mark.integration(needs="nginx")
@pytest.mark.parametrize("workers", [2, 0])
def test_a_killed_backend_under_load_and_totals_that_agree(
    tmp_path: Path, start_balancer: Start, workers: int
) -> None:
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        backends = []
        for number, port in enumerate(ports):
            server = f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "from b{number}"; }} }}'
            backends.append(stack.enter_context(Nginx(tmp_path / f"nginx-{number}", server)).ready(port))
        balancer = start_balancer(ports, workers=workers)
        with Clients(balancer.port, 4) as clients:
            eventually(lambda: clients.total > 200, "traffic")
            for pid in [backends[0].pid, *children(backends[0].pid)]:
                os.kill(pid, signal.SIGKILL)
            before = clients.total
            eventually(lambda: clients.total > before + 300, "traffic goes on")
            for backend in backends[1:]:
                for pid in [backend.pid, *children(backend.pid)]:
                    os.kill(pid, signal.SIGKILL)
            eventually(lambda: clients.outcomes["502"] + clients.outcomes["503"] > 50, "nobody is left")
    assert set(clients.outcomes) <= {"200", "502", "503"}, clients.outcomes
    lines_ = balancer.logged(clients.total)
    assert Counter(str(line["status"]) for line in lines_) == clients.outcomes
    settled = {"2xx": clients.outcomes["200"], "5xx": clients.outcomes["502"] + clients.outcomes["503"]}
    for code, count in settled.items():
        eventually(
            lambda code=code, count=count: balancer.metric("txlb_http_requests_total", code=code) == count,
            code,
        )  # type: ignore[misc]
    metrics = balancer.metrics()
    assert metrics.total("txlb_http_requests_total") == clients.total == len(lines_)
    assert metrics.total("txlb_http_request_duration_seconds_count") == clients.total
    for name in ("b0", "b1", "b2"):
        answered = sum(line["backend"] == name and line["status"] == 200 for line in lines_)
        assert metrics.total("txlb_http_requests_total", backend=name, code="2xx") == answered > 0
    assert metrics.total("txlb_connections_total") == clients.total
    assert metrics.total("txlb_bytes_total", direction="in") == sum(line["bytes_in"] for line in lines_)
    assert metrics.total("txlb_bytes_total", direction="out") == sum(line["bytes_out"] for line in lines_)


def test_a_backend_that_dies_during_answers_never_hangs_a_client(
    origin: Origin, start_balancer: Start
) -> None:
    balancer = start_balancer([origin.port])
    with origin.serving(lambda visit: visit.rest() and None):
        clients = [balancer.connect() for _ in range(20)]
        for client in clients:
            client.send(get("/waiting"))
        eventually(lambda: len(origin.visits) == 20, "all of them wait")
    for client in clients:  # serving has ended: every backend connection is closed
        with client:
            assert client.answer().status == 502
    assert {line["termination"] for line in balancer.logged(20)} == {"SH"}


def test_no_backend_reachable_is_502(start_balancer: Start) -> None:
    balancer = start_balancer([free_port(), free_port()])
    with balancer.connect() as client:
        for _ in range(5):
            assert client.ask("GET / HTTP/1.1\nHost: a").status in (502, 503)


def test_a_stale_connection_is_noticed_before_it_is_used(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        message = visit.request()
        visit.sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_CORK, 1
        )  # FIN comes with the answer, not after it
        visit.send(echo(message))
        visit.close()

    with origin.serving(script), balancer.connect() as client:
        for number in range(10):
            assert client.ask(f"POST /{number} HTTP/1.1\nHost: a\nContent-Length: 2", b"ab").status == 200
            eventually(lambda number=number: origin.visits[number].over.is_set(), "closed")  # type: ignore[misc]
        assert [request.target for request in origin.requests] == [f"/{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("method", "sent_again"),
    [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)],
)
def test_a_reused_connection_that_closes_under_the_request(
    balancer: Balancer, origin: Origin, method: str, sent_again: bool
) -> None:
    """The origin reads the second request of a connection and closes without a byte of an answer."""

    def script(visit: Visit) -> None:
        visit.send(echo(visit.request()))
        visit.request()
        if len(origin.visits) > 1:
            visit.send(ok(b"never"))

    with origin.serving(script), balancer.connect() as client:
        assert client.ask("GET /first HTTP/1.1\nHost: a").status == 200
        answer = client.ask(f"{method} /second HTTP/1.1\nHost: a\nContent-Length: 3", b"abc")
        seen = [request.target for request in origin.requests]
        if sent_again:
            assert (answer.status, answer.body) == (200, f"{method} /second 3".encode())
            assert seen == ["/first", "/second", "/second"]
        else:  # it may have been acted on: never twice
            assert answer.status == 502
            assert seen == ["/first", "/second"]


def test_a_fresh_connection_that_closes_is_not_tried_again(balancer: Balancer, origin: Origin) -> None:
    def script(visit: Visit) -> None:
        visit.request()

    with origin.serving(script), balancer.connect() as client:
        assert client.ask("GET / HTTP/1.1\nHost: a").status == 502
        assert len(origin.requests) == 1


# -- the daemon -----------------------------------------------------------------------------------------


def test_a_second_one_on_the_same_port_does_not_start(
    origin: Origin, start_balancer: Start, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    balancer = start_balancer([origin.port])
    config = tmp_path / "second.yaml"
    config.write_text(
        f'listeners: [{{id: web, bind: "127.0.0.1:{balancer.port}"}}]\nadmin: {{bind: "127.0.0.1:0"}}\n'
    )
    second = start_program(twistd("txlb", f"--config={config}"), cwd=tmp_path)
    eventually(lambda: second.returncode is not None, "it ends")
    assert second.returncode == 1
    assert f"127.0.0.1:{balancer.port}" in second.output
    assert "in use" in second.output
    assert "Traceback" not in second.output
    with origin.serving(answering(echo)), balancer.connect() as client:  # the first one goes on
        assert client.ask("GET / HTTP/1.1\nHost: a").status == 200


@pytest.mark.parametrize("workers", [2, 0])
def test_sigterm_finishes_what_is_in_flight(origin: Origin, start_balancer: Start, workers: int) -> None:
    finish = threading.Event()

    def script(visit: Visit) -> None:
        while True:
            request = visit.request()
            if request.target == "/streaming":
                visit.send(lines("HTTP/1.1 200 OK\nContent-Length: 10") + b"begun")
                assert finish.wait(30)
                visit.send(b"ended")
            else:
                assert request.target == "/idle" or finish.wait(30)
                visit.send(ok(b"answered"))

    balancer = start_balancer([origin.port], workers=workers)
    with origin.serving(script), ExitStack() as stack:
        waiting = [stack.enter_context(balancer.connect()) for _ in range(10)]
        for client in waiting:
            client.send(get("/waiting"))
        streaming = stack.enter_context(balancer.connect())
        streaming.send(get("/streaming"))
        assert Message(streaming.head()).get("connection") is None
        idle = stack.enter_context(balancer.connect())
        assert idle.ask("GET /idle HTTP/1.1\nHost: a").status == 200
        eventually(lambda: len(origin.requests) == 12, "all in flight")
        balancer.program.send_signal(signal.SIGTERM)
        assert idle.at_end()  # an idle client is closed at once
        eventually(lambda: refuses(balancer.port), "new clients are refused")
        assert balancer.program.returncode is None
        finish.set()
        for client in waiting:
            answer = client.answer()
            assert (answer.body, answer.get("connection")) == (b"answered", "close")
            assert client.at_end()
        assert streaming.exactly(10) == b"begunended"
        assert streaming.at_end()
        balancer.ended()
    assert Counter(line["termination"] for line in balancer.log()) == {"--": 12}


def refuses(port: int) -> bool:
    try:
        Wire.to(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_shutdown_ends_in_time_and_says_so(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], timeouts={"shutdown": "500ms"})
    with origin.serving(lambda visit: visit.rest() and None), balancer.connect() as client:
        client.send(get("/never"))
        origin.visit()
        balancer.program.send_signal(signal.SIGTERM)
        balancer.ended()
    assert [line["termination"] for line in balancer.log()] == ["K-"]


def test_shutdown_does_not_wait_for_ever_for_a_backend_whose_client_is_gone(
    origin: Origin, start_balancer: Start
) -> None:
    """FIN is no abort: the exchange goes on without anybody to read its answer."""
    balancer = start_balancer([origin.port], timeouts={"shutdown": "500ms"})
    with origin.serving(lambda visit: visit.rest() and None):
        with balancer.connect() as client:
            client.send(get("/never"))
            origin.visit()
        balancer.program.send_signal(signal.SIGTERM)
        balancer.ended()
    assert [line["termination"] for line in balancer.log()] == ["K-"]


def test_a_txlb_that_does_not_end_is_reported_and_gone(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers=2)
    pids = [balancer.program.pid, *balancer.worker_pids()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="txlb ends"):
        balancer.stop(within=0.1)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "none is left")


@pytest.mark.parametrize("workers", [2, 0])
def test_sighup_reopens_the_access_log(origin: Origin, start_balancer: Start, workers: int) -> None:
    balancer = start_balancer([origin.port], workers=workers)
    moved = balancer.folder / "access.log.1"
    with origin.serving(answering(echo)), Clients(balancer.port, 2) as clients:
        eventually(lambda: clients.total > 50, "traffic")
        balancer.log_path.rename(moved)
        balancer.program.send_signal(signal.SIGHUP)
        eventually(balancer.log_path.exists, "a new file")
        before = clients.total
        eventually(lambda: clients.total > before + 50, "traffic goes on")
        clients.stop()

        def written() -> int:
            return moved.read_bytes().count(b"\n") + balancer.log_path.read_bytes().count(b"\n")

        eventually(lambda: written() == clients.total, "every line in one of the files")
    assert set(clients.outcomes) == {"200"}
