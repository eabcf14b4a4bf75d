"""Metrics of backends: what they carry, how they are, how attempts on them failed."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.scoreboard import BACKEND
from txlb.core.standing import Standing

FAILURES = {
    "connect_failures": "connect",
    "timeouts": "timeout",
    "resets": "reset",
    "bad_responses": "bad_response",
}


STATUSES = ("HEALTHY", "UNHEALTHY", "DRAINING")


def status_of(standing: Standing | None) -> str:
    """The operator's will goes before what was observed."""
    if standing is None:
        return "HEALTHY"
    return "DRAINING" if standing.drained else "HEALTHY" if standing.healthy else "UNHEALTHY"


def backends(picture: Picture) -> Iterator[Metric]:
    active = GaugeMetricFamily(
        "txlb_backend_connections", "Exchanges and tunnels under way", labels=["backend"]
    )
    idle = GaugeMetricFamily("txlb_idle_connections", "Connections kept for reuse", labels=["backend"])
    limit = GaugeMetricFamily("txlb_backend_max_connections", "The configured limit", labels=["backend"])
    failures = CounterMetricFamily("txlb_backend_failures", "Failed attempts", labels=["backend", "kind"])
    weight = GaugeMetricFamily("txlb_backend_weight", "The configured weight", labels=["backend"])
    status = GaugeMetricFamily("txlb_backend_status", "1 for the status it has", labels=["backend", "status"])
    for spec in picture.snapshot.backends:
        base = picture.columns.backends[spec.id]
        active.add_metric([spec.id], picture.at(base, BACKEND, "active"))
        idle.add_metric([spec.id], picture.at(base, BACKEND, "idle"))
        weight.add_metric([spec.id], spec.weight)
        now = status_of(picture.standings.get(spec.id))
        for name in STATUSES:
            status.add_metric([spec.id, name], int(name == now))
        if spec.max_connections is not None:
            limit.add_metric([spec.id], spec.max_connections)
        for column, kind in FAILURES.items():
            value = picture.at(base, BACKEND, column)
            if value:
                failures.add_metric([spec.id, kind], value)
    yield from (active, idle, limit, weight, failures, status)
