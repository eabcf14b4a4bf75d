"""A real Prometheus scrapes a run with two workers and a crash: exact sums, and data for every panel."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from support.balancer import Balancer, wait_for_port
from support.clients import Clients
from support.origins import Origin, answering, echo, eventually
from support.ports import free_port
from support.processes import Program, find_tool

MONITORING = Path(__file__).parents[2] / "examples" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
QUERIES = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]
#: What a healthy run over HTTP alone has no series of.
EMPTY = (
    "txlb_datagrams_",
    "txlb_tls_handshakes_total",
    "txlb_certificate_expiry_seconds",
    "txlb_ocsp_expiry_seconds",
    "txlb_backend_failures_total",
    "> 0",
)


class Prometheus:
    """It scrapes one port twice a second."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(MONITORING / "txlb.rules.yml")],
            "scrape_configs": [
                {"job_name": "txlb", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        tool = find_tool("prometheus")
        assert tool is not None
        self.program = Program(
            [
                tool,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            cwd=folder,
        )
        wait_for_port(self.port, self.program)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10):
                return True
        except HTTPError as error:
            error.close()
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that it gives now; fails if it is no query."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=10
        ) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        assert not found.get("warnings"), found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def number(self, expression: str) -> float:
        """Its only value; -1 if there is none."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return float(series[0]["value"][1]) if series else -1.0


@pytest.fixture
def prometheus(nothing_left: None, tmp_path: Path) -> Iterator[Callable[[int], Prometheus]]:
    started: list[Prometheus] = []

    def start(target: int) -> Prometheus:
        folder = tmp_path / "prometheus"
        folder.mkdir()
        started.append(Prometheus(folder, target))
        return started[-1]

    yield start
    for one in started:
        one.program.stop()


def runnable(expression: str) -> str:
    """A panel's query as Grafana would send it."""
    return expression.replace("$__rate_interval", "10s").replace("$instance", ".*")


@pytest.mark.integration(needs="prometheus")
def test_its_sums_are_those_of_the_load_generator(
    start_balancer: Callable[..., Balancer], prometheus: Callable[[int], Prometheus]
) -> None:
    with Origin() as one, Origin() as other, one.serving(answering(echo)), other.serving(answering(echo)):
        balancer = start_balancer(
            workers=2,
            metrics={"bind": "127.0.0.1:0"},
            idle_connections={"idle_timeout": "2s"},
            backends=[
                {"id": "b0", "host": "127.0.0.1", "port": one.port, "max_connections": 100},
                {"id": "b1", "host": "127.0.0.1", "port": other.port},
            ],
            routing_rules=[{"id": "all", "backends": ["b0", "b1"]}],
        )
        found = re.search(r"metrics on \S*?:(\d+)", balancer.program.output)
        assert found is not None
        watching = prometheus(int(found[1]))
        eventually(watching.is_ready, "it answers queries")
        eventually(lambda: watching.number("up") == 1, "it scrapes")

        asked = 0
        answered = 0
        for crash in (True, False):
            with Clients(balancer.port, 4) as clients:
                eventually(lambda: clients.total >= 400, "a few hundred requests are answered")
            assert set(clients.outcomes) == {"200"}
            asked += clients.total
            answered += clients.outcomes["200"]
            # Whoever is killed takes along what it counted since its last tick: nothing, once all is told.
            eventually(lambda: balancer.metric("txlb_http_requests_total") == asked, "all are told")  # noqa: B023
            if crash:
                victim = balancer.worker_pids()[0]
                os.kill(victim, signal.SIGKILL)
                eventually(lambda: balancer.metric("txlb_worker_restarts_total") == 1, "it is replaced")
                eventually(lambda: balancer.metric("txlb_worker_up") == 2, "it serves again")

        eventually(
            lambda: watching.number("sum(txlb_http_requests_total)") == asked,
            "every request is in Prometheus",
        )
        assert watching.number('sum(txlb_http_requests_total{code="2xx", backend!=""})') == answered
        assert watching.number("sum(txlb_http_request_duration_seconds_count)") == asked
        assert watching.number("sum(txlb_http_backend_request_duration_seconds_count)") == answered
        assert watching.number("sum(txlb_connections_total)") == asked
        assert watching.number("sum(txlb_worker_restarts_total)") == 1
        assert watching.number("sum(resets(txlb_http_requests_total[5m]))") == 0
        assert watching.number("count(txlb_http_requests_total)") == 2  # no series twice, none for nothing

        for title, expression in QUERIES:
            series = watching.query(runnable(expression))
            if not series and not any(name in expression for name in EMPTY):
                eventually(lambda: watching.query(runnable(expression)) != [], title)  # noqa: B023
        eventually(lambda: len(watching.query("instance:txlb_requests:rate5m")) == 1, "rules are evaluated")
        assert watching.query('ALERTS{alertstate="firing"}') == []
