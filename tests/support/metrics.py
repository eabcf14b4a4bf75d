"""Workers' rows to write into, and the metrics that come of them."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse

from txlb.control.metrics.collector import render
from txlb.control.metrics.picture import Picture
from txlb.core.model import BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.core.scoreboard import Columns

SNAPSHOT = Snapshot(
    generation=3,
    listeners=(ListenerSpec("web", ()), ListenerSpec("dns", (), "udp")),
    backends=(BackendSpec("a", "h", 1, max_connections=9), BackendSpec("b", "h", 2)),
    rules=(RuleSpec("r", ("a", "b")),),
)


class Rows:
    """Two workers' rows to write into."""

    def __init__(self) -> None:
        self.columns = Columns.for_snapshot(SNAPSHOT)
        self.rows = [memoryview(bytearray(self.columns.used * 8)).cast("q") for _ in range(2)]

    def picture(self, **changes: Any) -> Picture:
        options: dict[str, Any] = {"up": [True, False], "restarts": 2, "reloads": (4, 1), "now_ms": 5000}
        rows = [row.tobytes() for row in self.rows]
        return Picture(snapshot=SNAPSHOT, columns=self.columns, rows=rows, **{**options, **changes})

    def samples(self, **changes: Any) -> dict[str, float]:
        """``name{label=value,…}`` → value, in the plain format."""
        text, content_type = render(self.picture(**changes), None)
        assert content_type.startswith("text/plain")
        return {
            one.name
            + "{"
            + ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            + "}": one.value
            for family in parse(text.decode())
            for one in family.samples
        }
