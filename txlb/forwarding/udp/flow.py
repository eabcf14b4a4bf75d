"""One flow: what one client address sends to a listener, the backend it goes to, and the answers.

Rules:

* A flow has one backend at a time, a lease on it, and one connected socket. The lease is released once, with
  its outcome.
* It moves to another backend with the client's next datagram when its own refused (ICMP), is unhealthy, was
  drained and the drain is over, is somewhere else by now, or refused others since it last answered here.
  When there is no other it stays.
* Silence where an answer is expected (``max_responses``) is a time-out of the backend, but is not laid to a
  client's account: source addresses can be forged.
* A datagram that a backend refused goes to another one at once: always when the kernel tells while sending,
  and for the first datagram (up to `HELD` bytes) also when the refusal comes later, as it usually does.
  Nothing is ever sent twice to where it may have arrived.
* Each datagram tries at most `TRIES` backends, none of them twice.
* It ends when each datagram of the client has had ``max_responses`` answers, when nothing came either way for
  ``timeouts.udp_idle``, when the table needs its place, or with txlb: one line in the log, always.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, final

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.backend import AVOID_SECONDS, Backend
from txlb.core.flows import Flow
from txlb.core.pool import Lease
from txlb.forwarding.record import Record
from txlb.net.connector import outcome_of
from txlb.net.datagram import LOST, ConnectedDatagrams

if TYPE_CHECKING:
    from txlb.forwarding.udp.port import UdpPort
    from txlb.forwarding.udp.settings import UdpSettings

TRIES: Final = 3
HELD: Final = 1500
STAY: Final = 1.0  # seconds until a flow that found no better backend looks again
NO_TRIED: Final[list[Backend]] = []


class FlowRecord(Record):
    """The facts of one flow."""

    datagrams_in: int
    datagrams_out: int
    picked_at: float

    def __init__(self, listener: str, client_ip: str, client_port: int, now: float) -> None:
        super().__init__(listener, client_ip, client_port, now)
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.picked_at = now

    @property
    def now(self) -> float:
        return self.picked_at


@final
class BackendDatagrams(ConnectedDatagrams):
    """A flow's socket towards its backend."""

    flow: UdpFlow

    def __init__(self, flow: UdpFlow) -> None:
        super().__init__(flow.port.loop)
        self.flow = flow

    def received(self, data: bytes) -> None:
        self.flow.answered(data)

    def broken(self, code: int) -> None:
        self.flow.refused(outcome_of(code))

    def cut_off(self) -> None:
        self.flow.end(ends.SHUTDOWN)

    def failed(self, why: BaseException) -> None:
        self.flow.end(ends.INTERNAL_ERROR)


@final
class UdpFlow(Flow):
    """See the module."""

    settings: UdpSettings
    port: UdpPort
    peer: Any
    reply_from: Any
    record: FlowRecord
    lease: Lease | None
    link: BackendDatagrams | None
    address: str  # where the link goes
    backend_port: int
    answers: int  # from any backend
    answered_at: float  # by the backend of now; 0.0 = not yet
    sent: int  # datagrams to the backend of now
    held: bytes | None  # the first of them, until it is answered or followed by another
    tried: list[Backend]  # who refused the client's latest datagram
    trouble: int  # why nothing has been answered since it went wrong; NORMAL = nothing has gone wrong
    stay_until: float

    def __init__(
        self, settings: UdpSettings, port: UdpPort, key: Any, source: str, peer: Any, local: bytes, now: float
    ) -> None:
        super().__init__(port.flows, key, source, now)
        self.settings = settings
        self.port = port
        self.peer = peer
        self.reply_from = port.source(local)
        self.record = FlowRecord(settings.id, peer[0], peer[1], now)
        self.record.pool = settings.pool
        self.lease = None
        self.link = None
        self.address = ""
        self.backend_port = 0
        self.answers = 0
        self.answered_at = 0.0
        self.sent = 0
        self.held = None
        self.tried = NO_TRIED
        self.trouble = ends.NORMAL
        self.stay_until = 0.0

    # -- from the client ------------------------------------------------------------------

    def forward(self, data: bytes, now: float) -> None:
        """A datagram of the client."""
        record = self.record
        record.datagrams_in += 1
        record.bytes_in += len(data)
        if self.answers and not self.settled:
            self.settings.table.settle(self)
        self.tried = NO_TRIED
        self._send(data, now)
        if self.settings.max_responses == 0:
            self.end(ends.NORMAL)

    def _send(self, data: bytes, now: float) -> None:
        settings = self.settings
        while len(self.tried) < TRIES:
            lease = self.lease
            if lease is None or self._unwanted(lease.backend, now):
                if not self._connect(now):
                    break
                lease = self.lease
            link = self.link
            if lease is None or link is None:
                break
            code = link.send(data)
            if code == 0:
                backend = lease.backend
                backend.bytes_out += len(data)
                backend.touch()
                self.sent += 1
                self.held = data if self.sent == 1 and len(data) <= HELD else None
                return
            if code == LOST or code == errno.EMSGSIZE or code == errno.ENOBUFS:
                settings.dropped_send += 1
                return
            self._refused_by(lease.backend, outcome_of(code), now)
        settings.dropped_backend += 1
        if self.trouble == ends.NORMAL:
            self.trouble = ends.NO_BACKEND

    def _refused_by(self, backend: Backend, outcome: int, now: float) -> None:
        self.tried = [*self.tried, backend]
        self.trouble = ends.CONNECT_REFUSED
        self.record.tries += 1
        self._let_go(outcome, now)

    def _unwanted(self, backend: Backend, now: float) -> bool:
        """Another backend should have this flow, if there is one."""
        if backend.healthy and backend.avoid_until <= now:
            # (`is_eligible` asks for more: neither a drain nor a weight of 0 ends what is under way)
            return self._moved(backend)
        if self.stay_until > now:
            return False
        if not backend.healthy or self._moved(backend):
            return True
        return backend.avoid_until > now and self.answered_at < backend.avoid_until - AVOID_SECONDS

    def _moved(self, backend: Backend) -> bool:
        return backend.address != self.address or backend.port != self.backend_port

    def _connect(self, now: float) -> bool:
        """Get a backend, another one if there is one already; False if there is none at all."""
        record = self.record
        pool = self.settings.pool
        if pool is None:
            return False
        record.pool = pool
        record.picked_at = now
        avoid = self.tried
        old = self.lease
        if old is not None and not self._moved(old.backend):
            avoid = [*avoid, old.backend]
        for _ in range(TRIES):
            lease = pool.acquire(record, avoid, now)
            if lease is None:
                break
            record.attempts += 1
            backend = lease.backend
            record.last_backend = backend
            link = BackendDatagrams(self)
            code = link.open(backend.address, backend.port)
            if code == 0:
                self._let_go(self._outcome(now), now)
                self.lease = lease
                self.link = link
                backend.connections += 1
                self.address = backend.address
                self.backend_port = backend.port
                self.answered_at = 0.0
                self.sent = 0
                if record.connected_at == 0.0:
                    record.connected_at = now
                return True
            outcome = outcome_of(code)
            lease.release(outcome, now)
            if outcome == outcomes.UNUSED:
                self.settings.dropped_resources += 1
                break
            avoid = [*avoid, backend]
        if self.link is None:
            return False
        self.stay_until = now + STAY
        return True

    # -- from the backend -----------------------------------------------------------------

    def answered(self, data: bytes) -> None:
        """A datagram of the backend."""
        settings = self.settings
        port = self.port
        record = self.record
        now = port.loop.now
        self.answers += 1
        self.answered_at = now
        self.held = None
        self.trouble = ends.NORMAL
        if record.first_byte_at == 0.0:
            record.first_byte_at = now
        lease = self.lease
        if lease is not None:
            backend = lease.backend
            backend.bytes_in += len(data)
            backend.touch()
        if port.reply(data, self.peer, self.reply_from) == 0:
            record.datagrams_out += 1
            record.bytes_out += len(data)
            settings.datagrams_out += 1
            settings.bytes_out += len(data)
        else:
            settings.dropped_send += 1
        settings.touched = True
        most = settings.max_responses
        if most >= 0 and self.answers >= most * record.datagrams_in:
            self.end(ends.NORMAL)
        else:
            settings.table.touch(self, now)

    def refused(self, outcome: int) -> None:
        """The backend's socket broke: nobody listens there, or it cannot be reached."""
        lease = self.lease
        held = self.held
        now = self.port.loop.now
        if lease is not None:
            self._refused_by(lease.backend, outcome, now)
            if held is not None:
                self._send(held, now)

    def leave_backend(self) -> None:
        """The backend's drain is over: another one gets the client's next datagram."""
        now = self.port.loop.now
        self._let_go(self._outcome(now), now)

    # -- ending ---------------------------------------------------------------------------

    def end(self, termination: int) -> None:
        """Over: at once, and once."""
        settings = self.settings
        if not settings.table.remove(self):
            return
        now = self.port.loop.now
        in_order = termination == ends.NORMAL or termination == ends.FLOW_IDLE
        self.record.termination = self.trouble if in_order and self.trouble != ends.NORMAL else termination
        self._let_go(self._outcome(now), now)
        self.port.flow_ended()
        settings.flow_ended(self.record)

    def _let_go(self, outcome: int, now: float) -> None:
        self.held = None
        link = self.link
        if link is not None:
            self.link = None
            link.close()
        lease = self.lease
        if lease is not None:
            self.lease = None
            lease.backend.connections -= 1
            lease.release(outcome, now, "" if outcome == outcomes.TIMEOUT else self.record.client_ip)

    def _outcome(self, now: float) -> int:
        """What the time with this backend says about it."""
        lease = self.lease
        if lease is None:
            return outcomes.UNUSED
        if self.answered_at == 0.0:
            settings = self.settings
            silent = settings.max_responses > 0 and self.sent > 0 and self.used + settings.table.idle <= now
            return outcomes.TIMEOUT if silent else outcomes.UNUSED
        avoid_until = lease.backend.avoid_until
        if avoid_until > now and self.answered_at < avoid_until - AVOID_SECONDS:
            return outcomes.UNUSED  # it failed since: that it answered before is no news
        return outcomes.OK

    def backend_id(self) -> str:
        lease = self.lease
        return "" if lease is None else lease.backend.id
