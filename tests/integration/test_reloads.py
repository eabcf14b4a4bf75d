"""Reloads under load: listeners come and go, and nobody else notices.

``TXLB_TEST_RELOADS`` says how many.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo, eventually
from support.ports import free_port
from support.processes import accepts
from support.wire import Ended

RELOADS = int(os.environ.get("TXLB_TEST_RELOADS", "15"))
CLIENTS = 4


class Client:
    """Asks all the time, half of its requests on fresh connections."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.answers = 0
        self.errors: list[str] = []

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with self.balancer.connect() as wire:
                    for _ in range(2):
                        answer = wire.ask("GET / HTTP/1.1\nHost: a")
                        if answer.status != 200:
                            self.errors.append(answer.start)
                        self.answers += 1
            except (OSError, Ended) as error:
                self.errors.append(repr(error))


def rewrite(balancer: Balancer, listeners: list[dict[str, Any]], **more: Any) -> None:
    path = balancer.folder / "new.yaml"
    path.write_text(json.dumps({**balancer.config, "listeners": listeners, **more}))
    path.rename(balancer.folder / "txlb.yaml")


@pytest.mark.timeout(60 + 3 * RELOADS)
def test_listeners_come_and_go_and_the_others_lose_nothing(
    start_balancer: Callable[..., Balancer], origin: Origin
) -> None:
    balancer = start_balancer([origin.port], workers=2)
    web = {"id": "web", "bind": f"127.0.0.1:{free_port()}"}
    rewrite(balancer, [web])
    assert balancer.call("POST", "/reload")[0] == 200
    balancer.ports["web"] = int(web["bind"].rpartition(":")[2])
    clients = [Client(balancer) for _ in range(CLIENTS)]
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    with origin.serving(answering(echo)):
        for thread in threads:
            thread.start()
        previous = 0
        try:
            for number in range(RELOADS):
                port = free_port()
                more = {"id": f"more-{number}", "bind": f"127.0.0.1:{port}"}
                rewrite(balancer, [web, more])
                status, answer = balancer.call("POST", "/reload")
                assert status == 200
                wanted = {"added": [f"more-{number}"], "removed": [f"more-{number - 1}"]}
                if number == 0:
                    del wanted["removed"]
                assert answer["changed"] == {"listeners": wanted}
                assert accepts(port)
                assert not (previous and accepts(previous))
                previous = port
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        assert [error for client in clients for error in client.errors] == []
        assert min(client.answers for client in clients) > RELOADS
        total = sum(client.answers for client in clients)
        eventually(
            lambda: balancer.metric("txlb_http_requests_total", listener="web") == total,
            "counters went on through all of them",
        )


def test_a_listener_that_moves_keeps_its_counters(
    start_balancer: Callable[..., Balancer], origin: Origin
) -> None:
    balancer = start_balancer([origin.port], workers=1)
    with origin.serving(answering(echo)):
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
            port = free_port()
            rewrite(balancer, [{"id": "web", "bind": f"127.0.0.1:{port}"}])
            assert balancer.call("POST", "/reload")[1]["changed"] == {"listeners": {"changed": ["web"]}}
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200  # open connections stay
        assert not accepts(balancer.port)
        balancer.ports["web"] = port
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        eventually(
            lambda: balancer.metric("txlb_http_requests_total", listener="web") == 3, "all are counted"
        )
        assert len(origin.visits) == 1  # one idle connection served them all


def test_sighup_keeps_what_the_api_changed(start_balancer: Callable[..., Balancer], origin: Origin) -> None:
    balancer = start_balancer([origin.port], workers=1)
    assert balancer.call("POST", "/backends", {"id": "n", "host": "127.0.0.1", "port": 9})[0] == 201
    rewrite(balancer, balancer.config["listeners"], timeouts={"connect": "2s"})
    balancer.program.send_signal(signal.SIGHUP)
    eventually(lambda: "reloaded, generation 3" in balancer.program.output, "it reloads")
    assert balancer.call("GET", "/backends/n")[1]["provenance"] == "api"
