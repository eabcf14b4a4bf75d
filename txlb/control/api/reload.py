"""``POST /reload``: what SIGHUP does, with an answer."""

from __future__ import annotations

from typing import Any

from twisted.web.iweb import IRequest

from txlb.control.api.problems import problem
from txlb.control.api.requests import body_of, query, require_match, tagged
from txlb.control.node import Node
from txlb.core.snapshot import Changes, Difference
from txlb.errors import ConfigError, NotServing, RevisionMismatch, TxlbError


async def reload(node: Node, request: IRequest) -> bytes:
    """200 what changed; 422 with every problem, 412, or 503 as txlb stops, and nothing changed."""
    query(request)
    if body_of(request, optional=True) != {}:
        raise ConfigError(["the body must be empty"])
    try:
        difference = await node.reload(lambda: require_match(node, request))
    except (RevisionMismatch, NotServing):
        raise
    except TxlbError as error:
        details = error.problems if isinstance(error, ConfigError) else [str(error)]
        return problem(request, 422, *details)
    return tagged(node, request, {"generation": node.snapshot.generation, "changed": shown(difference)})


def shown(difference: Difference) -> dict[str, Any]:
    """What is not empty."""
    lists = {
        "listeners": difference.listeners,
        "backends": difference.backends,
        "routing_rules": difference.rules,
    }
    changed: dict[str, Any] = {name: _changes(changes) for name, changes in lists.items() if changes}
    if difference.settings:
        changed["settings"] = list(difference.settings)
    return changed


def _changes(changes: Changes) -> dict[str, list[str]]:
    parts = {"added": changes.added, "removed": changes.removed, "changed": changes.changed}
    return {name: list(ids) for name, ids in parts.items() if ids}
