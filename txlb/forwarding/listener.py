"""The live object of one listener, whatever its protocol: who is trusted, what is counted, how it is served.

Rules:

* One per listener and worker; it keeps its identity and its counters across reloads.
* `configure` takes effect at once for what is under way too: connections and exchanges read their settings
  from here at their next step.
* ``unix:`` among the networks of ``trusted`` means the peers of UNIX sockets.
* Counters only grow, but for ``connections``; `txlb.forwarding.board` writes them down when ``touched``.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import mypyc_attr

from txlb.core.answers import Answers
from txlb.core.pool import Pool
from txlb.net.listener import Gate, Serving
from txlb.net.loop import Loop

if TYPE_CHECKING:
    from txlb.core.model import ListenerSpec, Snapshot
    from txlb.forwarding.access_log import AccessLog

UNIX: Final = "unix:"  # the address of clients that come through a UNIX socket: they have none


@mypyc_attr(allow_interpreted_subclasses=True)
class Listener:
    """What connections, exchanges and flows of one listener share."""

    id: str
    loop: Loop
    log: AccessLog
    trusted: list[Any]
    trusts_unix: bool
    draining: bool
    proxy_protocol: bool  # connections begin with a PROXY header
    client_header: float  # seconds until what a client begins with must be whole

    def __init__(self, id: str, loop: Loop, log: AccessLog) -> None:
        self.id = id
        self.loop = loop
        self.log = log
        self.trusted = []
        self.trusts_unix = False
        self.draining = False
        self.proxy_protocol = False
        self.client_header = 10.0
        # counters
        self.column = -1
        self.touched = True
        self.connections = 0
        self.connections_total = 0
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.errors: dict[int, int] = {}
        self.errors_client_abort = 0
        self.errors_client_timeout = 0
        self.errors_send_timeout = 0
        self.errors_internal = 0
        self.errors_proxy_protocol = 0
        self.errors_tls_handshake = 0
        self.errors_tls_timeout = 0
        self.errors_tls_client_certificate = 0
        self.errors_tls_crowded = 0
        self.errors_tls_plain_http = 0
        self.tls_full = 0
        self.tls_resumed = 0
        self.errors_client_hello = 0
        self.errors_unrecognized_name = 0
        self.cells: dict[str, dict[str, Answers]] = {}  # by rule, then by backend

    # Control speed

    def configure(self, spec: ListenerSpec, snapshot: Snapshot, pools: Mapping[str, Pool]) -> None:
        """Another generation; ``pools`` by rule id. Override it, and call it first."""
        self.trusted = [ip_network(network) for network in spec.trusted if network != UNIX]
        self.trusts_unix = UNIX in spec.trusted
        self.proxy_protocol = spec.proxy_protocol
        self.client_header = snapshot.timeouts.client_header

    def serve(self, gate: Gate, sock: Any) -> Serving:
        """Take clients from ``sock`` (bound, non-blocking, ours from now on) until `Serving.stop`."""
        raise NotImplementedError

    # Data speed

    def is_trusted(self, address: str) -> bool:
        """What the peer says of the client behind it is believed."""
        if address == UNIX:
            return self.trusts_unix
        if not self.trusted:
            return False
        parsed = ip_address(address)
        for network in self.trusted:
            if isinstance(network, (IPv4Network, IPv6Network)) and parsed in network:
                return True
        return False

    def client_behind(self, chain: bytes, peer: str) -> str:
        """The client that trusted peers forward for: the last address that is not trusted itself."""
        client = peer
        for item in reversed(chain.decode("latin-1").split(",")):
            try:
                client = str(ip_address(item.strip()))
            except ValueError:
                break
            if not self.is_trusted(client):
                break
        return client

    def count_error(self, status: int) -> None:
        """An answer of our own."""
        self.errors[status] = self.errors.get(status, 0) + 1

    def count_proxy_protocol_error(self) -> None:
        """A connection without the PROXY header that it needs."""
        self.errors_proxy_protocol += 1
        self.touched = True
