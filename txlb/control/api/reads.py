"""What the calls answer that only read: ``/health``, ``/metrics``, ``/connections``, ``/config``.

Rules:

* The first two are the same on the port for scrapers.
* What takes long with 10,000 backends is made in a thread.
* The effective configuration holds no secret: specs name files, never what is in them.
"""

from __future__ import annotations

from typing import Any

from twisted.web.iweb import IRequest

from txlb.config.effective import effective
from txlb.control.api.problems import answer, problem
from txlb.control.api.requests import arguments_of, query
from txlb.control.connections import LARGEST_PAGE, Cursor, connections
from txlb.control.metrics.collector import render
from txlb.control.metrics.picture import capture
from txlb.control.node import Node
from txlb.errors import TxlbError


def health(node: Node) -> dict[str, object]:
    """The body of ``GET /health`` (CONTRACTS: HealthView)."""
    return {
        "load_balancer_id": node.snapshot.node_id,
        "role": "ACTIVE",
        "active_connections": node.active_connections(),
        "requests_per_sec": round(node.rate.per_second(), 3) if node.rate is not None else 0.0,
        "backend_health": {backend.id: node.status(backend.id) for backend in node.snapshot.backends},
        "generation": node.snapshot.generation,
    }


def health_answer(node: Node, request: IRequest) -> bytes:
    """200 while serving, 503 before and while draining."""
    return answer(request, health(node), 200 if node.serving and not node.draining else 503)


async def metrics_answer(node: Node, request: IRequest) -> bytes:
    """In the format that the caller prefers; made in a thread."""
    accept: Any = request.getHeader("accept")
    rendered: tuple[bytes, str] = await node.in_thread(render, capture(node), accept)
    text, content_type = rendered
    request.setHeader(b"content-type", content_type.encode("ascii"))
    return text


async def config_answer(node: Node, request: IRequest) -> bytes:
    """The effective configuration, as a file could say it: what is being removed is not in it."""
    query(request)
    snapshot = node.configuration.composed.snapshot
    text: str = await node.in_thread(effective, snapshot)
    request.setHeader(b"content-type", b"application/yaml; charset=utf-8")
    request.setHeader(b"cache-control", b"no-store")
    return text.encode("utf-8")


async def connections_answer(node: Node, request: IRequest) -> bytes:
    """A page of client connections; ``?limit=`` and ``?next=``."""
    arguments = arguments_of(request)
    try:
        for name in arguments.keys() - {"limit", "next"}:
            raise ValueError(f"?{name[:64]}: unknown (known here: limit, next)")
        limit = _limit(_argument(arguments, "limit") or "100")
        text = _argument(arguments, "next")
        cursor = Cursor.parse(text) if text else Cursor()
    except ValueError as error:
        return problem(request, 400, str(error))
    if node.fleet is None:
        return problem(request, 503, "txlb does not serve yet")
    try:
        found, following = await connections(node.fleet, cursor, limit)
    except TxlbError as error:
        return problem(request, 503, str(error))
    return answer(request, {"connections": found, "next": None if following is None else str(following)})


def _argument(arguments: dict[str, list[str]], name: str) -> str:
    """One argument of the query; "" if it is not there."""
    values = arguments.get(name, [])
    if len(values) > 1:
        raise ValueError(f"{name} is there twice")
    return values[0] if values else ""


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LARGEST_PAGE):
        raise ValueError(f"limit must be a whole number from 1 to {LARGEST_PAGE}")
    return int(text)
