"""A client's connection, as the plane sees it whatever the protocol.

Rules:

* `drain` is asked once, when txlb stops: what is idle closes now, what is busy closes when it is done.
* `cut_off` ends whatever is left, at once.
* `announcement` is the PROXY header for backends that want one: made once, and again only for another client
  behind this one.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from txlb.core.proxy_announcement import Announced, TlsFacts, announce
from txlb.net.transport import StreamProtocol


class Announcement:
    """A header, and what it was made for."""

    version: int
    ip: str
    header: bytes

    def __init__(self, version: int, ip: str, header: bytes) -> None:
        self.version = version
        self.ip = ip
        self.header = header


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientProtocol(StreamProtocol):
    """Base of what listeners put on accepted connections."""

    ip: str
    port: int
    announced: Announcement | None = None

    def listener_id(self) -> str:
        """The listener it came in by."""
        raise NotImplementedError

    def backend_id(self) -> str:
        """The backend that serves it now; "" = none."""
        raise NotImplementedError

    def drain(self) -> None:
        """txlb stops."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """The end of a shutdown: whatever is not finished is given up."""
        raise NotImplementedError

    def tls_facts(self) -> TlsFacts | None:
        """What is known of the client's TLS; None without."""
        return None

    def announcement(self, version: int, ip: str) -> bytes:
        """The PROXY header of a backend connection for ``ip``: this client, or one behind it."""
        made = self.announced
        if made is not None and made.ip == ip and made.version == version:
            return made.header
        host, port = self.transport.local_address()
        own_port = self.port if ip == self.ip else 0  # nobody told the port of a client behind
        header = announce(version, Announced(ip, own_port, host, port, self.tls_facts()))
        self.announced = Announcement(version, ip, header)
        return header
