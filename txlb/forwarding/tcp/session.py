"""Session: one client's TCP connection, its way to a backend, and the relay between the two.

Rules:

* Steps: choose (`core.pool`), connect, relay (`forwarding.relay`), end. It is connected at once: in some
  protocols the server speaks first.
* A connect that failed goes on to another backend, as often as the rule's ``retries.max`` says; the client
  has lost nothing, for what it sends meanwhile is kept, up to `HIGH_WATER` bytes; then it is read no
  further. So does one to a backend that turned UNHEALTHY meanwhile.
* What was sent to a backend is never sent to another.
* The lease is released once, with its outcome; the session is counted and logged once: when both connections
  are gone.
* Without a backend the client gets RST, as it does when its backend is lost: cut short must not look whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import ConnectionClosed

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.core.pool import Lease, Pool
from txlb.forwarding.client import BackendProtocol
from txlb.forwarding.relay import Relay
from txlb.forwarding.tcp.record import TcpRecord
from txlb.net.connector import Connecting, Receiver
from txlb.net.stream import HIGH_WATER, StreamTransport

if TYPE_CHECKING:
    from txlb.forwarding.tcp.client import TcpClient
    from txlb.forwarding.tcp.settings import TcpSettings

EARLY: Final = HIGH_WATER


class Attempt(Receiver):
    """One connect on behalf of one session."""

    session: TcpSession
    backend: Backend
    connecting: Connecting

    def __init__(self, session: TcpSession, backend: Backend) -> None:
        self.session = session
        self.backend = backend
        settings = session.settings
        self.connecting = Connecting(settings.loop, self, settings.send_timeout, backend.secure)

    def begin(self) -> None:
        backend = self.backend
        session = self.session
        version = backend.proxy_protocol
        preface = session.client.announcement(version, session.client_ip) if version else b""
        timeout = session.settings.origins.connect_timeout
        self.connecting.begin(backend.address, backend.port, timeout, preface)

    def connected(self, transport: StreamTransport) -> None:
        if self.session.goes_elsewhere():
            transport.abortConnection()
            return
        stream = BackendStream(self.session, self.backend)
        transport.take_over(stream)
        self.session.connected(stream)

    def connect_failed(self, outcome: int) -> None:
        self.session.connect_failed(outcome)


class BackendStream(BackendProtocol):
    """Protocol of the backend's connection."""

    session: TcpSession

    def __init__(self, session: TcpSession, backend: Backend) -> None:
        super().__init__()
        self.session = session
        self.backend = backend

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.backend.connections += 1
        self.backend.touch()

    def dataReceived(self, data: bytes) -> None:
        self.backend.bytes_in += len(data)
        self.session.from_backend(data)

    def readConnectionLost(self) -> None:
        relay = self.session.relay
        if relay is not None:
            relay.backend_finished()

    def connectionLost(self, reason: Any) -> None:
        self.backend.connections -= 1
        self.backend.touch()
        relay = self.session.relay
        if relay is not None:
            relay.backend_lost(reason.value)

    def cut_off(self) -> None:
        self.session.stopped()


class TcpSession(TcpRecord):
    """See the module."""

    client: TcpClient
    settings: TcpSettings
    lease: Lease | None
    tried: list[Backend] | None
    attempt: Attempt | None
    was_healthy: bool  # ``last_backend``, when it was chosen; in a panic it need not be
    relay: Relay | None
    early: list[bytes]
    early_size: int
    last_outcome: int
    ended: bool

    def __init__(
        self, client: TcpClient, settings: TcpSettings, pool: Pool | None, server_name: bytes
    ) -> None:
        super().__init__(settings.id, client.ip, client.port, server_name, settings.loop.now)
        self.client = client
        self.settings = settings
        self.pool = pool
        self.lease = None
        self.tried = None
        self.attempt = None
        self.was_healthy = True
        self.relay = None
        self.early = []
        self.early_size = 0
        self.last_outcome = outcomes.UNUSED
        self.ended = False

    # -- the way to a backend ---------------------------------------------------------------

    def begin(self) -> None:
        """The client is connected."""
        pool = self.pool
        if pool is None:
            self._fail(ends.NO_RULE)
            return
        pool.budget.count_first(self.settings.loop.now)
        self._choose(pool)

    def _choose(self, pool: Pool) -> None:
        lease = pool.acquire(self, self.tried, self.settings.loop.now)
        if lease is None:
            if self.tries:
                self._unreachable()
            else:
                self.settings.count_error(503)
                self._fail(ends.NO_BACKEND)
            return
        if self.tries:
            pool.retries += 1
        self._go_to(lease)

    def _go_to(self, lease: Lease) -> None:
        self.lease = lease
        self.attempts += 1
        backend = lease.backend
        self.last_backend = backend
        self.was_healthy = backend.healthy
        self.attempt = Attempt(self, backend)
        self.attempt.begin()

    def connect_failed(self, outcome: int) -> None:
        """There is no connection: another backend, or the end."""
        self.attempt = None
        lease = self.lease
        pool = self.pool
        if lease is None or pool is None:
            return
        self.lease = None
        lease.release(outcome, self.settings.loop.now, self.client_ip)
        if outcome == outcomes.UNUSED:
            self.settings.count_error(503)
            self._fail(ends.NO_RESOURCES)
            return
        self.tries += 1
        if self.tried is None:
            self.tried = []
        self.tried.append(lease.backend)
        self.last_outcome = outcome
        if self.tries <= pool.max_retries:
            self._choose(pool)
        else:
            self._unreachable()

    def _unreachable(self) -> None:
        if self.last_outcome == outcomes.CONNECT_TIMEOUT:
            self.settings.count_error(504)
            self._fail(ends.CONNECT_TIMEOUT)
        elif self.last_outcome == outcomes.CONNECT_REFUSED:
            self.settings.count_error(502)
            self._fail(ends.CONNECT_REFUSED)
        elif self.last_outcome == outcomes.CONNECT_TLS:
            self.settings.count_error(502)
            self._fail(ends.CONNECT_TLS)
        else:
            self.settings.count_error(502)
            self._fail(ends.CONNECT_FAILED)

    def connected(self, stream: BackendStream) -> None:
        """The backend is there."""
        settings = self.settings
        client = self.client
        self.attempt = None
        self.connected_at = settings.loop.now
        relay = Relay(
            self, settings, stream.backend, client.transport, stream.transport, settings.tunnel_idle
        )
        self.relay = relay
        relay.start()
        if self.early:
            early = b"".join(self.early)
            self.early = []
            if self.early_size > EARLY:
                client.transport.resumeProducing()
            relay.from_client(early)
        if client.read_closed:
            relay.client_finished()

    def goes_elsewhere(self) -> bool:
        """The backend turned UNHEALTHY while it was connected to, and another took its place."""
        lease = self.lease
        pool = self.pool
        now = self.settings.loop.now
        if lease is None or pool is None or not self.was_healthy or lease.backend.healthy:
            return False
        if self.tries >= pool.max_retries:
            return False
        tried = [lease.backend] if self.tried is None else [*self.tried, lease.backend]
        other = pool.acquire(self, tried, now)
        if other is None:
            return False
        pool.retries += 1
        self.tried = tried
        self.tries += 1
        lease.release(outcomes.UNUSED, now, self.client_ip)
        self._go_to(other)
        return True

    # -- bytes --------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        relay = self.relay
        if relay is not None:
            relay.from_client(data)
            return
        if self.ended:
            return
        self.early.append(data)
        self.early_size += len(data)
        if self.early_size > EARLY:
            self.client.transport.pauseProducing()

    def from_backend(self, data: bytes) -> None:
        relay = self.relay
        if relay is not None:
            if self.first_byte_at == 0.0:
                self.first_byte_at = self.settings.loop.now
            relay.from_backend(data)

    # -- end ------------------------------------------------------------------------------------

    def client_lost(self, why: object) -> None:
        """The client's connection is gone."""
        relay = self.relay
        if relay is not None:
            relay.client_lost(why)
        elif not self.ended:
            settings = self.settings
            if isinstance(why, ConnectionClosed):
                self.termination = ends.CLIENT_ABORT_CONNECT
                settings.errors_client_abort += 1
            else:
                self.termination = ends.INTERNAL_ERROR
                settings.errors_internal += 1
            self._end(outcomes.CLIENT_ABORT)

    def relay_ended(self) -> None:
        relay = self.relay
        if relay is not None:
            self.bytes_in = self.counted_in = relay.bytes_in
            self.bytes_out = self.counted_out = relay.bytes_out
            self.termination = relay.termination
            self._end(relay.outcome)
            self.relay = None  # it holds us

    def stopped(self) -> None:
        """The end of a shutdown, or of its backend's drain."""
        if self.ended:
            return
        if self.relay is not None:
            self.relay.abort(ends.SHUTDOWN)
        else:
            self.termination = ends.SHUTDOWN
            self._end(outcomes.CLIENT_ABORT)

    def _fail(self, termination: int) -> None:
        self.termination = termination
        self._end(outcomes.UNUSED)
        self.client.transport.abortConnection()

    def _end(self, outcome: int) -> None:
        if self.ended:
            return
        self.ended = True
        attempt = self.attempt
        if attempt is not None:
            self.attempt = None
            attempt.connecting.cancel()
        if self.relay is None:
            self.bytes_in = self.early_size  # they got no further
        self.early = []
        lease = self.lease
        if lease is not None:
            self.lease = None
            lease.release(outcome, self.settings.loop.now, self.client_ip)
        self.settings.ended(self)
