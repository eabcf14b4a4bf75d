"""What an exchange knows of its two sides.

Rules:

* An exchange (one request and its answer) calls the client side and the backend side only
  through these classes: HTTP/1 carries one exchange at a time on a connection, HTTP/2 will
  carry many, and neither routing nor policies nor logs need to know.
* Calls go to the sides as commands; what happened comes back to the exchange as past-tense
  methods (`txlb.forwarding.http.exchange`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from txlb.forwarding.client import BackendProtocol, ClientProtocol

if TYPE_CHECKING:
    from txlb.forwarding.http.exchange import Exchange


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSide(ClientProtocol):
    """Where requests come from and answers go to."""

    trusted: bool  # the peer's X-Forwarded-* are believed
    suffix: bytes  # the peer's address, as a request head ends with it
    blocked: bool  # the client does not take what was written: produce no more
    read_closed: bool  # the client has sent FIN
    kept: dict[str, BackendSide] | None  # by backend id: connections that nobody else may use
    __slots__ = tuple(__annotations__)

    def __init__(self) -> None:
        super().__init__()
        self.kept = None

    def room(self, available: bool) -> None:
        """Read on, or do not read, the request's body: the backend's pace."""
        raise NotImplementedError

    def answer(self, status: int, keep_alive: bool) -> int:
        """Write txlb's own answer; how many bytes that was. `response_ended` follows."""
        raise NotImplementedError

    def response_ended(self, reusable: bool) -> None:
        """The whole answer is written; ``reusable``: the connection may carry another exchange."""
        raise NotImplementedError

    def broken_off(self) -> None:
        """The answer cannot be completed: the client must see that (RST)."""
        raise NotImplementedError

    def tunnel_opened(self) -> bytes:
        """101 is written: raw bytes from here on. Returns those that came before it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class BackendSide(BackendProtocol):
    """Where requests go to and answers come from."""

    reused: bool
    __slots__ = tuple(__annotations__)

    def begin(self, exchange: Exchange) -> None:
        """Carry ``exchange``: its request is sent next."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Bytes of the request."""
        raise NotImplementedError

    def is_unanswered(self) -> bool:
        """No byte of an answer came."""
        raise NotImplementedError

    def pace(self, wanted: bool) -> None:
        """Read the answer, or do not read it for now: the client's pace."""
        raise NotImplementedError

    def release(self, reusable: bool) -> None:
        """The exchange is over: keep the connection for another, or close it."""
        raise NotImplementedError

    def abort(self) -> None:
        """The exchange is given up: close at once."""
        raise NotImplementedError
