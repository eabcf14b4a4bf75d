"""Metrics of txlb itself: workers, configuration, logs, role."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from txlb.control.metrics.picture import Picture
from txlb.core.scoreboard import WORKER

ROLE = "ACTIVE"  # there is no other yet
ROLES = ("ACTIVE", "STANDBY")


def processes(picture: Picture) -> Iterator[Metric]:
    up = GaugeMetricFamily("txlb_worker_up", "1 while the worker serves", labels=["worker"])
    lag = GaugeMetricFamily(
        "txlb_loop_lag_seconds", "The longest stall of the loop in the last 10 s", labels=["worker"]
    )
    beat = GaugeMetricFamily("txlb_worker_heartbeat_age_seconds", "Since its last tick", labels=["worker"])
    blocks = [memoryview(row).cast("q")[: len(WORKER)] for row in picture.rows]
    for index, block in enumerate(blocks):
        name = str(index + 1)
        up.add_metric([name], int(picture.up[index]))
        lag.add_metric([name], block[WORKER.index("loop_lag_max_us")] / 1e6)
        last = block[WORKER.index("heartbeat_ms")]
        if last:
            beat.add_metric([name], max(0, picture.now_ms - last) / 1e3)
    dropped = sum(block[WORKER.index("log_dropped")] for block in blocks)
    pauses = sum(block[WORKER.index("accept_pauses")] for block in blocks)
    reloads = CounterMetricFamily("txlb_config_reloads", "Reloads", labels=["result"])
    reloads.add_metric(["success"], picture.reloads[0])
    reloads.add_metric(["failure"], picture.reloads[1])
    role = GaugeMetricFamily("txlb_role", "1 for the role it has", labels=["role"])
    for name in ROLES:
        role.add_metric([name], int(name == ROLE))
    overlay = GaugeMetricFamily(
        "txlb_overlay_entries", "Changes made over the API, in force or set aside", labels=["state"]
    )
    for state, count in zip(("active", "set_aside"), picture.overlay, strict=True):
        overlay.add_metric([state], count)
    admin = CounterMetricFamily(
        "txlb_admin_requests", "Requests to the admin port by what became of them", labels=["result"]
    )
    for name in ("allowed", "refused", "failed", "gone"):
        admin.add_metric([name], picture.admin_requests.get(name, 0))
    yield from (up, lag, beat, reloads, admin, role, overlay)
    yield CounterMetricFamily("txlb_worker_restarts", "Workers started again", value=picture.restarts)
    yield CounterMetricFamily("txlb_access_log_dropped", "Lines a slow log lost", value=dropped)
    yield CounterMetricFamily(
        "txlb_accept_pauses", "Times accepting stopped for want of descriptors", value=pauses
    )
    yield GaugeMetricFamily(
        "txlb_config_generation", "The generation in force", value=picture.snapshot.generation
    )
