"""When a request may be sent once more.

Rules (RFC 9110 §9.2.2, RFC 9112 §9.3.1):

* A connect that failed cost nothing: the next backend is tried, `MAX_CONNECTS` in all.
* A reused connection that closed before any byte of the answer was stale: the request goes
  out once more, and only once, on a fresh connection if its method is idempotent and all
  of it that was sent is still held. Of other requests nothing is sent on a connection
  that is known to be stale, so theirs is a fresh one from the start.
* Nothing is sent again after the first byte of an answer.
"""

from __future__ import annotations

from typing import Final

MAX_CONNECTS: Final = 3
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def may_connect_again(tries: int) -> bool:
    """``tries``: connects that failed so far."""
    return tries < MAX_CONNECTS


def may_resend(method: bytes, reused: bool, answer_begun: bool, held: bool, resent: bool) -> bool:
    """The connection closed while the exchange was on it."""
    return reused and not answer_begun and held and not resent and method in IDEMPOTENT
