"""``/routing-rules``: which requests go where, as a file would say it.

Rules:

* A rule is added and replaced as a whole; one without id gets one. What was shown may be sent back changed,
  its provenance too, which says nothing then.
* The rules that are shown are those in force: without backends that are gone.
"""

from __future__ import annotations

import secrets
from typing import Any

from twisted.web.iweb import IRequest

from txlb.config.changes import add_rule, put_rule, remove_rule
from txlb.config.consistency import rule_data
from txlb.config.overlay import RULE
from txlb.control.api.requests import body_of, if_match, query, tagged
from txlb.control.node import Node
from txlb.core.model import RuleSpec
from txlb.errors import UnknownId

PROVENANCES = ("file", "api")


class Rules:
    """The resource, over one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._change = node.changing.change

    def all(self, request: IRequest) -> bytes:
        query(request)
        rules = [self._view(spec) for spec in self._node.snapshot.rules]
        return tagged(self._node, request, {"routing_rules": rules})

    def one(self, request: IRequest, id: str) -> bytes:
        query(request)
        return tagged(self._node, request, self._view(self._spec(id)))

    async def add(self, request: IRequest) -> bytes:
        body = body_of(request)
        query(request)
        new = f"rule-{secrets.token_hex(4)}"
        await self._change(lambda composed, leaving: add_rule(composed, body, new), if_match(request))
        id = body.get("id") or new
        request.setHeader(b"location", f"/routing-rules/{id}".encode("ascii"))
        return tagged(self._node, request, {"rule_id": id}, 201)

    async def put(self, request: IRequest, id: str) -> bytes:
        body = body_of(request)
        if isinstance(body, dict) and body.get("provenance") in PROVENANCES:
            del body["provenance"]
        query(request)
        self._spec(id)
        await self._change(lambda composed, leaving: put_rule(composed, id, body), if_match(request))
        return tagged(self._node, request, self._view(self._spec(id)))

    async def remove(self, request: IRequest, id: str) -> bytes:
        query(request)
        self._spec(id)
        await self._change(lambda composed, leaving: remove_rule(composed, id), if_match(request))
        return tagged(self._node, request, {"rule_id": id, "status": "REMOVED"})

    def _spec(self, id: str) -> RuleSpec:
        for spec in self._node.snapshot.rules:
            if spec.id == id:
                return spec
        raise UnknownId(f"there is no routing rule {id[:64]}")

    def _view(self, spec: RuleSpec) -> dict[str, Any]:
        composed = self._node.configuration.composed
        data = rule_data(spec, composed.file)
        data.setdefault("listeners", None)
        return {**data, "provenance": composed.provenance(RULE, spec.id)}
