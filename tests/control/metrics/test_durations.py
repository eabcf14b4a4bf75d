"""`txlb.control.metrics.durations`: histograms."""

from __future__ import annotations

import pytest
from support.metrics import Rows

from txlb.core.scoreboard import RULE


@pytest.fixture
def rows() -> Rows:
    return Rows()


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
