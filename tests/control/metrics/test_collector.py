"""`txlb.control.metrics.collector`: in the format that the client prefers."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from support.metrics import Rows

from txlb.control.metrics.collector import render
from txlb.core.scoreboard import RULE


@pytest.fixture
def rows() -> Rows:
    return Rows()


def test_openmetrics_is_spoken_to_those_who_ask(rows: Rows):
    rows.rows[0][rows.columns.rules["r"] + RULE.index("latency_3")] = 1
    text, content_type = render(rows.picture(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(text.decode())} >= {
        "txlb_http_requests",
        "txlb_worker_up",
    }
