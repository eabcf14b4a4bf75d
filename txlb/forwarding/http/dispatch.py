"""An exchange's way to its backend: choose, connect or reuse, send the request.

Rules:

* Steps: route (`core.routing`), choose (`core.pool`), connect or reuse (`origins`), send. Each
  is synchronous; waiting is the sides' business.
* The lease is released once, with its outcome.
* Until the answer begins, what was sent of the request is held (`hold`) while it might have to
  be sent again (`core.http.retry`).
* What cannot be sent becomes an answer of our own (502, 503, 504).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.core.http.forward import request_head
from txlb.core.http.head import RequestHead
from txlb.core.http.retry import IDEMPOTENT, may_connect_again, may_resend
from txlb.core.pool import Lease
from txlb.forwarding.http.hold import RequestHold
from txlb.forwarding.http.record import HttpRecord
from txlb.forwarding.http.sides import BackendSide, ClientSide

if TYPE_CHECKING:
    from txlb.forwarding.http.origins import Attempt
    from txlb.forwarding.http.settings import HttpSettings


@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatch(HttpRecord):
    """The half of an exchange that finds a backend for its request (`exchange` is the other)."""

    client: ClientSide
    settings: HttpSettings
    lease: Lease | None
    tried: list[Backend] | None
    attempt: Attempt | None
    backend: BackendSide | None
    hold: RequestHold | None  # None: nothing of a body came yet
    last_outcome: int
    resent: bool
    request_done: bool
    answer_begun: bool

    def __init__(
        self, client: ClientSide, settings: HttpSettings, head: RequestHead, client_ip: str, client_port: int
    ) -> None:
        super().__init__(head, settings.id, client_ip, client_port, settings.loop.now)
        self.client = client
        self.settings = settings
        self.lease = None
        self.tried = None
        self.attempt = None
        self.backend = None
        self.hold = None
        self.last_outcome = outcomes.UNUSED
        self.resent = False
        self.request_done = False
        self.answer_begun = False

    # -- what the other half does ---------------------------------------------------------

    def answer(self, status: int, termination: int) -> None:
        """No backend will answer: txlb does."""
        raise NotImplementedError

    def carried_by(self, side: BackendSide) -> None:
        """``side`` carries this exchange from now on."""
        raise NotImplementedError

    # -- request --------------------------------------------------------------------------

    def begin(self, body: bytes, done: bool) -> None:
        """The head is here, with ``body`` as the first piece; ``done``: that is all of it."""
        settings = self.settings
        self.request_done = done
        pool = settings.routes.match(self.head.host, self.head.path)
        if pool is None:
            self.answer(404, ends.NO_RULE)
            return
        self.pool = pool
        pool.requests += 1
        if body:
            self.bytes_in += len(body)
            self.hold = RequestHold()
            self.hold.add(body)
        self._choose()

    def _choose(self) -> None:
        pool = self.pool
        if pool is None:
            return
        settings = self.settings
        lease = pool.acquire(self, self.tried, settings.loop.now)
        if lease is None:
            if self.tries == 0:
                self.answer(503, ends.NO_BACKEND)
            else:
                self._unreachable()
            return
        if self.tries:
            pool.retries += 1
        self.lease = lease
        self.attempts += 1
        backend = lease.backend
        self.last_backend = backend
        side = settings.origins.take(backend, self)
        if side is None:
            self._connect(backend)
        elif self.head.method not in IDEMPOTENT and side.transport.is_stale():
            side.abort()
            self._connect(backend)
        else:
            self.reused = True
            self._send_on(side)

    def _connect(self, backend: Backend) -> None:
        self.reused = False
        self.attempt = self.settings.origins.connect(backend, self)

    def connected(self, side: BackendSide) -> None:
        """The fresh connection is there."""
        self.attempt = None
        self._send_on(side)

    def connect_failed(self, outcome: int) -> None:
        """There is no connection: another backend, or an answer of our own."""
        self.attempt = None
        lease = self.lease
        if lease is None:
            return
        self.lease = None
        lease.release(outcome, self.settings.loop.now)
        if outcome == outcomes.UNUSED:
            self.answer(503, ends.NO_RESOURCES)
            return
        self.tries += 1
        if self.tried is None:
            self.tried = []
        self.tried.append(lease.backend)
        self.last_outcome = outcome
        if may_connect_again(self.tries):
            self._choose()
        else:
            self._unreachable()

    def _unreachable(self) -> None:
        if self.last_outcome == outcomes.CONNECT_TIMEOUT:
            self.answer(504, ends.CONNECT_TIMEOUT)
        elif self.last_outcome == outcomes.CONNECT_REFUSED:
            self.answer(502, ends.CONNECT_REFUSED)
        else:
            self.answer(502, ends.CONNECT_FAILED)

    def _send_on(self, side: BackendSide) -> None:
        settings = self.settings
        self.backend = side
        if not self.reused:
            self.connected_at = settings.loop.now
        self.carried_by(side)
        client = self.client
        backend = self.last_backend
        if self.head.minor == 0 and self.head.fields.hosts == 0 and backend is not None:
            host = f"[{backend.host}]" if ":" in backend.host else backend.host
            self.head.fallback_host = f"{host}:{backend.port}".encode("ascii")
        head = request_head(self.head, settings.policy, client.trusted, client.suffix)
        hold = self.hold
        if hold is None:
            side.send(head)
        else:
            side.send(head + hold.body())
            if not self.reused:
                hold.drop()
        if self.request_done:
            settings.loop.arm(side, settings.backend_response)
        else:
            client.room(True)

    def announcement(self, version: int) -> bytes:
        """The PROXY header that the backend wants."""
        return self.client.announcement(version, self.client_ip)

    def request_data(self, data: bytes, done: bool) -> None:
        """More of the request's body, framed as it is to be sent."""
        self.bytes_in += len(data)
        self.request_done = done
        side = self.backend
        if not self.answer_begun:
            hold = self.hold
            if hold is None:
                hold = self.hold = RequestHold()
                if side is not None and not self.reused:
                    hold.drop()
            hold.add(data)
            if hold.is_full():
                if side is None:
                    self.client.room(False)
                else:
                    hold.drop()
        if side is not None:
            side.send(data)
            if done:
                self.settings.loop.arm(side, self.settings.backend_response)

    def request_spliced(self, size: int) -> None:
        """More of the request's body went straight to the backend: it cannot be sent again."""
        self.bytes_in += size
        if self.hold is None:
            self.hold = RequestHold()
        self.hold.drop()
        if self.last_backend is not None:
            self.last_backend.bytes_out += size

    def resend(self, unanswered: bool) -> bool:
        """The connection closed, before any byte of an answer if ``unanswered``; False: that is final."""
        lease = self.lease
        held = self.hold is None or self.hold.whole
        if unanswered and may_resend(self.head.method, self.reused, self.answer_begun, held, self.resent):
            self.resent = True
            if lease is not None:
                self._connect(lease.backend)
                return True
        return False

    def release_lease(self, outcome: int) -> None:
        """Give it back, if there is one."""
        lease = self.lease
        if lease is not None:
            self.lease = None
            lease.release(outcome, self.settings.loop.now)
