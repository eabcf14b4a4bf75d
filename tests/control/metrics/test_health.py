"""`txlb.control.metrics.health`: results, durations and lateness of health checks."""

from __future__ import annotations

from support.metrics import Rows

from txlb.core import health_counts as results
from txlb.core.health_counts import HealthCounts


def test_health_checks() -> None:
    counts = HealthCounts()
    counts.began(0.03)
    counts.ended(results.SUCCESS, 0.002)
    counts.ended(results.REFUSED, 0.0)
    samples = Rows().samples(health=counts)
    assert samples["txlb_health_checks_total{result=success}"] == 1
    assert samples["txlb_health_checks_total{result=refused}"] == 1
    assert samples["txlb_health_checks_total{result=timeout}"] == 0
    assert samples["txlb_health_check_duration_seconds_count{}"] == 2
    assert samples["txlb_health_check_duration_seconds_bucket{le=0.001}"] == 1
    assert samples["txlb_health_check_lateness_seconds_bucket{le=0.025}"] == 0
    assert samples["txlb_health_check_lateness_seconds_bucket{le=0.05}"] == 1
    assert samples["txlb_health_check_lateness_seconds_sum{}"] == 0.03
