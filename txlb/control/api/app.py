"""The Klein app of the admin API, over one `Node`. Importing this installs a reactor: import it lazily."""

from __future__ import annotations

from klein import Klein
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from txlb.control.api.problems import problem, refused
from txlb.control.api.reads import health_answer, metrics_answer
from txlb.control.node import Node

log = Logger()


class AdminApi:
    """The routes. One instance per node; the Klein app is an attribute, nothing is global."""

    app = Klein()

    def __init__(self, node: Node, reactor: IReactorThreads) -> None:
        self._node = node
        self._reactor = reactor

    @app.route("/health", methods=["GET"])
    def get_health(self, request: IRequest) -> bytes:
        return health_answer(self._node, request)

    @app.route("/metrics", methods=["GET"])
    async def get_metrics(self, request: IRequest) -> bytes:
        return await metrics_answer(self._node, self._reactor, request)

    @app.handle_errors(HTTPException)
    def refuse(self, request: IRequest, failure: Failure) -> bytes:
        return refused(request, failure)

    @app.handle_errors(Exception)
    def fail(self, request: IRequest, failure: Failure) -> bytes:
        log.failure("admin API: {method} {uri}", failure, method=request.method, uri=request.uri)
        return problem(request, 500, "internal error; the log has the details")
