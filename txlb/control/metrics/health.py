"""Metrics of health checks: their results, how long they took, how late they began; over all backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.health_counts import RESULTS
from txlb.core.latency import BOUNDS_US


def health_checks(picture: Picture) -> Iterator[Metric]:
    counts = picture.health
    checks = CounterMetricFamily("txlb_health_checks", "Health checks by result", labels=["result"])
    for result, count in zip(RESULTS, counts.results, strict=True):
        checks.add_metric([result], count)
    yield checks
    yield _histogram(
        "txlb_health_check_duration_seconds",
        "From the start of a check to its result",
        counts.duration,
        counts.duration_us,
    )
    yield _histogram(
        "txlb_health_check_lateness_seconds",
        "From when a check was due to its start",
        counts.lateness,
        counts.lateness_us,
    )


def _histogram(name: str, text: str, counts: Sequence[int], sum_us: int) -> Metric:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*BOUNDS_US, None), counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else repr(bound / 1e6), total))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=sum_us / 1e6)
