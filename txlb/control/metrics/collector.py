"""A picture as Prometheus or OpenMetrics text: nothing on the data path knows Prometheus.

Rules:

* `render` may run in a thread, so that 10,000 backends do not stall the control process.
* Families are made, rendered and dropped piece by piece: a million samples at once would make the garbage
  collector stop everything.
* Of the formats that a client accepts it gets the one of the highest ``q`` (RFC 9110, 12.4.2), never one of
  ``q=0``; plain text if that leaves none.
* A new subject is a module with one generator over a `Picture`, named in `SUBJECTS`.
* Every name is in docs/metrics.md, with its labels and its help.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from txlb.control.metrics.backends import backends
from txlb.control.metrics.durations import durations
from txlb.control.metrics.health import health_checks
from txlb.control.metrics.picture import Picture
from txlb.control.metrics.processes import processes
from txlb.control.metrics.tls import tls
from txlb.control.metrics.traffic import datagrams, exchanges, listeners

TEXT = ("text/plain", "text/*", "*/*")
_QUALITY = re.compile(r";\s*q=(0(?:\.[0-9]*)?|1(?:\.0*)?)\s*(?:;|$)", re.IGNORECASE)
END = b"# EOF\n"  # of OpenMetrics
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


class Families(Collector):
    """Some families, as `prometheus_client` asks for them."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def families(picture: Picture) -> Iterator[Metric]:
    """Every family; a long one in several pieces, one after another."""
    for subject in SUBJECTS:
        yield from subject(picture)


def preferred(accept: str) -> str:
    """The items of an Accept field that `choose_encoder`, which knows no ``q``, may take, best first."""
    ranked: list[tuple[float, str]] = []
    for item in accept.split(","):
        found = _QUALITY.search(item)
        quality = float(found[1]) if found else 1.0
        if quality:
            ranked.append((quality, item))
    ranked.sort(key=lambda one: one[0], reverse=True)
    items: list[str] = []
    for _, item in ranked:
        items.append(item)
        if item.partition(";")[0].strip() in TEXT:
            break  # whatever version: behind it is what the client wants less
    return ",".join(items)


def render(picture: Picture, accept: str | None) -> tuple[bytes, str]:
    """The text and its content type, as the client prefers."""
    picture.add_up()
    encoder, content_type = choose_encoder(preferred(accept or ""))
    text: list[bytes] = []
    last = ""
    for family in families(picture):
        piece = encoder(Families(family)).removesuffix(END)
        if family.name == last:
            while piece.startswith(b"# "):  # its name and help have been said
                piece = piece[piece.index(b"\n") + 1 :]
        last = family.name
        text.append(piece)
    if content_type.startswith("application/openmetrics-text"):
        text.append(END)
    return b"".join(text), content_type
