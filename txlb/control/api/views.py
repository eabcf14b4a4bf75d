"""The JSON shape of a backend: what it is, how it stands, what it did.

Rules:

* Numbers are sums over all workers. Latencies are in milliseconds; null before the first answer.
* The 99th percentile is read off the histogram, between the bounds of its bucket.
* ``status`` is the operator's will before what was observed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from txlb.config.overlay import BACKEND
from txlb.control.node import Node
from txlb.control.scoreboard import sums
from txlb.core.latency import BOUNDS_US, BUCKETS
from txlb.core.model import BackendSpec
from txlb.core.scoreboard import BACKEND as COLUMNS

At = Callable[[str], int]  # the value of a backend's column


def backend_view(node: Node, spec: BackendSpec, at: At) -> dict[str, Any]:
    """CONTRACTS: an object of ``GET /backends``."""
    composed, standing = node.configuration.composed, node.standings.of(spec.id)
    latency = [at(f"latency_{index}") for index in range(BUCKETS)]
    answers = sum(latency)
    status = "DRAINING" if standing.drained else "HEALTHY" if standing.healthy else "UNHEALTHY"
    return {
        "id": spec.id,
        "host": spec.host,
        "port": spec.port,
        "address": spec.address or None,
        "weight": spec.weight,
        "max_connections": spec.max_connections,
        "status": status,
        "provenance": composed.provenance(BACKEND, spec.id),
        "patched": composed.patched(BACKEND, spec.id),
        "removed": spec.id in node.configuration.leaving,
        "active_connections": at("active"),
        "open_connections": at("connections"),
        "idle_connections": at("idle"),
        "drain": _drain(node, spec.id) if standing.drained else None,
        **_health(node, spec.id),
        "requests": at("requests"),
        "errors": at("errors"),
        "connect_failures": at("connect_failures"),
        "timeouts": at("timeouts"),
        "mean_latency_ms": round(at("latency_sum_us") / answers / 1000, 3) if answers else None,
        "p99_latency_ms": quantile(latency, 0.99),
        "bytes_in": at("bytes_in"),
        "bytes_out": at("bytes_out"),
    }


def one_backend(node: Node, spec: BackendSpec) -> dict[str, Any]:
    """Its view now."""
    board = node.scoreboard
    assert board is not None
    base = board.columns.backends.get(spec.id)
    return backend_view(
        node, spec, lambda name: 0 if base is None else board.total(base + COLUMNS.index(name))
    )


def every_backend(node: Node) -> Callable[[], bytes]:
    """A function that makes the body of ``GET /backends`` of this moment's numbers; for a thread."""
    board = node.scoreboard
    assert board is not None
    rows, bases, specs = board.copy(), board.columns.backends, node.snapshot.backends

    def views() -> Iterator[bytes]:
        totals = sums(rows)
        offsets = {name: offset for offset, name in enumerate(COLUMNS)}
        for spec in specs:
            base = bases[spec.id]
            # One by one: dumping a long list at once would hold up the reactor's thread.
            yield json.dumps(
                backend_view(node, spec, lambda name, base=base: totals[base + offsets[name]])  # type: ignore[misc]
            ).encode()

    return lambda: b'{"backends": [' + b", ".join(views()) + b"]}"


def quantile(latency: Sequence[int], share: float) -> float | None:
    """The latency in milliseconds that ``share`` of the answers did not exceed."""
    wanted = sum(latency) * share
    if not wanted:
        return None
    below = 0
    for index, count in enumerate(latency):
        if count and below + count >= wanted:
            low = BOUNDS_US[index - 1] if index else 0
            high = BOUNDS_US[index] if index < len(BOUNDS_US) else BOUNDS_US[-1]
            return round((low + (high - low) * (wanted - below) / count) / 1000, 3)
        below += count
    return BOUNDS_US[-1] / 1000


def _drain(node: Node, id: str) -> dict[str, Any] | None:
    until = node.drains.until(id)
    if until is None:
        return None
    seconds = until - time.monotonic()
    return {
        "seconds_left": round(max(0.0, seconds), 3),
        "deadline": datetime.fromtimestamp(time.time() + seconds, UTC).isoformat("T", "seconds"),
        "left": node.drains.left(id).open,
    }


def _health(node: Node, id: str) -> dict[str, Any]:
    view = asdict(node.health.view(id))
    del view["healthy"]
    return view
