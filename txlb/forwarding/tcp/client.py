"""Client side of TCP: one connection from a client, one session."""

from __future__ import annotations

from typing import Any

from txlb.core.pool import Pool
from txlb.forwarding.client import ClientProtocol
from txlb.forwarding.tcp.session import TcpSession
from txlb.forwarding.tcp.settings import TcpSettings
from txlb.net.listener import Gate


class TcpClient(ClientProtocol):
    """Protocol of one client connection."""

    settings: TcpSettings
    gate: Gate
    session: TcpSession | None  # until it ends: the two hold each other
    read_closed: bool

    def __init__(
        self, settings: TcpSettings, gate: Gate, ip: str, port: int, pool: Pool | None, server_name: bytes
    ) -> None:
        super().__init__()
        self.settings = settings
        self.gate = gate
        self.ip = ip
        self.port = port
        self.read_closed = False
        self.session = TcpSession(self, settings, pool, server_name)

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        settings = self.settings
        settings.connections += 1
        settings.connections_total += 1
        settings.touched = True
        session = self.session
        if session is not None:
            session.begin()

    def dataReceived(self, data: bytes) -> None:
        session = self.session
        if session is not None:
            session.from_client(data)

    def readConnectionLost(self) -> None:
        self.read_closed = True
        session = self.session
        if session is not None and session.relay is not None:
            session.relay.client_finished()

    def connectionLost(self, reason: Any) -> None:
        self.settings.connections -= 1
        self.settings.touched = True
        self.gate.closed()
        session = self.session
        if session is not None:
            session.client_lost(reason.value)
            self.session = None

    def listener_id(self) -> str:
        return self.settings.id

    def server_name(self) -> str:
        session = self.session
        return "" if session is None else session.server_name.decode("ascii")

    def backend_id(self) -> str:
        session = self.session
        backend = None if session is None else session.last_backend
        return "" if backend is None else backend.id

    def backend_connection(self) -> int:
        session = self.session
        relay = None if session is None else session.relay
        return 0 if relay is None else relay.backend.number

    def drain(self) -> None:
        """Nobody can tell whether it is idle: it stays until it ends, or until the deadline."""

    def cut_off(self) -> None:
        session = self.session
        if session is not None:
            session.stopped()
        self.transport.abortConnection()
