"""Backends that drain, as one worker sees it.

Rules:

* From the moment a backend drains nothing idle is kept to it (`txlb.forwarding.http.idle`); what is in
  flight goes on.
* At its deadline whatever is still open to it is cut off, once. A drain without deadline has none.
"""

from __future__ import annotations


class Drains:
    """Who drains, and deadlines by backend id; seconds of `time.monotonic`."""

    __slots__ = ("_until", "ids")
    _until: dict[str, float]
    ids: set[str]  # all that drain, until they are enabled again or gone

    def __init__(self) -> None:
        self._until = {}
        self.ids = set()

    def begin(self, backend_id: str, until: float | None) -> None:
        """It drains, until then; may be told again with another deadline."""
        self.ids.add(backend_id)
        if until is None:
            self._until.pop(backend_id, None)
        else:
            self._until[backend_id] = until

    def end(self, backend_id: str) -> None:
        """It drains no longer, or is gone."""
        self.ids.discard(backend_id)
        self._until.pop(backend_id, None)

    def overdue(self, now: float) -> set[str]:
        """Those whose deadline has come; each is told once."""
        if not self._until:
            return set()
        found = {backend_id for backend_id, until in self._until.items() if until <= now}
        for backend_id in found:
            del self._until[backend_id]
        return found
