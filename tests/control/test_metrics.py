"""`txlb.control.metrics`: the scoreboard as Prometheus reads it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from txlb.control.metrics import Picture
from txlb.core import scoreboard
from txlb.core.model import BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.core.scoreboard import BACKEND, CODES, LISTENER, RULE, WORKER, Columns

SNAPSHOT = Snapshot(
    generation=3,
    listeners=(ListenerSpec("web", ()),),
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
        text, content_type = self.picture(**changes).render(None)
        assert content_type.startswith("text/plain")
        return {
            one.name
            + "{"
            + ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            + "}": one.value
            for family in parse(text.decode())
            for one in family.samples
        }


@pytest.fixture
def rows() -> Rows:
    return Rows()


def test_listeners_are_summed_over_workers(rows: Rows):
    base = rows.columns.listeners["web"]
    for row, count in zip(rows.rows, (1, 2), strict=True):
        for name in ("connections", "connections_total", "bytes_in", "bytes_out", "errors_408"):
            row[base + LISTENER.index(name)] = count
    samples = rows.samples()
    assert samples["txlb_client_connections{listener=web}"] == 3
    assert samples["txlb_connections_total{listener=web}"] == 3
    assert samples["txlb_bytes_total{direction=in,listener=web}"] == 3
    assert samples["txlb_bytes_total{direction=out,listener=web}"] == 3
    assert samples["txlb_errors_total{kind=408,listener=web}"] == 3


def test_answers_by_listener_rule_backend_and_code(rows: Rows):
    code = CODES.index("code_2xx")
    rows.rows[0][rows.columns.cell("web", "r", "a") + code] = 5
    rows.rows[1][rows.columns.cell("web", "r", "") + CODES.index("code_5xx")] = 1
    requests = {
        key: value for key, value in rows.samples().items() if key.startswith("txlb_http_requests_total")
    }
    assert requests == {
        "txlb_http_requests_total{backend=a,code=2xx,listener=web,rule=r}": 5,
        "txlb_http_requests_total{backend=,code=5xx,listener=web,rule=r}": 1,
    }


def test_without_cells_backends_count_their_own_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoreboard, "MAX_CELLS", 1)
    rows = Rows()
    rows.rows[0][rows.columns.backends["a"] + BACKEND.index("code_3xx")] = 7
    assert rows.samples()["txlb_http_requests_total{backend=a,code=3xx,listener=,rule=}"] == 7


def test_histograms_are_cumulative_and_agree_with_their_count(rows: Rows):
    base = rows.columns.rules["r"]
    for bucket, count in ((0, 3), (4, 2), (16, 1)):
        rows.rows[0][base + RULE.index(f"latency_{bucket}")] = count
    rows.rows[1][base + RULE.index("latency_sum_us")] = 2_500_000
    samples = rows.samples()
    name = "txlb_http_request_duration_seconds"
    assert samples[f"{name}_bucket{{le=0.0005,rule=r}}"] == 3
    assert samples[f"{name}_bucket{{le=0.005,rule=r}}"] == 3
    assert samples[f"{name}_bucket{{le=0.01,rule=r}}"] == 5
    assert samples[f"{name}_bucket{{le=60.0,rule=r}}"] == 5
    assert samples[f"{name}_bucket{{le=+Inf,rule=r}}"] == samples[f"{name}_count{{rule=r}}"] == 6
    assert samples[f"{name}_sum{{rule=r}}"] == 2.5


def test_backends(rows: Rows):
    base = rows.columns.backends["a"]
    for name, value in (
        ("active", 2),
        ("idle", 3),
        ("connect_failures", 4),
        ("timeouts", 5),
        ("latency_0", 1),
    ):
        rows.rows[1][base + BACKEND.index(name)] = value
    samples = rows.samples()
    assert samples["txlb_backend_connections{backend=a}"] == 2
    assert samples["txlb_idle_connections{backend=a}"] == 3
    assert samples["txlb_backend_max_connections{backend=a}"] == 9
    assert "txlb_backend_max_connections{backend=b}" not in samples
    assert samples["txlb_backend_failures_total{backend=a,kind=connect}"] == 4
    assert samples["txlb_backend_failures_total{backend=a,kind=timeout}"] == 5
    assert samples["txlb_backend_status{backend=b,status=HEALTHY}"] == 1
    assert samples["txlb_http_backend_request_duration_seconds_count{backend=a}"] == 1


def test_workers_and_configuration(rows: Rows):
    rows.rows[0][WORKER.index("loop_lag_max_us")] = 1500
    rows.rows[0][WORKER.index("heartbeat_ms")] = 4000
    for row in rows.rows:
        row[WORKER.index("log_dropped")] = 3
    samples = rows.samples()
    assert samples["txlb_worker_up{worker=1}"] == 1
    assert samples["txlb_worker_up{worker=2}"] == 0
    assert samples["txlb_worker_restarts_total{}"] == 2
    assert samples["txlb_loop_lag_seconds{worker=1}"] == 0.0015
    assert samples["txlb_worker_heartbeat_age_seconds{worker=1}"] == 1.0
    assert "txlb_worker_heartbeat_age_seconds{worker=2}" not in samples
    assert samples["txlb_access_log_dropped_total{}"] == 6
    assert samples["txlb_config_generation{}"] == 3
    assert samples["txlb_config_reloads_total{result=success}"] == 4
    assert samples["txlb_config_reloads_total{result=failure}"] == 1


def test_openmetrics_is_spoken_to_those_who_ask(rows: Rows):
    rows.rows[0][rows.columns.rules["r"] + RULE.index("latency_3")] = 1
    text, content_type = rows.picture().render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(text.decode())} >= {
        "txlb_http_requests",
        "txlb_worker_up",
    }
