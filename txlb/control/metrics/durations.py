"""Histograms of durations, by rule and by backend; of one that never answered there is none yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.latency import BOUNDS_US, BUCKETS
from txlb.core.scoreboard import BACKEND, RULE


def durations(picture: Picture) -> Iterator[Metric]:
    by_rule = HistogramMetricFamily(
        "txlb_http_request_duration_seconds",
        "From the request's head to the end of the answer",
        labels=["rule"],
    )
    for rule, base in picture.columns.rules.items():
        _add(by_rule, picture, rule, base, RULE)
    by_backend = HistogramMetricFamily(
        "txlb_http_backend_request_duration_seconds",
        "From the request's head to the end of the answer, where the backend gave it",
        labels=["backend"],
    )
    for backend, base in picture.columns.backends.items():
        _add(by_backend, picture, backend, base, BACKEND)
    yield from (by_rule, by_backend)


def _add(family: HistogramMetricFamily, picture: Picture, name: str, base: int, block: Sequence[str]) -> None:
    first = base + block.index("latency_0")
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*BOUNDS_US, None), picture.sums[first : first + BUCKETS], strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else repr(bound / 1e6), total))
    if total:
        family.add_metric([name], buckets, picture.at(base, block, "latency_sum_us") / 1e6)
