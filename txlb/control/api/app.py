"""The Klein app of the admin API, over one `Node`. Importing this installs a reactor: import it lazily.

Errors are `application/problem+json`: ``{type, title, status, errors: [{detail}]}``.
"""

from __future__ import annotations

import json
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from txlb.control.metrics.collector import render
from txlb.control.metrics.picture import capture
from txlb.control.node import Node

log = Logger()


def problem(request: IRequest, status: int, *details: str) -> bytes:
    """Make this answer a problem report."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/problem+json")
    title = RESPONSES.get(status, b"Error").decode("ascii")
    errors = [{"detail": detail} for detail in details]
    return json.dumps({"type": "about:blank", "title": title, "status": status, "errors": errors}).encode(
        "utf-8"
    )


def answer(request: IRequest, body: object, status: int = 200) -> bytes:
    """Make this answer JSON."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    return json.dumps(body).encode("utf-8")


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


class AdminApi:
    """The routes. One instance per node; the Klein app is an attribute, nothing is global."""

    app = Klein()

    def __init__(self, node: Node, reactor: IReactorThreads) -> None:
        self._node = node
        self._reactor = reactor

    @app.route("/health", methods=["GET"])
    def get_health(self, request: IRequest) -> bytes:
        return answer(
            request, health(self._node), 200 if self._node.serving and not self._node.draining else 503
        )

    @app.route("/metrics", methods=["GET"])
    async def get_metrics(self, request: IRequest) -> bytes:
        accept = request.getHeader("accept")
        pool = self._reactor.getThreadPool()
        text, content_type = await deferToThreadPool(self._reactor, pool, render, capture(self._node), accept)
        request.setHeader(b"content-type", content_type.encode("ascii"))
        return text

    @app.handle_errors(HTTPException)
    def refuse(self, request: IRequest, failure: Failure) -> bytes:
        error: Any = failure.value
        if error.code == 405:
            request.setHeader(b"allow", ", ".join(sorted(error.valid_methods or ())).encode("ascii"))
        return problem(request, error.code or 500, error.description or "")

    @app.handle_errors(Exception)
    def fail(self, request: IRequest, failure: Failure) -> bytes:
        log.failure("admin API: {method} {uri}", failure, method=request.method, uri=request.uri)
        return problem(request, 500, "internal error; the log has the details")
