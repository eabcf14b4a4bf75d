"""What ``GET /health`` and ``GET /metrics`` answer, on the admin port and on the one for scrapers."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.web.iweb import IRequest

from txlb.control.api.problems import answer
from txlb.control.metrics.collector import render
from txlb.control.metrics.picture import capture
from txlb.control.node import Node


def health(node: Node) -> dict[str, object]:
    """The body of ``GET /health`` (CONTRACTS: HealthView)."""
    return {
        "load_balancer_id": node.snapshot.node_id,
        "role": "ACTIVE",
        "active_connections": node.active_connections(),
        "requests_per_sec": round(node.rate.per_second(), 3) if node.rate is not None else 0.0,
        "backend_health": {backend.id: "HEALTHY" for backend in node.snapshot.backends},
        "generation": node.snapshot.generation,
    }


def health_answer(node: Node, request: IRequest) -> bytes:
    """200 while serving, 503 before and while draining."""
    return answer(request, health(node), 200 if node.serving and not node.draining else 503)


async def metrics_answer(node: Node, reactor: IReactorThreads, request: IRequest) -> bytes:
    """In the format that the caller prefers; made in a thread."""
    accept: Any = request.getHeader("accept")
    text, content_type = await deferToThreadPool(
        reactor, reactor.getThreadPool(), render, capture(node), accept
    )
    request.setHeader(b"content-type", content_type.encode("ascii"))
    return text
