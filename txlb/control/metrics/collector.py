"""A picture as Prometheus or OpenMetrics text: nothing on the data path knows Prometheus.

Rules:

* `render` may run in a thread, so that 10,000 backends do not stall the control process.
* A new subject is a module with one generator over a `Picture`, named in `SUBJECTS`.
* Every name is in docs/metrics.md, with its labels and its help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from txlb.control.metrics.backends import backends
from txlb.control.metrics.durations import durations
from txlb.control.metrics.health import health_checks
from txlb.control.metrics.picture import Picture
from txlb.control.metrics.processes import processes
from txlb.control.metrics.tls import tls
from txlb.control.metrics.traffic import datagrams, exchanges, listeners

SUBJECTS: tuple[Callable[[Picture], Iterator[Metric]], ...] = (
    listeners,
    exchanges,
    datagrams,
    backends,
    durations,
    health_checks,
    processes,
    tls,
)


class PictureCollector(Collector):
    """What `prometheus_client` asks for families."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for subject in SUBJECTS:
            yield from subject(self._picture)


def render(picture: Picture, accept: str | None) -> tuple[bytes, str]:
    """The text and its content type, as the client prefers."""
    picture.add_up()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PictureCollector(picture))
    encoder, content_type = choose_encoder(accept or "")
    return encoder(registry), content_type
