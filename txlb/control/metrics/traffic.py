"""Metrics of what comes in: listeners, and exchanges by listener, rule and backend.

A listener's error kind, and a cell that never had a request, differ: kinds are always there, and
``txlb_http_requests_total`` has only series that counted something.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.scoreboard import BACKEND, CODES, LISTENER, RULE


def listeners(picture: Picture) -> Iterator[Metric]:
    open_now = GaugeMetricFamily("txlb_client_connections", "Client connections open", labels=["listener"])
    total = CounterMetricFamily("txlb_connections", "Client connections accepted", labels=["listener"])
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
    retries = CounterMetricFamily("txlb_retries", "Attempts after the first", labels=["rule"])
    for rule, base in picture.columns.rules.items():
        retries.add_metric([rule], picture.at(base, RULE, "retries"))
        panic.add_metric([rule], picture.at(base, RULE, "panic_picks"))
    yield from (requests, retries, panic)


def _codes(family: CounterMetricFamily, labels: list[str], counts: list[int]) -> None:
    for code, count in zip(CODES, counts, strict=True):
        if count:
            family.add_metric([*labels, code.removeprefix("code_")], count)
