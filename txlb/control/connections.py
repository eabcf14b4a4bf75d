"""``GET /connections``: the workers' lists as one, in pages.

Rules:

* The cursor is a worker and a descriptor, opaque to callers. Who is connected all the while is listed
  once; who comes or goes meanwhile may be missed.
* A worker that is down has no connections. One that does not answer is an error, not an empty list.
* Ids are ``WORKER-NUMBER``, of backend connections too: none is used twice while its worker lives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from txlb.control.fleet import Fleet
from txlb.errors import TxlbError
from txlb.net.link import LinkClosed, LinkError, LinkTimeout

LARGEST_PAGE = 1000
_CURSOR = re.compile(r"([0-9]{1,4})\.([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: behind this descriptor of this worker (from 0)."""

    worker: int = 0
    descriptor: int = 0

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """What `str` gave; raises ValueError."""
        match = _CURSOR.fullmatch(text)
        if match is None or not int(match[1]):
            raise ValueError("next must be what the page before gave")
        return cls(int(match[1]) - 1, int(match[2]))

    def __str__(self) -> str:
        return f"{self.worker + 1}.{self.descriptor}"


async def connections(fleet: Fleet, cursor: Cursor, limit: int) -> tuple[list[dict[str, Any]], Cursor | None]:
    """At most ``limit`` views, and where the next page begins; None: nowhere. Raises `TxlbError`."""
    found: list[dict[str, Any]] = []
    workers = len(fleet.up())
    while cursor.worker < workers and len(found) < limit:
        try:
            rows = await fleet.connections(cursor.worker, cursor.descriptor, limit - len(found))
        except LinkClosed:
            rows = []
        except (LinkTimeout, LinkError):
            raise TxlbError(f"worker-{cursor.worker + 1} does not answer") from None
        full = len(found) + len(rows) >= limit
        if rows:
            cursor = Cursor(cursor.worker, rows[-1]["descriptor"])
        found += [_view(cursor.worker, row) for row in rows]
        if not full:
            cursor = Cursor(cursor.worker + 1)
    return found, cursor if cursor.worker < workers else None


def _view(worker: int, row: dict[str, Any]) -> dict[str, Any]:
    view = {name: value for name, value in row.items() if name != "descriptor"}
    for name in ("connection_id", "backend_connection_id"):
        if view[name] is not None:
            view[name] = f"{worker + 1}-{view[name]}"
    for name in ("created_at", "last_activity_at"):
        moment = datetime.fromtimestamp(view[name], UTC)
        view[name] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return view
