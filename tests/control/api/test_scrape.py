"""`txlb.control.api.scrape`: two paths for everybody, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.admin import Admin
from support.http import get

from txlb.control.admin import MetricsListener


@pytest.fixture
def scraped(admin: Admin, running_reactor: Any) -> Iterator[int]:
    """The port for scrapers of ``admin``'s node."""
    listener = MetricsListener("127.0.0.1:0")
    listener.bind()
    listener.start(admin.node, running_reactor)
    yield int(listener.address.rpartition(":")[2])
    pytest_twisted.blockon(listener.stop())


@pytest_twisted.ensureDeferred
async def test_it_has_metrics_and_health_under_any_host(scraped: int):
    metrics = await get(scraped, "/metrics", host="prometheus.example")
    assert metrics.status == 200
    assert b"txlb_config_generation 1.0" in metrics.body
    health = await get(scraped, "/health", host="lb-1.internal:9901")
    assert health.json["load_balancer_id"] == "lb-1"
    assert health.fields["x-content-type-options"] == "nosniff"


@pytest_twisted.ensureDeferred
async def test_it_has_nothing_else(scraped: int):
    for path in ("/", "/config", "/connections", "/backends", "/openapi.json", "/reload"):
        assert (await get(scraped, path)).status == 404
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert (await get(scraped, "/health", method=method)).status == 405


@pytest_twisted.ensureDeferred
async def test_no_web_page_may_read_it(scraped: int):
    assert (await get(scraped, "/metrics", Origin="http://localhost")).status == 403
