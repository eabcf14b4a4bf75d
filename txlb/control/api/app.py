"""The Klein app of the admin API, over one `Node`. Importing this installs a reactor: import it lazily."""

from __future__ import annotations

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from txlb.control.api.backends import Backends
from txlb.control.api.openapi import description
from txlb.control.api.problems import answer, problem, refused, refused_change
from txlb.control.api.reads import config_answer, connections_answer, health_answer, metrics_answer
from txlb.control.api.reload import reload
from txlb.control.api.requests import query
from txlb.control.api.rules import Rules
from txlb.control.node import Node
from txlb.errors import TxlbError

log = Logger()


class AdminApi:
    """The routes. One instance per node; the Klein app is an attribute, nothing is global."""

    app = Klein()
    app.url_map.merge_slashes = False  # //: another path, not a redirect

    def __init__(self, node: Node) -> None:
        self._node = node
        self._backends = Backends(node)
        self._rules = Rules(node)
        self._description = description()

    @app.route("/health", methods=["GET"])
    def get_health(self, request: IRequest) -> bytes:
        return health_answer(self._node, request)

    @app.route("/metrics", methods=["GET"])
    async def get_metrics(self, request: IRequest) -> bytes:
        return await metrics_answer(self._node, request)

    @app.route("/backends", methods=["GET"])
    async def get_backends(self, request: IRequest) -> bytes:
        return await self._backends.all(request)

    @app.route("/backends", methods=["POST"])
    async def post_backend(self, request: IRequest) -> bytes:
        return await self._backends.add(request)

    @app.route("/backends/<id>", methods=["GET"])
    async def get_backend(self, request: IRequest, id: str) -> bytes:
        return await self._backends.one(request, id)

    @app.route("/backends/<id>", methods=["PATCH"])
    async def patch_backend(self, request: IRequest, id: str) -> bytes:
        return await self._backends.patch(request, id)

    @app.route("/backends/<id>", methods=["DELETE"])
    async def delete_backend(self, request: IRequest, id: str) -> bytes:
        return await self._backends.remove(request, id)

    @app.route("/backends/<id>/drain", methods=["POST"])
    async def drain_backend(self, request: IRequest, id: str) -> bytes:
        return await self._backends.drain(request, id)

    @app.route("/backends/<id>/enable", methods=["POST"])
    async def enable_backend(self, request: IRequest, id: str) -> bytes:
        return await self._backends.enable(request, id)

    @app.route("/routing-rules", methods=["GET"])
    def get_rules(self, request: IRequest) -> bytes:
        return self._rules.all(request)

    @app.route("/routing-rules", methods=["POST"])
    async def post_rule(self, request: IRequest) -> bytes:
        return await self._rules.add(request)

    @app.route("/routing-rules/<id>", methods=["GET"])
    def get_rule(self, request: IRequest, id: str) -> bytes:
        return self._rules.one(request, id)

    @app.route("/routing-rules/<id>", methods=["PUT"])
    async def put_rule(self, request: IRequest, id: str) -> bytes:
        return await self._rules.put(request, id)

    @app.route("/routing-rules/<id>", methods=["DELETE"])
    async def delete_rule(self, request: IRequest, id: str) -> bytes:
        return await self._rules.remove(request, id)

    @app.route("/reload", methods=["POST"])
    async def post_reload(self, request: IRequest) -> bytes:
        return await reload(self._node, request)

    @app.route("/connections", methods=["GET"])
    async def get_connections(self, request: IRequest) -> bytes:
        return await connections_answer(self._node, request)

    @app.route("/config", methods=["GET"])
    async def get_config(self, request: IRequest) -> bytes:
        return await config_answer(self._node, request)

    @app.route("/openapi.json", methods=["GET"])
    def get_description(self, request: IRequest) -> bytes:
        query(request)
        return answer(request, self._description)

    @app.handle_errors(HTTPException)
    def refuse(self, request: IRequest, failure: Failure) -> bytes:
        return refused(request, failure)

    @app.handle_errors(TxlbError)
    def refuse_change(self, request: IRequest, failure: Failure) -> bytes:
        return refused_change(request, failure)

    @app.handle_errors(Exception)
    def fail(self, request: IRequest, failure: Failure) -> bytes:
        log.failure("admin API: {method} {uri}", failure, method=request.method, uri=request.uri)
        return problem(request, 500, "internal error; the log has the details")
