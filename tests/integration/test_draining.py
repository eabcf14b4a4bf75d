"""Draining and removing under load, with tunnels, and while a worker crashes.

``TXLB_TEST_HELD`` and ``TXLB_TEST_TUNNELS`` say how many requests are in flight and how many tunnels open.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, eventually
from support.wire import Ended, Wire, ok

HELD = int(os.environ.get("TXLB_TEST_HELD", "60"))
TUNNELS = int(os.environ.get("TXLB_TEST_TUNNELS", "10"))
UPGRADE = "GET /tunnel HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket"


class Serving:
    """A script: holds requests to /held until told, makes tunnels that echo, names itself otherwise."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.go = threading.Event()
        self.seen: list[str] = []

    def __call__(self, visit: Visit) -> None:
        while True:
            message = visit.request()
            self.seen.append(message.target)
            if message.target == "/tunnel":
                visit.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                while data := visit.more():
                    visit.send(data)
                return
            if message.target == "/held":
                self.go.wait(60)
            visit.send(ok(self.name))

    def count(self, target: str) -> int:
        return self.seen.count(target)


@pytest.fixture
def two() -> Iterator[tuple[Origin, Origin]]:
    with Origin() as one, Origin() as other:
        yield one, other


class Load:
    """Everything that goes on while a backend drains."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.held: list[Wire] = []
        self.tunnels: list[Wire] = []
        self.errors: list[str] = []
        self.served: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._steadily)

    def __enter__(self) -> Load:
        for _ in range(HELD):
            self.held.append(self.balancer.connect())
            self.held[-1].send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(TUNNELS):
            self.tunnels.append(self.balancer.connect())
            assert self.tunnels[-1].ask(UPGRADE).status == 101
        self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.stop()
        for client in (*self.held, *self.tunnels):
            client.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def _steadily(self) -> None:
        while not self._stop.is_set():
            try:
                with self.balancer.connect() as client:
                    answer = client.ask("GET /new HTTP/1.1\nHost: a")
                    (self.served if answer.status == 200 else self.errors).append(answer.body.decode())
            except (OSError, Ended) as error:
                self.errors.append(repr(error))

    def answers(self) -> tuple[int, int]:
        """How many held requests are answered well, and how many not."""
        good = bad = 0
        for client in self.held:
            try:
                good += client.answer().status == 200
            except (OSError, Ended):
                bad += 1
        return good, bad

    def echoing(self) -> int:
        """How many tunnels carry bytes."""
        count = 0
        for client in self.tunnels:
            try:
                client.send(b"ping")
                count += client.exactly(4) == b"ping"
            except (OSError, Ended):
                pass
        return count


def in_flight(balancer: Balancer) -> dict[str, int]:
    views = balancer.call("GET", "/backends")[1]["backends"]
    return {one["id"]: one["active_connections"] for one in views}


@pytest.mark.timeout(150)
def test_nothing_is_cut_before_the_deadline_and_everything_after(
    start_balancer: Callable[..., Balancer], two: tuple[Origin, Origin]
) -> None:
    scripts = [Serving("b0"), Serving("b1")]
    balancer = start_balancer([one.port for one in two], workers=2)
    with two[0].serving(scripts[0]), two[1].serving(scripts[1]), Load(balancer) as load:
        eventually(lambda: sum(script.count("/held") for script in scripts) == HELD, "all are in flight")
        status, view = balancer.call("POST", "/backends/b0/drain", {"timeout": "60s"})
        assert status == 202
        assert view["drain"]["left"] == scripts[0].count("/held") + scripts[0].count("/tunnel") > 0
        before = scripts[0].count("/new")
        time.sleep(0.5)
        assert scripts[0].count("/new") == before  # new requests stopped at once
        assert load.echoing() == TUNNELS
        for script in scripts:
            script.go.set()
        assert load.answers() == (HELD, 0)
        assert load.echoing() == TUNNELS
        assert balancer.call("POST", "/backends/b0/drain", {"timeout": "200ms"})[0] == 202  # the end is near
        view = balancer.call("GET", "/backends/b0?wait=drained")[1]
        assert view["drain"]["left"] == 0
        assert load.echoing() == scripts[1].count("/tunnel")
        load.stop()
        assert load.errors == []
        assert len(load.served) > 10


@pytest.mark.timeout(150)
def test_a_removal_under_load_ends_when_the_last_is_done(
    start_balancer: Callable[..., Balancer], two: tuple[Origin, Origin]
) -> None:
    scripts = [Serving("b0"), Serving("b1")]
    balancer = start_balancer([one.port for one in two], workers=2, timeouts={"drain": "60s"})
    with two[0].serving(scripts[0]), two[1].serving(scripts[1]), Load(balancer) as load:
        eventually(lambda: sum(script.count("/held") for script in scripts) == HELD, "all are in flight")
        status, answer = balancer.call("DELETE", "/backends/b0")
        assert (status, answer["status"]) == (202, "DRAINING")
        assert answer["left"] == scripts[0].count("/held") + scripts[0].count("/tunnel")
        before = scripts[0].count("/new")
        done: list[Any] = []
        waiter = threading.Thread(
            target=lambda: done.append(balancer.call("DELETE", "/backends/b0?wait=true"))
        )
        waiter.start()
        for script in scripts:
            script.go.set()
        assert load.answers() == (HELD, 0)
        assert load.echoing() == TUNNELS
        assert not done
        for client in load.tunnels:
            client.close()
        waiter.join(30)
        assert done == [(200, {"id": "b0", "status": "DEREGISTERED"})]
        assert scripts[0].count("/new") == before
        assert [one["id"] for one in balancer.call("GET", "/backends")[1]["backends"]] == ["b1"]
        load.stop()
        assert load.errors == []


@pytest.mark.timeout(150)
def test_a_crash_of_a_worker_forgets_no_drain(
    start_balancer: Callable[..., Balancer], two: tuple[Origin, Origin]
) -> None:
    scripts = [Serving("b0"), Serving("b1")]
    balancer = start_balancer([one.port for one in two], workers=2)
    with two[0].serving(scripts[0]), two[1].serving(scripts[1]), Load(balancer) as load:
        eventually(lambda: sum(script.count("/held") for script in scripts) == HELD, "all are in flight")
        assert balancer.call("POST", "/backends/b0/drain", {"timeout": "60s"})[0] == 202
        before = scripts[0].count("/new")
        pid, other = balancer.worker_pids()
        os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: len(balancer.worker_pids()) == 2 and pid not in balancer.worker_pids(), "a successor"
        )
        eventually(lambda: balancer.metric("txlb_worker_up") == 2, "it serves")
        served = len(load.served)
        eventually(lambda: len(load.served) > served + 50, "requests go on")
        assert scripts[0].count("/new") == before
        assert other in balancer.worker_pids()
        view = balancer.call("GET", "/backends/b0")[1]
        assert (view["status"], view["drain"]["left"] > 0) == ("DRAINING", True)
        left = sum(in_flight(balancer).values())
        for script in scripts:
            script.go.set()
        good, lost = load.answers()
        echoing = load.echoing()
        assert good + lost == HELD
        assert good + echoing >= left - 2  # those of the other worker; the steady load is counted, too
        assert good > 0
        assert lost > 0
