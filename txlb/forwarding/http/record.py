"""What is known of one HTTP exchange, beyond what every `Record` knows; ``bytes_…`` include heads."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from txlb.core.http.head import RequestHead
from txlb.forwarding.record import Record


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpRecord(Record):
    """The facts of one exchange."""

    head: RequestHead
    answered_by_backend: bool
    reused: bool  # the backend connection was kept from before
    status: int
    __slots__ = tuple(__annotations__)

    def __init__(
        self, head: RequestHead, listener: str, client_ip: str, client_port: int, now: float
    ) -> None:
        super().__init__(listener, client_ip, client_port, now)
        self.head = head
        self.answered_by_backend = False
        self.reused = False
        self.status = 0

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
        value = self.head.fields.get(name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")
