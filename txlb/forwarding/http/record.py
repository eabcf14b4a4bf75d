"""What is known of one exchange: for algorithms while it is on, for the log when it has ended.

Rules:

* It is the context that algorithms see (`txlb.interfaces.IContext`): text, made only when
  somebody asks.
* Times are monotonic seconds; 0.0 means that it did not get that far.
* ``bytes_in`` and ``bytes_out`` count what came from and went to the client, heads included.
"""

from __future__ import annotations

from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.core.http.head import RequestHead
from txlb.core.pool import Pool
from txlb.forwarding.relay import RelayOwner


class Record(RelayOwner):
    """The facts of one exchange."""

    head: RequestHead
    listener: str
    client_ip: str
    client_port: int
    started: float
    connected_at: float
    first_byte_at: float
    pool: Pool | None
    last_backend: Backend | None
    answered_by_backend: bool
    attempts: int  # leases taken: backends tried
    tries: int  # of them, connects that failed
    reused: bool  # the backend connection was kept from before
    status: int
    bytes_in: int
    bytes_out: int
    termination: int

    def __init__(
        self, head: RequestHead, listener: str, client_ip: str, client_port: int, now: float
    ) -> None:
        self.head = head
        self.listener = listener
        self.client_ip = client_ip
        self.client_port = client_port
        self.started = now
        self.connected_at = 0.0
        self.first_byte_at = 0.0
        self.pool = None
        self.last_backend = None
        self.answered_by_backend = False
        self.attempts = 0
        self.tries = 0
        self.reused = False
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.termination = ends.NORMAL

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.started

    @property
    def host(self) -> str:
        return self.head.host.decode("latin-1")

    @property
    def method(self) -> str:
        return self.head.method.decode("latin-1")

    @property
    def path(self) -> str:
        return self.head.path.decode("latin-1")

    def header(self, name: str) -> str | None:
        """A request field by name, values joined with a comma; None if absent."""
        value = self.head.fields.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")
