"""`txlb.control.metrics.backends`: what backends carry, and how attempts on them failed."""

from __future__ import annotations

import pytest
from support.metrics import Rows

from txlb.core.scoreboard import BACKEND


@pytest.fixture
def rows() -> Rows:
    return Rows()


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
