"""Metrics, made from the scoreboard at scrape: nothing on the data path knows Prometheus.

`capture` copies what a scrape needs (fast, in the reactor thread); a `Picture` is then
rendered anywhere, so that 10,000 backends do not stall the control process. A backend, rule or
cell that never had a request has no histogram and no ``…_requests_total`` series yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from txlb.control.node import Node
from txlb.control.scoreboard import sums
from txlb.core.latency import BOUNDS_US, BUCKETS
from txlb.core.model import Snapshot
from txlb.core.scoreboard import BACKEND, CODES, LISTENER, RULE, WORKER, Columns


@dataclass(frozen=True, slots=True, eq=False)
class Picture(Collector):
    """Everything a scrape says, at one moment."""

    snapshot: Snapshot
    columns: Columns
    rows: list[bytes]  # a copy of the scoreboard
    up: list[bool]
    restarts: int
    reloads: tuple[int, int]  # success, failure
    now_ms: int

    sums: list[int] = field(init=False, default_factory=list)

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """The text and its content type, as the client prefers."""
        self.sums[:] = sums(self.rows)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        encoder, content_type = choose_encoder(accept or "")
        return encoder(registry), content_type

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._listeners()
        yield from self._exchanges()
        yield from self._backends()
        yield from self._durations()
        yield from self._processes()

    def _listeners(self) -> Iterator[Metric]:
        open_now = GaugeMetricFamily(
            "txlb_client_connections", "Client connections open", labels=["listener"]
        )
        total = CounterMetricFamily("txlb_connections", "Client connections accepted", labels=["listener"])
        moved = CounterMetricFamily(
            "txlb_bytes", "Bytes from (in) and to (out) clients", labels=["listener", "direction"]
        )
        errors = CounterMetricFamily(
            "txlb_errors", "Exchanges that txlb ended itself", labels=["listener", "kind"]
        )
        for listener, base in self.columns.listeners.items():
            open_now.add_metric([listener], self._at(base, LISTENER, "connections"))
            total.add_metric([listener], self._at(base, LISTENER, "connections_total"))
            moved.add_metric([listener, "in"], self._at(base, LISTENER, "bytes_in"))
            moved.add_metric([listener, "out"], self._at(base, LISTENER, "bytes_out"))
            for name in LISTENER:
                if name.startswith("errors_"):
                    errors.add_metric([listener, name[len("errors_") :]], self._at(base, LISTENER, name))
        yield from (open_now, total, moved, errors)

    def _exchanges(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "txlb_http_requests", "Answers by code class", labels=["listener", "rule", "backend", "code"]
        )
        counted = set()
        for (listener, rule, backend), base in self.columns.cells.items():
            counted.add(backend)
            self._codes(requests, [listener, rule, backend], self.sums[base : base + len(CODES)])
        first = BACKEND.index(CODES[0])
        for backend, base in self.columns.backends.items():
            if backend not in counted:  # too many to count by listener and rule
                self._codes(requests, ["", "", backend], self.sums[base + first : base + first + len(CODES)])
        retries = CounterMetricFamily("txlb_retries", "Attempts after the first", labels=["rule"])
        for rule, base in self.columns.rules.items():
            retries.add_metric([rule], self._at(base, RULE, "retries"))
        yield from (requests, retries)

    def _backends(self) -> Iterator[Metric]:
        active = GaugeMetricFamily(
            "txlb_backend_connections", "Exchanges and tunnels under way", labels=["backend"]
        )
        idle = GaugeMetricFamily("txlb_idle_connections", "Connections kept for reuse", labels=["backend"])
        limit = GaugeMetricFamily("txlb_backend_max_connections", "The configured limit", labels=["backend"])
        failures = CounterMetricFamily("txlb_backend_failures", "Failed attempts", labels=["backend", "kind"])
        status = GaugeMetricFamily(
            "txlb_backend_status", "1 for the status it has", labels=["backend", "status"]
        )
        for spec in self.snapshot.backends:
            base = self.columns.backends[spec.id]
            active.add_metric([spec.id], self._at(base, BACKEND, "active"))
            idle.add_metric([spec.id], self._at(base, BACKEND, "idle"))
            status.add_metric([spec.id, "HEALTHY"], 1)
            if spec.max_connections is not None:
                limit.add_metric([spec.id], spec.max_connections)
            for name in ("connect_failures", "timeouts", "resets", "bad_responses"):
                value = self._at(base, BACKEND, name)
                if value:
                    failures.add_metric([spec.id, name.removesuffix("s").removesuffix("_failure")], value)
        yield from (active, idle, limit, failures, status)

    def _durations(self) -> Iterator[Metric]:
        by_rule = HistogramMetricFamily(
            "txlb_http_request_duration_seconds",
            "From the request's head to the end of the answer",
            labels=["rule"],
        )
        for rule, base in self.columns.rules.items():
            self._histogram(by_rule, rule, base, RULE)
        by_backend = HistogramMetricFamily(
            "txlb_http_backend_request_duration_seconds",
            "From sending to the end of the answer",
            labels=["backend"],
        )
        for backend, base in self.columns.backends.items():
            self._histogram(by_backend, backend, base, BACKEND)
        yield from (by_rule, by_backend)

    def _processes(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("txlb_worker_up", "1 while the worker serves", labels=["worker"])
        lag = GaugeMetricFamily(
            "txlb_loop_lag_seconds", "The longest stall of the loop in the last 10 s", labels=["worker"]
        )
        beat = GaugeMetricFamily(
            "txlb_worker_heartbeat_age_seconds", "Since its last tick", labels=["worker"]
        )
        blocks = [memoryview(row).cast("q")[: len(WORKER)] for row in self.rows]
        for index, block in enumerate(blocks):
            name = str(index + 1)
            up.add_metric([name], int(self.up[index]))
            lag.add_metric([name], block[WORKER.index("loop_lag_max_us")] / 1e6)
            last = block[WORKER.index("heartbeat_ms")]
            if last:
                beat.add_metric([name], max(0, self.now_ms - last) / 1e3)
        dropped = sum(block[WORKER.index("log_dropped")] for block in blocks)
        pauses = sum(block[WORKER.index("accept_pauses")] for block in blocks)
        reloads = CounterMetricFamily("txlb_config_reloads", "Reloads", labels=["result"])
        reloads.add_metric(["success"], self.reloads[0])
        reloads.add_metric(["failure"], self.reloads[1])
        yield from (up, lag, beat, reloads)
        yield CounterMetricFamily("txlb_worker_restarts", "Workers started again", value=self.restarts)
        yield CounterMetricFamily("txlb_access_log_dropped", "Lines a slow log lost", value=dropped)
        yield CounterMetricFamily(
            "txlb_accept_pauses", "Times accepting stopped for want of descriptors", value=pauses
        )
        yield GaugeMetricFamily(
            "txlb_config_generation", "The generation in force", value=self.snapshot.generation
        )

    def _at(self, base: int, block: Sequence[str], name: str) -> int:
        return self.sums[base + block.index(name)]

    def _codes(self, family: CounterMetricFamily, labels: list[str], counts: list[int]) -> None:
        for code, count in zip(CODES, counts, strict=True):
            if count:
                family.add_metric([*labels, code.removeprefix("code_")], count)

    def _histogram(self, family: HistogramMetricFamily, name: str, base: int, block: Sequence[str]) -> None:
        first = base + block.index("latency_0")
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*BOUNDS_US, None), self.sums[first : first + BUCKETS], strict=True):
            total += count
            buckets.append(("+Inf" if bound is None else repr(bound / 1e6), total))
        if total:
            family.add_metric([name], buckets, self._at(base, block, "latency_sum_us") / 1e6)


def capture(node: Node) -> Picture:
    """The picture of this moment."""
    assert node.scoreboard is not None and node.fleet is not None
    return Picture(
        snapshot=node.snapshot,
        columns=node.scoreboard.columns,
        rows=node.scoreboard.copy(),
        up=node.fleet.up(),
        restarts=node.fleet.restarts,
        reloads=(node.reloads.success, node.reloads.failure),
        now_ms=int(time.monotonic() * 1000),
    )
