"""Where exchanges get their backend connections: idle ones first, else a new one.

Rules:

* A new connection belongs to the exchange that asked for it until that ends; only then can others reuse it.
* An exchange that ends while it waits cancels its attempt.
* A connection that begins with a PROXY header speaks for one client: only exchanges of the same client
  connection with the very same header reuse it.
"""

from __future__ import annotations

from txlb.core.backend import Backend
from txlb.forwarding.http.backend import BackendConnection
from txlb.forwarding.http.dispatch import Dispatch
from txlb.forwarding.http.idle import IdleConnections
from txlb.forwarding.suspects import Suspects
from txlb.net.connector import Connecting, Receiver
from txlb.net.loop import Loop
from txlb.net.stream import StreamTransport
from txlb.net.tls import Origin


class Attempt(Receiver):
    """One connect on behalf of one exchange."""

    origins: Origins
    backend: Backend
    exchange: Dispatch
    connecting: Connecting
    address: str
    port: int
    secure: Origin | None
    version: int  # of the PROXY header that it begins with; 0 = none
    announced: bytes

    def __init__(self, origins: Origins, backend: Backend, exchange: Dispatch) -> None:
        self.origins = origins
        self.backend = backend
        self.exchange = exchange
        self.address = backend.address
        self.port = backend.port
        self.secure = backend.secure
        self.version = backend.proxy_protocol
        self.announced = exchange.announcement(self.version) if self.version else b""
        self.connecting = Connecting(origins.loop, self, origins.send_timeout, self.secure)

    def begin(self) -> None:
        self.connecting.begin(self.address, self.port, self.origins.connect_timeout, self.announced)

    def connected(self, transport: StreamTransport) -> None:
        connection = BackendConnection(self.backend, self.origins.idle, self.address, self.port)
        connection.secure = self.secure
        if self.version:
            connection.speaks_for(self.exchange.client, self.version, self.announced)
        transport.take_over(connection)
        self.exchange.connected(connection)

    def connect_failed(self, outcome: int) -> None:
        self.exchange.connect_failed(outcome)

    def cancel(self) -> None:
        """The exchange is over."""
        self.connecting.cancel()


class Origins:
    """The backend connections of one worker."""

    loop: Loop
    idle: IdleConnections
    suspects: Suspects
    connect_timeout: float
    send_timeout: float

    def __init__(self, loop: Loop, idle_limit: int) -> None:
        self.loop = loop
        self.idle = IdleConnections(loop, idle_limit)
        self.suspects = Suspects()
        self.connect_timeout = 1.0
        self.send_timeout = 60.0

    def take(self, backend: Backend, exchange: Dispatch) -> BackendConnection | None:
        """An idle connection to ``backend`` that ``exchange`` may use."""
        version = backend.proxy_protocol
        if version:
            return self.idle.take_own(backend, exchange.client, exchange.announcement(version))
        return self.idle.take(backend)

    def connect(self, backend: Backend, exchange: Dispatch) -> Attempt:
        """A new connection: ``exchange`` hears `connected` or `connect_failed` later."""
        attempt = Attempt(self, backend, exchange)
        attempt.begin()
        return attempt
