"""A client's connection, and one to a backend, as the plane sees them whatever the protocol.

Rules:

* `drain` is asked once, when txlb stops: what is idle closes now, what is busy closes when it is done.
* `cut_off` ends whatever is left, at once.
* `announcement` is the PROXY header for backends that want one: made once, and again only for another client
  behind this one.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.core.backend import Backend
from txlb.core.proxy_announcement import Announced, TlsFacts, announce
from txlb.net.tls import TlsTransport
from txlb.net.transport import StreamProtocol

COMMON_NAME: Final = "2.5.4.3"


class Announcement:
    """A header, and what it was made for."""

    version: int
    ip: str
    header: bytes

    def __init__(self, version: int, ip: str, header: bytes) -> None:
        self.version = version
        self.ip = ip
        self.header = header


def facts_of(tls: Any, certificate: Any) -> TlsFacts:
    """Of an OpenSSL connection after its handshake."""
    name: bytes | None = tls.get_servername()
    facts = TlsFacts(
        tls.get_protocol_version_name(),
        tls.get_cipher_name() or "",
        "" if name is None else name.decode("latin-1"),
        tls.get_alpn_proto_negotiated(),
    )
    if certificate is not None:
        facts.certificate = True
        facts.verified = True
        facts.common_name = common_name(certificate)
    return facts


def common_name(certificate: Any) -> str:
    """The first in its subject; "" = none."""
    for one in certificate.subject:
        if one.oid.dotted_string == COMMON_NAME:
            return str(one.value)
    return ""


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientProtocol(StreamProtocol):
    """Base of what listeners put on accepted connections."""

    ip: str
    port: int
    announced: Announcement | None
    certificate: Any  # of the client: verified, as `cryptography` knows it
    __slots__ = tuple(__annotations__)

    def __init__(self) -> None:
        super().__init__()
        self.announced = None
        self.certificate = None

    def listener_id(self) -> str:
        """The listener it came in by."""
        raise NotImplementedError

    def backend_id(self) -> str:
        """The backend that serves it now; "" = none."""
        raise NotImplementedError

    def backend_connection(self) -> int:
        """The number of the connection to it; 0 = none."""
        return 0

    def session_id(self) -> str:
        """The session that it belongs to; "" = none."""
        return ""

    def drain(self) -> None:
        """txlb stops."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """The end of a shutdown: whatever is not finished is given up."""
        raise NotImplementedError

    def introduced(self, realm: str, certificate: Any) -> None:
        """Before `makeConnection`: the client came over TLS, with or without a (verified) certificate."""
        self.certificate = certificate

    def tls_facts(self) -> TlsFacts | None:
        """What is known of the client's TLS; None without."""
        transport = self.transport
        if not isinstance(transport, TlsTransport):
            return None
        return facts_of(transport.tls, self.certificate)

    def server_name(self) -> str:
        """What it asked for by TLS that is not ended here; "" = unknown."""
        return ""

    def announcement(self, version: int, ip: str) -> bytes:
        """The PROXY header of a backend connection for ``ip``: this client, or one behind it."""
        made = self.announced
        if made is not None and made.ip == ip and made.version == version:
            return made.header
        host, port = self.transport.local_address()
        own_port = self.port if ip == self.ip else 0  # nobody told the port of a client behind
        who = Announced(ip, own_port, host, port, self.tls_facts(), self.server_name())
        header = announce(version, who)
        self.announced = Announcement(version, ip, header)
        return header


@mypyc_attr(allow_interpreted_subclasses=True)
class BackendProtocol(StreamProtocol):
    """Base of what is spoken on connections to backends."""

    backend: Backend
    __slots__ = tuple(__annotations__)

    def cut_off(self) -> None:
        """The end of a drain: what it still carries is given up."""
        raise NotImplementedError
