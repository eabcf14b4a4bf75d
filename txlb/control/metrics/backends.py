"""Metrics of backends: what they carry, how they are, how attempts on them failed."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.scoreboard import BACKEND

FAILURES = {
    "connect_failures": "connect",
    "timeouts": "timeout",
    "resets": "reset",
    "bad_responses": "bad_response",
}


def backends(picture: Picture) -> Iterator[Metric]:
    active = GaugeMetricFamily(
        "txlb_backend_connections", "Exchanges and tunnels under way", labels=["backend"]
    )
    idle = GaugeMetricFamily("txlb_idle_connections", "Connections kept for reuse", labels=["backend"])
    limit = GaugeMetricFamily("txlb_backend_max_connections", "The configured limit", labels=["backend"])
    failures = CounterMetricFamily("txlb_backend_failures", "Failed attempts", labels=["backend", "kind"])
    status = GaugeMetricFamily("txlb_backend_status", "1 for the status it has", labels=["backend", "status"])
    for spec in picture.snapshot.backends:
        base = picture.columns.backends[spec.id]
        active.add_metric([spec.id], picture.at(base, BACKEND, "active"))
        idle.add_metric([spec.id], picture.at(base, BACKEND, "idle"))
        status.add_metric([spec.id, "HEALTHY"], 1)
        if spec.max_connections is not None:
            limit.add_metric([spec.id], spec.max_connections)
        for name, kind in FAILURES.items():
            value = picture.at(base, BACKEND, name)
            if value:
                failures.add_metric([spec.id, kind], value)
    yield from (active, idle, limit, failures, status)
