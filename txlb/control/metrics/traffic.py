"""Metrics of what comes in: listeners, and exchanges by listener, rule and backend.

A listener's error kind, and a cell that never had a request, differ: kinds are always there, and
``txlb_http_requests_total`` has only series that counted something.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.scoreboard import BACKEND, CODES, DATAGRAMS, LISTENER, RULE


def listeners(picture: Picture) -> Iterator[Metric]:
    open_now = GaugeMetricFamily(
        "txlb_client_connections", "Client connections and UDP flows open", labels=["listener"]
    )
    total = CounterMetricFamily(
        "txlb_connections", "Client connections accepted, UDP flows begun", labels=["listener"]
    )
    moved = CounterMetricFamily(
        "txlb_bytes", "Bytes from (in) and to (out) clients", labels=["listener", "direction"]
    )
    errors = CounterMetricFamily(
        "txlb_errors", "Exchanges that txlb ended itself", labels=["listener", "kind"]
    )
    for listener, base in picture.columns.listeners.items():
        open_now.add_metric([listener], picture.at(base, LISTENER, "connections"))
        total.add_metric([listener], picture.at(base, LISTENER, "connections_total"))
        moved.add_metric([listener, "in"], picture.at(base, LISTENER, "bytes_in"))
        moved.add_metric([listener, "out"], picture.at(base, LISTENER, "bytes_out"))
        for name in LISTENER:
            if name.startswith("errors_"):
                errors.add_metric([listener, name[len("errors_") :]], picture.at(base, LISTENER, name))
    yield from (open_now, total, moved, errors)


def datagrams(picture: Picture) -> Iterator[Metric]:
    passed = CounterMetricFamily(
        "txlb_datagrams", "Datagrams from (in) and to (out) clients", labels=["listener", "direction"]
    )
    dropped = CounterMetricFamily(
        "txlb_datagrams_dropped", "Datagrams that were not passed on", labels=["listener", "reason"]
    )
    evicted = CounterMetricFamily(
        "txlb_flows_evicted", "UDP flows that had to make room for others", labels=["listener"]
    )
    for spec in picture.snapshot.listeners:
        if spec.protocol == "udp":
            base = picture.columns.listeners[spec.id]
            passed.add_metric([spec.id, "in"], picture.at(base, LISTENER, "datagrams_in"))
            passed.add_metric([spec.id, "out"], picture.at(base, LISTENER, "datagrams_out"))
            evicted.add_metric([spec.id], picture.at(base, LISTENER, "flows_evicted"))
            for name in DATAGRAMS:
                if name.startswith("dropped_"):
                    reason = name.removeprefix("dropped_")
                    dropped.add_metric([spec.id, reason], picture.at(base, LISTENER, name))
    yield from (passed, dropped, evicted)


def exchanges(picture: Picture) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "txlb_http_requests", "Answers by code class", labels=["listener", "rule", "backend", "code"]
    )
    counted = set()
    for (listener, rule, backend), base in picture.columns.cells.items():
        counted.add(backend)
        _codes(requests, [listener, rule, backend], picture.sums[base : base + len(CODES)])
    first = BACKEND.index(CODES[0])
    for backend, base in picture.columns.backends.items():
        if backend not in counted:  # too many to count by listener and rule
            _codes(requests, ["", "", backend], picture.sums[base + first : base + first + len(CODES)])
    panic = CounterMetricFamily(
        "txlb_panic_picks", "Choices made while too few backends were healthy", labels=["rule"]
    )
    faults = CounterMetricFamily(
        "txlb_algorithm_errors", "Choices that the algorithm failed at: made by round_robin", labels=["rule"]
    )
    retries = CounterMetricFamily("txlb_retries", "Attempts after the first", labels=["rule"])
    for rule, base in picture.columns.rules.items():
        retries.add_metric([rule], picture.at(base, RULE, "retries"))
        panic.add_metric([rule], picture.at(base, RULE, "panic_picks"))
        faults.add_metric([rule], picture.at(base, RULE, "algorithm_errors"))
    yield from (requests, retries, panic, faults)


def _codes(family: CounterMetricFamily, labels: list[str], counts: list[int]) -> None:
    for code, count in zip(CODES, counts, strict=True):
        if count:
            family.add_metric([*labels, code.removeprefix("code_")], count)
