"""`txlb.control.metrics.traffic`: listeners and exchanges."""

from __future__ import annotations

import pytest
from support.metrics import Rows

from txlb.core import scoreboard
from txlb.core.scoreboard import BACKEND, CODES, DATAGRAMS, LISTENER, RULE


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


def test_udp_listeners_say_what_became_of_their_datagrams(rows: Rows):
    base = rows.columns.listeners["dns"]
    for number, name in enumerate(DATAGRAMS, start=1):
        rows.rows[0][base + LISTENER.index(name)] = number
        rows.rows[1][base + LISTENER.index(name)] = 100
    samples = rows.samples()
    assert samples["txlb_datagrams_total{direction=in,listener=dns}"] == 101
    assert samples["txlb_datagrams_total{direction=out,listener=dns}"] == 102
    assert samples["txlb_flows_evicted_total{listener=dns}"] == 103
    reasons = ("source", "forbidden", "backend", "send", "resources", "queue")
    for number, reason in enumerate(reasons, start=104):
        assert samples[f"txlb_datagrams_dropped_total{{listener=dns,reason={reason}}}"] == number
    assert not [key for key in samples if key.startswith("txlb_datagrams") and "listener=web" in key]


def test_rules_count_what_went_wrong_with_choosing(rows: Rows):
    base = rows.columns.rules["r"]
    for name, count in (("retries", 2), ("panic_picks", 3), ("algorithm_errors", 4)):
        rows.rows[1][base + RULE.index(name)] = count
    samples = rows.samples()
    assert samples["txlb_retries_total{rule=r}"] == 2
    assert samples["txlb_panic_picks_total{rule=r}"] == 3
    assert samples["txlb_algorithm_errors_total{rule=r}"] == 4
