"""Writing PROXY headers: what a backend is told of the client before the first byte of the connection.

Source: the PROXY protocol specification (haproxy.org, ``doc/proxy-protocol.txt``), §§2.1–2.2.

Rules:

* What `announce` writes, `txlb.core.proxy_protocol` and every other receiver read back.
* Client and destination of different families are both written as IPv6 (IPv4 as ``::ffff:…``). A client
  without an address (a UNIX socket) is UNKNOWN in v1 and UNSPEC in v2.
* v2 ends with a CRC32c; where the client came over TLS, it says so: version, cipher, whether a client
  certificate was there and verified, its common name, the server name asked for (AUTHORITY) and ALPN. v1
  has no room for that.
* A connection of our own (a health check) is UNKNOWN in v1 and LOCAL in v2: it speaks for nobody.
* A text that would not fit is cut to `MAX_TEXT` bytes: a header is never longer than 1.5 KiB.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from txlb.core.crc32c import crc32c
from txlb.core.proxy_protocol import LOCAL, PROXY, SIGNATURE, TYPE_CRC32C, UNKNOWN

MAX_TEXT: Final = 256
TCP: Final = 1
TYPE_ALPN: Final = 0x01
TYPE_AUTHORITY: Final = 0x02
TYPE_SSL: Final = 0x20
SUBTYPE_VERSION: Final = 0x21
SUBTYPE_CN: Final = 0x22
SUBTYPE_CIPHER: Final = 0x23
CLIENT_SSL: Final = 0x01
CLIENT_CERT: Final = 0x06  # on this connection, and in its session


class TlsFacts:
    """What is known of the client's TLS."""

    version: str  # "TLSv1.3"
    cipher: str
    server_name: str  # asked for by the client; "" = none
    alpn: bytes
    certificate: bool  # the client showed one
    verified: bool  # and it was verified
    common_name: str  # of its subject

    def __init__(self, version: str, cipher: str = "", server_name: str = "", alpn: bytes = b"") -> None:
        self.version = version
        self.cipher = cipher
        self.server_name = server_name
        self.alpn = alpn
        self.certificate = False
        self.verified = False
        self.common_name = ""


class Announced:
    """For whom a backend connection is opened."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    tls: TlsFacts | None
    authority: str  # the server name that the client asked for, where TLS is passed through; "" = unknown

    def __init__(
        self,
        source: str,
        source_port: int,
        destination: str,
        destination_port: int,
        tls: TlsFacts | None = None,
        authority: str = "",
    ) -> None:
        self.source = source
        self.source_port = source_port
        self.destination = destination
        self.destination_port = destination_port
        self.tls = tls
        self.authority = authority


def announce(version: int, who: Announced) -> bytes:
    """The header for a connection on behalf of ``who``."""
    source = _address(who.source)
    destination = _address(who.destination)
    if source is None:
        return UNKNOWN + b"\r\n" if version == 1 else _binary(PROXY, 0, b"", _facts(who))
    if destination is None:
        destination = IPv4Address(0) if source.version == 4 else IPv6Address(0)
    if source.version != destination.version:
        source = _as_ipv6(source)
        destination = _as_ipv6(destination)
    family: int = source.version
    if version == 1:
        ports = f"{who.source_port} {who.destination_port}"
        return f"PROXY TCP{family} {_spelled(source)} {_spelled(destination)} {ports}\r\n".encode("ascii")
    addresses = b"".join(
        (
            source.packed,
            destination.packed,
            who.source_port.to_bytes(2, "big"),
            who.destination_port.to_bytes(2, "big"),
        )
    )
    return _binary(PROXY, (0x10 if family == 4 else 0x20) | TCP, addresses, _facts(who))


def announce_nobody(version: int) -> bytes:
    """The header of a connection of our own."""
    return UNKNOWN + b"\r\n" if version == 1 else _binary(LOCAL, 0, b"", b"")


def _address(text: str) -> Any:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _as_ipv6(address: Any) -> Any:
    return IPv6Address(bytes(10) + b"\xff\xff" + address.packed) if address.version == 4 else address


def _spelled(address: Any) -> str:
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def _text(kind: int, text: str) -> bytes:
    """Nothing for nothing; whole characters only."""
    raw = text.encode("utf-8", "replace")[:MAX_TEXT]
    return _tlv(kind, raw.decode("utf-8", "ignore").encode("utf-8")) if raw else b""


def _facts(who: Announced) -> bytes:
    tls = who.tls
    if tls is None:
        return _text(TYPE_AUTHORITY, who.authority)
    client = CLIENT_SSL | (CLIENT_CERT if tls.certificate else 0)
    verify = 0 if tls.verified else 1
    ssl = bytes((client,)) + verify.to_bytes(4, "big") + _text(SUBTYPE_VERSION, tls.version)
    ssl += _text(SUBTYPE_CN, tls.common_name) + _text(SUBTYPE_CIPHER, tls.cipher)
    alpn = _tlv(TYPE_ALPN, tls.alpn[:MAX_TEXT]) if tls.alpn else b""
    return alpn + _text(TYPE_AUTHORITY, tls.server_name) + _tlv(TYPE_SSL, ssl)


def _binary(command: int, family: int, addresses: bytes, tlvs: bytes) -> bytes:
    length = len(addresses) + len(tlvs) + 7
    start = SIGNATURE + bytes((command, family)) + length.to_bytes(2, "big") + addresses + tlvs
    start += bytes((TYPE_CRC32C, 0, 4))
    return start + crc32c(start + bytes(4)).to_bytes(4, "big")
