"""What is refused before any route is looked for: default deny, at the root.

Rules, in this order; what they need of a request is known before its body:

* A Host or an Origin that is not allowed: 403 (`txlb.control.api.hosts`).
* With a token file: 429 to a source that showed too many wrong tokens (`txlb.control.api.failures`), 401
  without a valid token. Without one everybody who can connect may do everything, which is why such an
  admin port binds to the loopback or a UNIX socket only.
* A token that may only read: GET and HEAD, everything else 403.
* A change with a body has ``Content-Type: application/json`` (415): no form of a web page can send that.
  Without a body it has this or none, a DELETE any: a form always has one, a page's script tells its Origin.
  Other methods are left to the routes, which say so (405), but ``get`` is no method (400).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from txlb.control.api.auth import WRITE, Caller, Tokens, bearer
from txlb.control.api.failures import Failures
from txlb.control.api.hosts import host_allowed, origins_allowed

READING = (b"GET", b"HEAD")
CHANGING = (b"POST", b"PUT", b"PATCH", b"DELETE")
EVERYBODY = Caller("", WRITE)


class Headers(Protocol):
    """Of a request: all values of a field."""

    def getRawHeaders(self, name: str) -> Sequence[str] | None: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not."""

    status: int
    detail: str
    fields: tuple[tuple[bytes, bytes], ...] = ()


class Guard:
    """One per admin port; ``tokens`` None: no token file."""

    def __init__(
        self, tokens: Tokens | None, allowed_hosts: Collection[str], clock: Callable[[], float]
    ) -> None:
        self.tokens = tokens
        self._allowed_hosts = frozenset(allowed_hosts)
        self._failures = Failures()
        self._clock = clock

    def identify(self, headers: Headers, local: str, source: str) -> Caller | Refusal:
        """Who calls, from the head alone, which came to ``local`` from ``source``."""
        hosts = headers.getRawHeaders("host") or ()
        if len(hosts) > 1 or not host_allowed(hosts[0] if hosts else "", local, self._allowed_hosts):
            return Refusal(
                403, "the Host of this request is not allowed here; admin.allowed_hosts names more"
            )
        if not origins_allowed(headers.getRawHeaders("origin") or (), local, self._allowed_hosts):
            return Refusal(403, "the Origin of this request is not allowed here")
        if self.tokens is None:
            return EVERYBODY
        now = self._clock()
        wait = self._failures.wait(source, now)
        if wait:
            seconds = b"%d" % math.ceil(wait)
            return Refusal(429, "too many wrong tokens from here", ((b"retry-after", seconds),))
        presented = bearer(headers.getRawHeaders("authorization") or ())
        if presented is None:
            return Refusal(
                401,
                "a token is needed: Authorization: Bearer TOKEN",
                ((b"www-authenticate", b'Bearer realm="txlb"'),),
            )
        caller = self.tokens.find(presented)
        if caller is None:
            self._failures.add(source, now)
            challenge = b'Bearer realm="txlb", error="invalid_token"'
            return Refusal(401, "this token is not valid", ((b"www-authenticate", challenge),))
        return caller

    def permit(self, caller: Caller, method: bytes, headers: Headers, has_body: bool) -> Refusal | None:
        """What this caller may not do."""
        if method != method.upper():
            return Refusal(400, "methods are written in capital letters")  # the routes would not mind
        if method in READING:
            return None
        if caller.role != WRITE:
            return Refusal(403, "this token may only read")
        types = headers.getRawHeaders("content-type") or ()
        if method not in CHANGING or (not has_body and (method == b"DELETE" or not types)):
            return None
        if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "application/json":
            return Refusal(415, "a change needs Content-Type: application/json")
        return None
