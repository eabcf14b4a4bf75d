"""What is known of one exchange, connection or flow: for algorithms while it is on, for the log afterwards.

Rules:

* It is the context that algorithms see (`txlb.interfaces.IContext`): text, made only when somebody asks;
  None where the protocol has no such thing.
* Times are monotonic seconds; 0.0 means that it did not get that far.
* ``bytes_in`` and ``bytes_out`` count what came from and went to the client.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.core.pool import Pool
from txlb.forwarding.relay import RelayOwner


@mypyc_attr(allow_interpreted_subclasses=True)
class Record(RelayOwner):
    """The facts."""

    listener: str
    client_ip: str
    client_port: int
    started: float
    connected_at: float
    first_byte_at: float
    pool: Pool | None
    last_backend: Backend | None
    attempts: int  # leases taken: backends tried
    tries: int  # of them, those that came to nothing
    bytes_in: int
    bytes_out: int
    counted_in: int  # of them, what its listener has counted already
    counted_out: int
    termination: int
    __slots__ = tuple(__annotations__)

    def __init__(self, listener: str, client_ip: str, client_port: int, now: float) -> None:
        self.listener = listener
        self.client_ip = client_ip
        self.client_port = client_port
        self.started = now
        self.connected_at = 0.0
        self.first_byte_at = 0.0
        self.pool = None
        self.last_backend = None
        self.attempts = 0
        self.tries = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.counted_in = 0
        self.counted_out = 0
        self.termination = ends.NORMAL

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.started

    @property
    def host(self) -> str | None:
        return None

    @property
    def method(self) -> str | None:
        return None

    @property
    def path(self) -> str | None:
        return None

    def header(self, name: str) -> str | None:
        """A request field by name, values joined with a comma; None if absent."""
        return None
