"""The audit log: who tried what over the admin API, and what came of it, one by one and in numbers.

Rules:

* One JSON line per request that was refused or was more than a read of ``/health`` or ``/metrics``, which
  scrapers ask for all day. It goes to txlb's own log in the namespace ``txlb.audit`` (``twistd --logger``
  sends it elsewhere).
* Fields: ``time, who, role, from, method, path, status, result`` and, if it says something, ``detail``.
  ``who`` is the token's label, ``result`` one of allowed, refused, failed, gone. The query, fields and
  bodies are never written: no secret can get there.
* Refusals cannot flood it: at most `BURST` at once and `PER_SECOND` in the long run; the next line tells
  how many were left out (``omitted``). What was allowed is always written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from twisted.logger import Logger

from txlb.control.api.auth import Caller

PER_SECOND = 10.0
BURST = 100.0
LONGEST = 256  # characters of a path
QUIET = ("/health", "/metrics")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request, as far as it is known."""

    caller: Caller | None
    peer: str
    method: bytes
    path: bytes
    status: int
    result: str  # allowed | refused | failed | gone
    detail: str = ""


class AuditLog:
    """``write`` gets each line; by default it is logged. ``counts`` has every attempt by its result."""

    def __init__(
        self,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        write: Callable[[str], None] | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        self._logger = Logger(namespace="txlb.audit")
        self._clock = clock
        self._wall_clock = wall_clock
        self._write = self._log if write is None else write
        self._counts = Counter[str]() if counts is None else counts
        self._room = BURST
        self._last = clock()
        self._omitted = 0

    def record(self, attempt: Attempt) -> None:
        """Count it; write it down, unless it says nothing."""
        self._counts[attempt.result] += 1
        path = attempt.path.partition(b"?")[0].decode("latin-1")
        if path in QUIET and attempt.method in (b"GET", b"HEAD") and attempt.caller is not None:
            return
        if attempt.result != "allowed" and not self._has_room():
            self._omitted += 1
            return
        caller = attempt.caller
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds"),
            "who": None if caller is None or not caller.label else caller.label,
            "role": None if caller is None else caller.role,
            "from": attempt.peer,
            "method": attempt.method.decode("latin-1")[:32],
            "path": path[:LONGEST],
            "status": attempt.status or None,
            "result": attempt.result,
        }
        if attempt.detail:
            line["detail"] = attempt.detail
        if self._omitted:
            line["omitted"] = self._omitted
            self._omitted = 0
        self._write(json.dumps(line))

    def _has_room(self) -> bool:
        now = self._clock()
        self._room = min(BURST, self._room + (now - self._last) * PER_SECOND)
        self._last = now
        if self._room < 1.0:
            return False
        self._room -= 1.0
        return True

    def _log(self, line: str) -> None:
        self._logger.info("{line}", line=line)
