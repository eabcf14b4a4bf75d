"""The port for scrapers: ``GET /metrics`` and ``GET /health``, nothing else, no tokens.

Importing this installs a reactor: import it lazily.
"""

from __future__ import annotations

import time
from typing import Any

from klein import Klein
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException

from txlb.control.api.audit import Attempt, AuditLog
from txlb.control.api.auth import READ, Caller
from txlb.control.api.guard import READING, Guard, Headers, Refusal
from txlb.control.api.problems import refused
from txlb.control.api.reads import health_answer, metrics_answer
from txlb.control.api.site import AdminSite
from txlb.control.node import Node

SCRAPER = Caller("", READ)


class ScrapeApi:
    """The two routes."""

    app = Klein()
    app.url_map.merge_slashes = False

    def __init__(self, node: Node) -> None:
        self._node = node

    @app.route("/health", methods=["GET"])
    def get_health(self, request: IRequest) -> bytes:
        return health_answer(self._node, request)

    @app.route("/metrics", methods=["GET"])
    async def get_metrics(self, request: IRequest) -> bytes:
        return await metrics_answer(self._node, request)

    @app.handle_errors(HTTPException)
    def refuse(self, request: IRequest, failure: Failure) -> bytes:
        return refused(request, failure)


class ReadOnly(Guard):
    """Lets everybody read who is no web page; whatever Host: scrapers use any name."""

    def identify(self, headers: Headers, local: str, source: str) -> Caller | Refusal:
        if headers.getRawHeaders("origin"):
            return Refusal(403, "the Origin of this request is not allowed here")
        return SCRAPER

    def permit(self, caller: Caller, method: bytes, headers: Headers, has_body: bool) -> Refusal | None:
        return None if method in READING else Refusal(405, "only GET", ((b"allow", b"GET, HEAD"),))


class NoAudit(AuditLog):
    """Nothing can be changed here."""

    def record(self, attempt: Attempt) -> None:
        pass


class ScrapeSite(AdminSite):
    """With the bounds of the admin port, without its guard."""

    def __init__(self, resource: IResource, reactor: Any) -> None:
        super().__init__(
            resource,
            ReadOnly(None, (), reactor.seconds),
            NoAudit(reactor.seconds, time.time),
            reactor,
        )
