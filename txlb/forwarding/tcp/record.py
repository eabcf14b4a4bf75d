"""What is known of one TCP connection, beyond what every `Record` knows."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from txlb.forwarding.record import Record


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpRecord(Record):
    """The facts of one connection; ``host`` is the server name that its TLS asks for, if that is known."""

    server_name: bytes

    def __init__(
        self, listener: str, client_ip: str, client_port: int, server_name: bytes, now: float
    ) -> None:
        super().__init__(listener, client_ip, client_port, now)
        self.server_name = server_name

    @property
    def host(self) -> str | None:
        return self.server_name.decode("ascii") if self.server_name else None
