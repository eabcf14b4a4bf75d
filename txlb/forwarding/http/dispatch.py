"""An exchange's way to its backend: choose, connect or reuse, send the request.

Rules:

* Steps: route (`core.routing`), choose (`core.pool`), connect or reuse (`origins`), send. Each
  is synchronous; waiting is the sides' business.
* The lease is released once, with its outcome.
* What fails before the first byte of an answer goes to a backend that was not tried yet, as far as
  `core.http.retry`, the rule's ``max`` and its budget allow. Until then what was sent of the request
  is held (`hold`).
* A backend that turned UNHEALTHY while it was being connected to is left before anything is sent: who waits
  for an answer is moved when control says so, and this request does not wait yet.
* A client that belongs to a backend by its affinity cookie gets that one while it can serve; whoever else
  answers binds the client anew (`binding`).
* While a backend owes the first byte, the exchange stands in that backend's line, in the order of
  asking (``older``, ``newer``): its head says whether the backend hangs.
* What cannot be sent becomes an answer of our own (502, 503, 504).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.core.http.forward import request_head
from txlb.core.http.head import RequestHead
from txlb.core.http.retry import IDEMPOTENT, may_repeat
from txlb.core.pool import Lease, Pool
from txlb.core.stickiness import Affinity
from txlb.forwarding.http.hold import RequestHold
from txlb.forwarding.http.record import HttpRecord
from txlb.forwarding.http.sides import BackendSide, ClientSide

if TYPE_CHECKING:
    from txlb.forwarding.http.origins import Attempt
    from txlb.forwarding.http.settings import HttpSettings


class Dispatch(HttpRecord):
    """The half of an exchange that finds a backend for its request (`exchange` is the other)."""

    client: ClientSide
    settings: HttpSettings
    lease: Lease | None
    tried: list[Backend] | None
    attempt: Attempt | None
    backend: BackendSide | None
    was_healthy: bool  # ``last_backend``, when it was chosen; in a panic it need not be
    hold: RequestHold | None  # None: nothing of a body came yet
    last_outcome: int
    resent: bool
    request_done: bool
    answer_begun: bool
    home: Backend | None  # whom the client belongs to, by its cookie
    binding: (
        bytes  # field lines of the answer that bind the client to its backend; b"" = it knows, or need not
    )
    asked_at: float  # the backend owes an answer since then; 0.0 = it does not
    older: Dispatch | None  # in the line of ``last_backend``
    newer: Dispatch | None
    __slots__ = tuple(__annotations__)

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
        self.was_healthy = True
        self.hold = None
        self.last_outcome = outcomes.UNUSED
        self.resent = False
        self.request_done = False
        self.answer_begun = False
        self.home = None
        self.binding = b""
        self.asked_at = 0.0
        self.older = None
        self.newer = None

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
        pool.budget.count_first(settings.loop.now)
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
        lease = None
        if pool.affinity is not None and self.tried is None:
            lease = self._at_home(pool, pool.affinity)
        if lease is None:
            lease = pool.acquire(self, self.tried, settings.loop.now)
        if lease is None:
            if self.tries == 0:
                self.answer(503, ends.NO_BACKEND)
            else:
                self._unreachable()
            return
        if self.tries:
            pool.retries += 1
        self._go_to(lease)

    def _at_home(self, pool: Pool, affinity: Affinity) -> Lease | None:
        home = self.home = affinity.backend_of(self.head.fields.get(b"cookie"))
        return None if home is None else pool.acquire_this(home, self.settings.loop.now)

    def _go_to(self, lease: Lease) -> None:
        self.lease = lease
        self.attempts += 1
        backend = lease.backend
        pool = self.pool
        if pool is not None and pool.affinity is not None:
            moved = backend is not self.home
            secure = self.settings.policy.scheme == b"https"
            self.binding = pool.affinity.fields_for(backend, secure) if moved else b""
        self.last_backend = backend
        self.was_healthy = backend.healthy
        side = self.settings.origins.take(backend, self)
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
        lease = self.lease
        if lease is not None and self._has_fallen() and self._elsewhere(lease, outcomes.UNUSED):
            side.abort()
        else:
            self._send_on(side)

    def _has_fallen(self) -> bool:
        """The backend turned UNHEALTHY since it was chosen."""
        backend = self.last_backend
        return backend is not None and self.was_healthy and not backend.healthy

    def connect_failed(self, outcome: int) -> None:
        """There is no connection: another backend, or an answer of our own."""
        self.attempt = None
        lease = self.lease
        if lease is None:
            return
        self.lease = None
        lease.release(outcome, self.settings.loop.now, self.client_ip)
        if outcome == outcomes.UNUSED:
            self.answer(503, ends.NO_RESOURCES)
            return
        self.tries += 1
        if self.tried is None:
            self.tried = []
        self.tried.append(lease.backend)
        self.last_outcome = outcome
        pool = self.pool
        if pool is not None and self.tries <= pool.max_retries:
            self.resent = False
            self._choose()
        else:
            self._unreachable()

    def _unreachable(self) -> None:
        if self.last_outcome == outcomes.CONNECT_TIMEOUT:
            self.answer(504, ends.CONNECT_TIMEOUT)
        elif self.last_outcome == outcomes.CONNECT_REFUSED:
            self.answer(502, ends.CONNECT_REFUSED)
        elif self.last_outcome == outcomes.CONNECT_TLS:
            self.answer(502, ends.CONNECT_TLS)
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
        if self.home is not None or self.binding:
            pool = self.pool
            if pool is not None and pool.affinity is not None:
                head = pool.affinity.hide(head)
        hold = self.hold
        if hold is None:
            side.send(head)
        else:
            side.send(head + hold.body())
            if not self._may_need_it():
                hold.drop()
        if self.request_done:
            self._ask(side)
        else:
            client.room(True)

    def announcement(self, version: int) -> bytes:
        """The PROXY header that the backend wants."""
        return self.client.announcement(version, self.client_ip)

    def _may_need_it(self) -> bool:
        """What is sent of the body may have to be sent again."""
        return self.head.method in IDEMPOTENT

    def request_data(self, data: bytes, done: bool) -> None:
        """More of the request's body, framed as it is to be sent."""
        self.bytes_in += len(data)
        self.request_done = done
        side = self.backend
        if not self.answer_begun:
            hold = self.hold
            if hold is None:
                hold = self.hold = RequestHold()
                if side is not None and not self._may_need_it():
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
                self._ask(side)
                if self._has_fallen():
                    self.move()  # while the body was on its way

    def request_spliced(self, size: int) -> None:
        """More of the request's body went straight to the backend: it cannot be sent again."""
        self.bytes_in += size
        if self.hold is None:
            self.hold = RequestHold()
        self.hold.drop()
        if self.last_backend is not None:
            self.last_backend.bytes_out += size

    # -- the line of a backend ----------------------------------------------------------------

    def _ask(self, side: BackendSide) -> None:
        """The whole request is out: the backend owes an answer."""
        settings = self.settings
        settings.loop.arm(side, settings.backend_response)
        backend = self.last_backend
        if backend is None or self.answer_begun:
            return
        self.asked_at = settings.loop.now
        last = backend.youngest
        if last is None:
            backend.oldest = self
            if not backend.watched:
                settings.origins.suspects.watch(backend)
        else:
            ahead: Dispatch = last
            ahead.newer = self
            self.older = ahead
        backend.youngest = self

    def leave_line(self) -> None:
        """The backend owes nothing more."""
        self.asked_at = 0.0
        older = self.older
        newer = self.newer
        backend = self.last_backend
        if older is not None:
            older.newer = newer
        elif backend is not None:
            backend.oldest = newer
        if newer is not None:
            newer.older = older
        elif backend is not None:
            backend.youngest = older
        self.older = None
        self.newer = None

    # -- once more ----------------------------------------------------------------------------

    def repeat(self, unanswered: bool) -> bool:
        """The connection closed, before any byte of an answer if ``unanswered``; False: that is final."""
        lease = self.lease
        held = self.hold is None or self.hold.whole
        if lease is None or self.answer_begun or not may_repeat(self.head.method, unanswered, held):
            return False
        if self.reused and not self.resent:
            self.resent = True  # it was stale: the same backend, but on a fresh connection
            self._connect(lease.backend)
            return True
        return self._elsewhere(lease, outcomes.RESET)

    def move(self) -> bool:
        """The backend turned out to be UNHEALTHY: ask another; False: stay."""
        side = self.backend
        lease = self.lease
        if side is None or lease is None or self.answer_begun:
            return False
        held = self.hold is None or self.hold.whole
        if not may_repeat(self.head.method, side.is_unanswered(), held):
            return False
        return self._elsewhere(lease, outcomes.TIMEOUT)

    def _elsewhere(self, lease: Lease, outcome: int) -> bool:
        """Leave this backend, of which nothing came, for another; False: nothing changed.

        ``outcome``: UNUSED = nothing was sent, which costs no budget.
        """
        pool = self.pool
        now = self.settings.loop.now
        charged = outcome != outcomes.UNUSED
        if pool is None or self.tries >= pool.max_retries or (charged and not pool.budget.allows(now)):
            return False
        tried = [lease.backend] if self.tried is None else [*self.tried, lease.backend]
        other = pool.acquire(self, tried, now)
        if other is None:
            return False
        if charged:
            pool.budget.charge(now)
        pool.retries += 1
        self.tried = tried
        self.tries += 1
        self.last_outcome = outcome
        if self.asked_at != 0.0:
            self.leave_line()
        side = self.backend
        if side is not None:
            self.backend = None
            side.abort()
        self.lease = None
        lease.release(outcome, now, self.client_ip)
        self.resent = False
        self._go_to(other)
        return True

    def release_lease(self, outcome: int) -> None:
        """Give it back, if there is one."""
        lease = self.lease
        if lease is not None:
            self.lease = None
            lease.release(outcome, self.settings.loop.now, self.client_ip)
