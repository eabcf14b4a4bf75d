"""``/backends``: what backends there are, added, changed, drained, removed.

Rules:

* A change is answered when it is in the store and in every worker.
* Draining and removing answer with what is left; ``?wait`` answers when nothing is, or after a while.
* A removed backend can be looked at, and removed faster, until it is gone; nothing else can be done to it.
* 10,000 backends are listed without holding up the reactor.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.web.iweb import IRequest

from txlb.config import addresses
from txlb.config.changes import add_backend, drain_backend, enable_backend, patch_backend, remove_backend
from txlb.config.values import parse_duration
from txlb.control.api.requests import LONGEST_WAIT, body_of, if_match, query, require_match, tagged
from txlb.control.api.views import every_backend, one_backend
from txlb.control.node import Node
from txlb.core.model import BackendSpec
from txlb.errors import ConfigError, IdTaken, UnknownId

FLAG = ("true", "false")
LONGEST_DRAIN = 30 * 86400.0


class Backends:
    """The resource, over one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._change = node.changing.change

    async def all(self, request: IRequest) -> bytes:
        query(request)
        tagged(self._node, request, None)  # the fields; the body follows
        body: bytes = await self._node.in_thread(every_backend(self._node))
        return body

    async def add(self, request: IRequest) -> bytes:
        body = body_of(request)
        query(request)
        await self._change(
            lambda composed, leaving: add_backend(composed, body, leaving), if_match(request), _hosts(body)
        )
        id = body["id"]
        request.setHeader(b"location", f"/backends/{id}".encode("ascii"))
        return tagged(self._node, request, {"id": id, "status": "REGISTERED"}, 201)

    async def one(self, request: IRequest, id: str) -> bytes:
        wanted = query(request, wait=("drained",))
        self._spec(id)
        if "wait" in wanted:
            await self._node.drains.wait(id, LONGEST_WAIT)
        return self._view(request, id)

    async def patch(self, request: IRequest, id: str) -> bytes:
        body = body_of(request)
        query(request)
        self._spec(id, to_change=True)
        await self._change(
            lambda composed, leaving: patch_backend(composed, id, body), if_match(request), _hosts(body)
        )
        return self._view(request, id)

    async def drain(self, request: IRequest, id: str) -> bytes:
        seconds = _timeout(body_of(request, optional=True))
        query(request)
        self._spec(id, to_change=True)
        until = time.time() + (self._node.snapshot.timeouts.drain if seconds is None else seconds)
        await self._change(lambda composed, leaving: drain_backend(composed, id, until), if_match(request))
        await self._node.drains.settled()
        return self._view(request, id, 202)

    async def enable(self, request: IRequest, id: str) -> bytes:
        if body_of(request, optional=True) != {}:
            raise ConfigError(["the body must be empty"])
        query(request)
        self._spec(id, to_change=True)
        await self._change(lambda composed, leaving: enable_backend(composed, id), if_match(request))
        await self._node.drains.settled()
        return self._view(request, id)

    async def remove(self, request: IRequest, id: str) -> bytes:
        wanted = query(request, force=FLAG, wait=FLAG)
        force, wait = wanted.get("force") == "true", wanted.get("wait") == "true"
        node = self._node
        self._spec(id)
        if id not in node.configuration.leaving:
            await self._change(
                lambda composed, leaving: remove_backend(composed, id),
                if_match(request),
                linger=0.0 if force else None,
            )
        else:
            require_match(node, request)
            if force:
                node.changing.hasten(id)
        await node.drains.settled()
        gone = id not in node.configuration.leaving
        if not gone and (force or wait or node.drains.left(id).open == 0):
            gone = await node.drains.wait(id, LONGEST_WAIT)
        status = "DEREGISTERED" if gone else "DRAINING"
        left: dict[str, Any] = {} if gone else {"left": node.drains.left(id).open}
        return tagged(node, request, {"id": id, "status": status, **left}, 200 if gone else 202)

    def _spec(self, id: str, to_change: bool = False) -> BackendSpec:
        if to_change and id in self._node.configuration.leaving:
            raise IdTaken(f"backend {id} is being removed")
        for spec in self._node.snapshot.backends:
            if spec.id == id:
                return spec
        raise UnknownId(f"there is no backend {id[:64]}")

    def _view(self, request: IRequest, id: str, status: int = 200) -> bytes:
        return tagged(self._node, request, one_backend(self._node, self._spec(id)), status)


def _hosts(body: Any) -> list[str]:
    """The host name that a body brings, to be looked up."""
    host = body.get("host") if isinstance(body, dict) else None
    try:
        name = "" if host is None else addresses.parse_host(host)
    except ValueError:
        return []  # validation will say so
    return [name] if name and not addresses.ip_address(name) else []


def _timeout(body: Any) -> float | None:
    """How long a drain may take: a duration as in a file, or seconds; None if it does not say."""
    if not isinstance(body, dict) or body.keys() - {"timeout"}:
        raise ConfigError(['the body must be {"timeout": …} or empty'])
    value = body.get("timeout")
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value <= LONGEST_DRAIN:
            raise ConfigError([f"timeout: must be from 0 to {LONGEST_DRAIN:.0f} seconds"])
        return float(value)
    if value == "0s":
        return 0.0
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ConfigError([f"timeout: {error}"]) from None
