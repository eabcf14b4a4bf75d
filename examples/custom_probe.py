"""A health check of one's own: a mail server is well if it greets as it should.

twistd -n txlb --config=examples/custom-probe.yaml
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txlb.interfaces import IProbe


class Greeting(Protocol):
    """Waits for the first bytes of the other side."""

    def __init__(self) -> None:
        self.came: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.came.called:
            self.came.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.came.called:
            self.came.errback(reason)


@implementer(IProbe)
class Banner:
    """``health_check: {type: "custom_probe:Banner", options: {starts_with: "220 "}}``"""

    def __init__(self, starts_with: str = "220 ") -> None:
        self.starts_with = starts_with.encode()

    async def check(self, backend: Any) -> None:
        """Returns if the backend is well, raises if not; cancelled when its time is over."""
        from twisted.internet import reactor

        there = HostnameEndpoint(reactor, backend.address, backend.port)
        greeting = await connectProtocol(there, Greeting())
        try:
            data = await greeting.came
        finally:
            greeting.transport.loseConnection()
        if not data.startswith(self.starts_with):
            raise ValueError(f"greets with {data[:40]!r}")
