"""`txlb.control.metrics.backends`: what backends carry, and how attempts on them failed."""

from __future__ import annotations

import pytest
from support.metrics import Rows

from txlb.control.metrics.backends import STATUSES
from txlb.core.scoreboard import BACKEND
from txlb.core.standing import Standing


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
    assert samples["txlb_backend_weight{backend=b}"] == 1
    assert samples["txlb_http_backend_request_duration_seconds_count{backend=a}"] == 1


@pytest.mark.parametrize(
    ("standing", "status"),
    [
        (None, "HEALTHY"),
        (Standing("b", healthy=False), "UNHEALTHY"),
        (Standing("b", drained=True), "DRAINING"),
        (Standing("b", healthy=False, drained=True), "DRAINING"),
    ],
)
def test_a_backend_has_one_status(rows: Rows, standing: Standing | None, status: str):
    samples = rows.samples(standings={} if standing is None else {"b": standing})
    found = [name for name in STATUSES if samples[f"txlb_backend_status{{backend=b,status={name}}}"]]
    assert found == [status]
    assert samples["txlb_backend_status{backend=a,status=HEALTHY}"] == 1
