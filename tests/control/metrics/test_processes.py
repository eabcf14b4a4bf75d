"""`txlb.control.metrics.processes`: workers and configuration."""

from __future__ import annotations

import pytest
from support.metrics import Rows

from txlb.core.scoreboard import WORKER


@pytest.fixture
def rows() -> Rows:
    return Rows()


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
    assert samples["txlb_role{role=ACTIVE}"] == 1
    assert samples["txlb_admin_requests_total{result=refused}"] == 0
    refused = rows.samples(admin_requests={"refused": 3})
    assert refused["txlb_admin_requests_total{result=refused}"] == 3
    assert samples["txlb_role{role=STANDBY}"] == 0
