"""Histograms of durations, by rule and by backend; of one that never answered there is none yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.latency import BOUNDS_US, BUCKETS
from txlb.core.scoreboard import BACKEND, RULE

PIECE = 500  # histograms of a family that are made at a time


def durations(picture: Picture) -> Iterator[Metric]:
    yield from _histograms(
        picture,
        "txlb_http_request_duration_seconds",
        "From the request's head to the end of the answer",
        "rule",
        (picture.columns.rules, RULE),
    )
    yield from _histograms(
        picture,
        "txlb_http_backend_request_duration_seconds",
        "From the request's head to the end of the answer, where the backend gave it",
        "backend",
        (picture.columns.backends, BACKEND),
    )


def _histograms(
    picture: Picture, name: str, text: str, label: str, blocks: tuple[Mapping[str, int], Sequence[str]]
) -> Iterator[Metric]:
    bases, block = blocks
    keys = list(bases)
    for start in range(0, max(len(keys), 1), PIECE):
        family = HistogramMetricFamily(name, text, labels=[label])
        for key in keys[start : start + PIECE]:
            _add(family, picture, key, bases[key], block)
        yield family


def _add(family: HistogramMetricFamily, picture: Picture, name: str, base: int, block: Sequence[str]) -> None:
    first = base + block.index("latency_0")
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*BOUNDS_US, None), picture.sums[first : first + BUCKETS], strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else repr(bound / 1e6), total))
    if total:
        family.add_metric([name], buckets, picture.at(base, block, "latency_sum_us") / 1e6)
