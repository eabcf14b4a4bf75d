"""When a request may be sent once more.

Rules (RFC 9110 §9.2.2, RFC 9112 §9.3.1):

* A connect that failed cost nothing: any request goes on to the next backend.
* Of what was sent, only idempotent requests are sent again, only before the first byte of an answer, and only
  if all of it is still held.
* A reused connection that closed before any byte of the answer was stale: the same backend is asked once
  more, on a fresh connection. Of requests that are not idempotent nothing is sent on a connection that is
  known to be stale, so theirs is a fresh one from the start.
* How often, and how often in all, is the rule's ``retries`` (`txlb.core.pool`, `txlb.core.retry_budget`).
"""

from __future__ import annotations

from typing import Final

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def may_repeat(method: bytes, unanswered: bool, held: bool) -> bool:
    """Some of the request was sent: it may be sent again, to whomever."""
    return unanswered and held and method in IDEMPOTENT
