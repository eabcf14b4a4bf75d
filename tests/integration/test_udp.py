"""UDP through a whole txlb: a real name server, many clients, crashes, steering, reload, shutdown."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.nameserver import Nsd, dig, dnsperf
from support.origins import eventually

Start = Callable[..., Balancer]


class Echo:
    """A UDP backend that answers every datagram with its name, a colon, and what it got."""

    def __init__(self, name: str = "e", port: int = 0) -> None:
        self.name = name.encode()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(("127.0.0.1", port))
        self.port: int = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            data, peer = self.sock.recvfrom(65535)
            if data == b"stop " + self.name:
                return
            self.sock.sendto(self.name + b":" + data, peer)

    def close(self) -> None:
        if self.thread.is_alive():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.sendto(b"stop " + self.name, ("127.0.0.1", self.port))
            self.thread.join()
            self.sock.close()


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    pair = [Echo("e0"), Echo("e1")]
    yield pair
    for one in pair:
        one.close()


def udp_settings(ports: list[int], bind: str = "127.0.0.1:0", **listener: Any) -> dict[str, Any]:
    """Top-level keys of a `Balancer` with one UDP listener ``dns``."""
    return {
        "listeners": [{"id": "dns", "bind": bind, "protocol": "udp", **listener}],
        "routing_rules": [
            {"id": "all", "listeners": ["dns"], "backends": [f"b{index}" for index in range(len(ports))]}
        ],
    }


def settled(balancer: Balancer) -> Balancer:
    """Every worker reads its own sockets: none is lent any more, as they are while workers start."""
    eventually(lambda: balancer.metric("txlb_worker_up") == balancer.workers, "all workers serve")
    assert (
        balancer.admin("/connections")[0] == 200
    )  # their links keep the order: what was sent before is done
    return balancer


class Client:
    """Asks and waits."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((source, 0))
        self.sock.settimeout(5.0)
        self.target = (host, port)

    def ask(self, data: bytes) -> bytes:
        self.sock.sendto(data, self.target)
        answer, peer = self.sock.recvfrom(65535)
        assert peer == self.target
        return answer

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.sock.close()


@pytest.mark.integration(needs="nsd,dig,dnsperf")
def test_a_real_name_server_behind_txlb(start_balancer: Start, tmp_path: Path) -> None:
    with Nsd(tmp_path / "one", "one") as one, Nsd(tmp_path / "two", "two") as two:
        ports = [one.port, two.port]
        balancer = start_balancer(ports, workers=2, **udp_settings(ports, udp={"max_responses": 1}))
        assert {dig(balancer.port, "who", "TXT") for _ in range(8)} == {'"one"', '"two"'}
        assert dig(balancer.port, "a7") == "192.0.2.8"
        big = dig(balancer.port, "big", "TXT", "+bufsize=4096", "+ignore")
        assert len(big.splitlines()) == 5
        counts = dnsperf(tmp_path, balancer.port, 2, "-c", "50", "-q", "50")
        assert counts["completed"] > 1000
        assert counts["lost"] == 0
        eventually(lambda: balancer.health()["active_connections"] == 0, "every flow has ended")
        asked = 8 + 1 + 1 + counts["completed"]
        eventually(
            lambda: balancer.metric("txlb_datagrams_total", direction="out") == asked, "all are counted"
        )
        assert balancer.metric("txlb_datagrams_total", direction="in") == asked
        assert balancer.metric("txlb_datagrams_dropped_total") == 0
        assert balancer.metric("txlb_backend_connections") == 0
        flows = balancer.metric("txlb_connections_total")  # fewer: dnsperf asks several things from one port
        lines = balancer.logged(int(flows))
        assert sum(line["datagrams_in"] for line in lines) == asked
        assert {(line["protocol"], line["listener"], line["reason"]) for line in lines} == {
            ("udp", "dns", None)
        }


@pytest.mark.integration(needs="nsd,dig")
def test_no_question_is_lost_while_one_of_two_name_servers_is_dead(
    start_balancer: Start, tmp_path: Path
) -> None:
    with Nsd(tmp_path / "one", "one") as one, Nsd(tmp_path / "two", "two") as two:
        ports = [one.port, two.port]
        balancer = start_balancer(ports, workers=1, **udp_settings(ports, udp={"max_responses": 1}))
        one.stop()
        once = ("+tries=1", "+time=5")
        assert [dig(balancer.port, "who", "TXT", *once) for _ in range(30)] == ['"two"'] * 30
        assert balancer.metric("txlb_backend_failures_total", backend="b0") > 0
        one.start_again()
        eventually(lambda: dig(balancer.port, "who", "TXT", *once) == '"one"', "it serves again")


def test_many_clients_get_their_own_answers_in_order(start_balancer: Start, echoes: list[Echo]) -> None:
    ports = [echo.port for echo in echoes]
    balancer = settled(start_balancer(ports, workers=2, **udp_settings(ports)))
    clients = [Client(balancer.port) for _ in range(100)]
    for turn in range(5):
        for number, client in enumerate(clients):
            client.sock.sendto(b"%d %d" % (number, turn), client.target)
    served = set()
    for number, client in enumerate(clients):
        answers = [client.sock.recv(100).split(b":") for _ in range(5)]
        assert [data for _, data in answers] == [b"%d %d" % (number, turn) for turn in range(5)]
        names = {name for name, _ in answers}
        assert len(names) == 1
        served |= names
        client.sock.close()
    assert served == {b"e0", b"e1"}
    eventually(lambda: balancer.health()["active_connections"] == 100, "every flow is counted")


def test_answers_leave_from_the_address_that_was_asked(start_balancer: Start, echoes: list[Echo]) -> None:
    ports = [echo.port for echo in echoes]
    balancer = start_balancer(ports, workers=2, **udp_settings(ports, "0.0.0.0:0"))
    for host in ("127.0.0.1", "127.0.0.2", "127.8.8.8"):
        with Client(balancer.port, host) as client:
            assert client.ask(b"x" * 65000).endswith(b"x" * 65000)


def test_a_crashed_workers_queue_is_served_by_its_sibling(start_balancer: Start, echoes: list[Echo]) -> None:
    ports = [echo.port for echo in echoes]
    balancer = start_balancer(ports, workers=2, **udp_settings(ports))
    answered = 0
    for turn in range(2):
        os.kill(balancer.worker_pids()[turn], signal.SIGKILL)
        for _ in range(200):
            with Client(balancer.port) as client:  # both workers' queues, as the kernel likes
                assert client.ask(b"?").endswith(b":?")
                answered += 1
        eventually(lambda: balancer.metric("txlb_worker_up") == 2, "both workers serve again")
    assert answered == 400
    assert balancer.metric("txlb_worker_restarts_total") == 2


def workers_by_client(balancer: Balancer, sources: list[str], times: int) -> dict[str, set[str]]:
    """Which workers each source meets, from the log."""
    for source in sources:
        for _ in range(times):
            with Client(balancer.port, source=source) as client:
                client.ask(b"?")
    found: dict[str, set[str]] = {source: set() for source in sources}
    for line in balancer.logged(len(sources) * times):
        found[line["client_ip"]].add(line["worker"])
    return found


def test_steered_clients_meet_one_worker_each_also_after_a_crash(
    start_balancer: Start, echoes: list[Echo]
) -> None:
    ports = [echo.port for echo in echoes]
    settings = udp_settings(ports, udp={"max_responses": 1}, steer="client")
    balancer = settled(start_balancer(ports, workers=4, **settings))
    sources = [f"127.0.{number // 8}.{number}" for number in range(1, 41)]
    before = workers_by_client(balancer, sources, 4)
    assert {len(workers) for workers in before.values()} == {1}
    assert len(Counter(min(workers) for workers in before.values())) == 4
    os.kill(balancer.worker_pids()[1], signal.SIGKILL)
    eventually(lambda: balancer.metric("txlb_worker_restarts_total") == 1, "the worker is back")
    settled(balancer)
    balancer.log_path.write_bytes(b"")
    assert workers_by_client(balancer, sources, 4) == before


def test_steered_http_clients_meet_one_worker_each(start_balancer: Start) -> None:
    balancer = start_balancer(
        [9],
        workers=4,
        listeners=[{"id": "web", "bind": "127.0.0.1:0", "steer": "client"}],
        routing_rules=[{"host": "never.example", "backends": ["b0"]}],
    )
    settled(balancer)
    sources = [f"127.0.0.{number}" for number in range(1, 31)]
    for source in sources:
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", balancer.port), source_address=(source, 0)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 404")
    met: dict[str, set[str]] = {}
    for line in balancer.logged(len(sources) * 4):
        met.setdefault(line["client_ip"], set()).add(line["worker"])
    assert {len(workers) for workers in met.values()} == {1}
    assert len({min(workers) for workers in met.values()}) == 4


def test_a_flood_of_sources_neither_grows_nor_stops_anything(
    start_balancer: Start, echoes: list[Echo]
) -> None:
    ports = [echo.port for echo in echoes]
    settings = udp_settings(ports, udp={"max_flows": 500, "max_flows_per_source": 10})
    settings["access_log"] = {"format": "off"}
    balancer = start_balancer(ports, workers=1, **settings)
    with Client(balancer.port) as known:
        for _ in range(3):
            known.ask(b"?")

        def flood(count: int) -> None:
            for number in range(count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.bind((f"127.1.{number // 250 % 250}.{number % 250 + 1}", 0))
                    sock.sendto(b"x" * 1000, ("127.0.0.1", balancer.port))
                if number % 200 == 199:
                    known.ask(b"still there?")

        flood(2000)
        before = balancer.resident()
        flood(10_000)
        assert balancer.resident() - before < 4 << 20
        metrics = balancer.metrics()
        assert metrics.total("txlb_client_connections") <= 500
        assert metrics.total("txlb_flows_evicted_total") > 5000
        served = [known.ask(b"?").partition(b":")[0] for _ in range(3)]
        assert len(set(served)) == 1
        clients = [Client(balancer.port, source="127.3.0.1") for _ in range(15)]
        for client in clients:
            client.sock.sendto(b"?", client.target)
        eventually(
            lambda: balancer.metric("txlb_datagrams_dropped_total", reason="source") == 5,
            "the source is at its limit",
        )
        for client in clients:
            client.sock.close()


def test_a_reload_keeps_flows_and_a_stop_delivers_what_is_on_its_way(
    start_balancer: Start, echoes: list[Echo]
) -> None:
    ports = [echo.port for echo in echoes]
    balancer = settled(start_balancer(ports, workers=2, **udp_settings(ports)))
    with Client(balancer.port) as client:
        name = client.ask(b"?").partition(b":")[0]
        more = {"id": "other", "bind": "127.0.0.1:0"}
        balancer.config["listeners"].append(more)
        (balancer.folder / "txlb.yaml").write_text(json.dumps(balancer.config))
        balancer.program.send_signal(signal.SIGHUP)
        eventually(lambda: balancer.health()["generation"] == 2, "the reload is through")
        assert client.ask(b"!").partition(b":")[0] == name
        assert balancer.metric("txlb_connections_total", listener="dns") == 1
    balancer.stop(within=10.0)  # a quiet flow holds nothing up


def test_an_answer_under_way_is_delivered_while_txlb_stops(start_balancer: Start) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as backend:
        backend.bind(("127.0.0.1", 0))
        backend.settimeout(5.0)
        ports = [backend.getsockname()[1]]
        balancer = start_balancer(ports, workers=1, **udp_settings(ports, udp={"max_responses": 1}))
        with Client(balancer.port) as client:
            client.sock.sendto(b"slow?", client.target)
            _, flow = backend.recvfrom(100)
            balancer.program.send_signal(signal.SIGTERM)
            eventually(lambda: "stopping" in balancer.program.output, "txlb stops")
            time.sleep(0.3)
            backend.sendto(b"slow!", flow)
            assert client.sock.recv(100) == b"slow!"
        balancer.stop()


def test_a_second_txlb_on_the_port_is_refused(start_balancer: Start, echoes: list[Echo]) -> None:
    ports = [echo.port for echo in echoes]
    first = start_balancer(ports, workers=2, **udp_settings(ports))
    with pytest.raises(AssertionError, match=r"\(udp\): address already in use"):
        start_balancer(ports, workers=2, **udp_settings(ports, f"127.0.0.1:{first.port}"))
