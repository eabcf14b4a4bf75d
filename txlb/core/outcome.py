"""How a lease on a backend ended: what `Lease.release` is told and observers hear.

Rules:

* An outcome speaks about the backend, not about the client's answer: a well-formed 503 is ``OK``.
* ``CLIENT_ABORT`` and ``UNUSED`` say nothing about it: no counter of failures moves.
* Connect failures (``is_connect_failure``) mean that nothing was sent; the others that something may have
  been.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0  #: a whole, well-formed answer (or a tunnel that ended in order)
CONNECT_REFUSED: Final = 1  #: nobody listens there
CONNECT_TIMEOUT: Final = 2  #: no connection within ``timeouts.connect``
CONNECT_FAILED: Final = 3  #: any other failure to connect: unreachable, reset while connecting
RESET: Final = 4  #: closed or reset before its answer was complete
TIMEOUT: Final = 5  #: silent for ``timeouts.backend_response``
BAD_RESPONSE: Final = 6  #: what came is not a well-formed answer
CLIENT_ABORT: Final = 7  #: the client left first
UNUSED: Final = 8  #: never tried: a shortage of our own, shutdown, or a stale idle connection
CONNECT_TLS: Final = 9  #: connected, but not to whom we expect, or the TLS handshake failed

NAMES: Final = (
    "ok",
    "connect_refused",
    "connect_timeout",
    "connect_failed",
    "reset",
    "timeout",
    "bad_response",
    "client_abort",
    "unused",
    "connect_tls",
)


def is_connect_failure(outcome: int) -> bool:
    return CONNECT_REFUSED <= outcome <= CONNECT_FAILED or outcome == CONNECT_TLS


def is_failure(outcome: int) -> bool:
    """The backend's fault, as far as we can see."""
    return CONNECT_REFUSED <= outcome <= BAD_RESPONSE or outcome == CONNECT_TLS
