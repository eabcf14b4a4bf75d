"""Closing in stages, for a peer that may still be sending and has not read everything yet.

Rules (RFC 9112 §9.6):

* A close with unread bytes, or before bytes that are still to come, is RST, and what the peer has not read by
  then may be lost to it. So our output ends first; what still comes is dropped, and the peer's FIN ends it.
* It is bounded: it ends `LINGER_TIME` seconds after the peer's kernel has taken the last byte. While bytes
  wait here, the send deadline rules; after that each `LINGER_TIME` must bring it on, and there are at most
  `LINGER_PERIODS`.
* `Severing` is for output that is not whole: the peer is to see so. It gets all that there is, then RST.
* Its owner goes on owning the transport: it drops what it hears, and passes on the ends (`finished`, `end`).
"""

from __future__ import annotations

from typing import Final

from txlb.net.loop import Loop
from txlb.net.timers import Timed
from txlb.net.transport import Transport

LINGER_TIME: Final = 2.0
LINGER_PERIODS: Final = 15
SEVER_TIME: Final = 0.1  # and a tick of the wheel: between two looks whether everything is there
SEVER_QUIET: Final = 10  # looks in a row that find nothing taken
SEVER_LOOKS: Final = SEVER_QUIET * LINGER_PERIODS


class Lingering(Timed):
    """One connection that is being closed."""

    loop: Loop
    transport: Transport
    left: int  # bytes that the peer's kernel did not have when we last looked
    periods: int

    def __init__(self, loop: Loop, transport: Transport) -> None:
        super().__init__()
        self.loop = loop
        self.transport = transport
        self.left = 0
        self.periods = 0

    def begin(self) -> None:
        """No more will be written."""
        transport = self.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        transport.loseWriteConnection()
        self.loop.arm(self, LINGER_TIME)

    def finished(self) -> None:
        """FIN came."""
        self.transport.loseConnection()

    def end(self) -> None:
        """The connection is lost."""
        self.loop.cancel(self)

    def timed_out(self, now: float) -> None:
        transport = self.transport
        if transport.is_backed_up():
            self.loop.arm(self, LINGER_TIME)
            return
        self.periods += 1
        left = transport.undelivered()
        if left != self.left and self.periods < LINGER_PERIODS:
            self.left = left
            self.loop.arm(self, LINGER_TIME)
        else:
            transport.loseConnection()

    def failed(self, why: BaseException) -> None:
        self.transport.abortConnection()


class Severing(Lingering):
    """One connection that is being cut off behind its last byte."""

    quiet: int  # looks since the peer's kernel took anything

    def __init__(self, loop: Loop, transport: Transport) -> None:
        super().__init__(loop, transport)
        self.quiet = 0

    def begin(self) -> None:
        """No more will be written."""
        transport = self.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        self.left = transport.undelivered()
        if self.left:
            self.loop.arm(self, SEVER_TIME)
        else:
            transport.abortConnection()

    def finished(self) -> None:
        """FIN came: it is to hear of the cut all the same."""

    def timed_out(self, now: float) -> None:
        transport = self.transport
        left = transport.undelivered()
        if transport.is_backed_up():
            self.quiet = 0
        else:
            self.periods += 1
            self.quiet = self.quiet + 1 if left == self.left else 0
        self.left = left
        if left and self.quiet < SEVER_QUIET and self.periods < SEVER_LOOKS:
            self.loop.arm(self, SEVER_TIME)
        else:
            transport.abortConnection()


def close_short(loop: Loop, transport: Transport) -> Lingering:
    """Close ``transport`` so that its peer has all that was written, and sees that there should be more."""
    if transport.end_short():
        closing = Lingering(loop, transport)
    else:
        closing = Severing(loop, transport)
    closing.begin()
    return closing
