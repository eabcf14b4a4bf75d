"""Reading PROXY headers: who a connection is for, told by the proxy in front, before anything else.

Source: the PROXY protocol specification (haproxy.org, ``doc/proxy-protocol.txt``), §§2.1–2.2.

Rules:

* `HeaderReader` takes a header in any pieces; the verdict and the result do not depend on where it was cut,
  and each byte is looked at once. What begins like neither version is refused at its first wrong byte.
* `HeaderReader.used` says how many bytes of the last piece belong to the header: what follows is the
  client's.
* v1: at most 107 bytes with CRLF, exactly one space between fields, addresses and ports in their own
  spelling (no leading zeros, no zones). ``UNKNOWN`` may be followed by anything up to CRLF.
* v2: signature, version 2, command and family as specified (others are refused), at most `MAX_LENGTH` bytes
  after the first 16. TLVs must fill what is announced exactly; unknown ones are skipped; a CRC32c is
  verified.
* LOCAL, UNKNOWN, UNSPEC and UNIX tell of no client address: `ProxyHeader.source` is "" and the connection's
  own holds.
* An IPv4 address that came as IPv6 (``::ffff:1.2.3.4``) is an IPv4 address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from txlb.core.crc32c import crc32c

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
V1_PREFIX: Final = b"PROXY "
V1_MAX: Final = 107
UNKNOWN: Final = b"PROXY UNKNOWN"
MAX_LENGTH: Final = 4096  # of a v2 header after its first 16 bytes

MORE: Final = 0  # not whole yet
WHOLE: Final = 1
BAD: Final = 2

LOCAL: Final = 0x20
PROXY: Final = 0x21
INET: Final = 1
INET6: Final = 2
UNIX: Final = 3
ADDRESS_SIZES: Final = (0, 12, 36, 216)  # by family

TYPE_CRC32C: Final = 0x03


class ProxyHeader:
    """What a header said: the client's address and the one it connected to; "" and 0 where it did not say."""

    version: int
    source: str
    source_port: int
    destination: str
    destination_port: int

    def __init__(
        self, version: int, source: str, source_port: int, destination: str, destination_port: int
    ) -> None:
        self.version = version
        self.source = source
        self.source_port = source_port
        self.destination = destination
        self.destination_port = destination_port


class HeaderReader:
    """Reads one header; see the rules of the module."""

    header: ProxyHeader | None
    used: int
    data: bytearray
    size: int  # of a v2 header, once it is announced

    def __init__(self) -> None:
        self.header = None
        self.used = 0
        self.data = bytearray()
        self.size = 0

    def feed(self, piece: bytes) -> int:
        """`MORE`, `WHOLE` (`header` is set) or `BAD`."""
        data = self.data
        if not piece:
            self.used = 0
            return MORE
        if (data[0] if data else piece[0]) != SIGNATURE[0]:
            return self._line(piece)
        take = 0
        if self.size == 0:
            take = min(16 - len(data), len(piece))
            data += piece[:take]
            self.used = take
            if data[:12] != SIGNATURE[: len(data)]:
                return BAD
            if len(data) < 16:
                return MORE
            if not self._announced():
                return BAD
        rest = min(self.size - len(data), len(piece) - take)
        data += piece[take : take + rest]
        self.used = take + rest
        if len(data) < self.size:
            return MORE
        return self._binary()

    # -- version 1 --------------------------------------------------------------------------

    def _line(self, piece: bytes) -> int:
        data = self.data
        before = len(data)
        found = piece.find(b"\n", 0, V1_MAX - before)
        take = min(len(piece), V1_MAX - before) if found < 0 else found + 1
        self.used = take
        data += piece[:take]
        if data[:6] != V1_PREFIX[: len(data)]:
            return BAD
        if found < 0:
            return BAD if len(data) >= V1_MAX else MORE
        self.header = parse_line(bytes(data))
        return BAD if self.header is None else WHOLE

    # -- version 2 --------------------------------------------------------------------------

    def _announced(self) -> bool:
        """16 bytes are here: whether they may stand so, and `size`."""
        data = self.data
        command = data[12]
        family = data[13] >> 4
        length = data[14] << 8 | data[15]
        if length > MAX_LENGTH or (command != LOCAL and command != PROXY):
            return False
        if command == PROXY and (family > UNIX or data[13] & 15 > 2 or length < ADDRESS_SIZES[family]):
            return False
        self.size = 16 + length
        return True

    def _binary(self) -> int:
        data = bytes(self.data)
        self.header = ProxyHeader(2, "", 0, "", 0)
        if data[12] == LOCAL:
            return WHOLE  # whatever else it says does not count
        family = data[13] >> 4
        if not tlvs_hold(data, 16 + ADDRESS_SIZES[family]):
            self.header = None
            return BAD
        if data[13] & 15 == 0:
            return WHOLE  # of an unknown kind of connection
        if family == INET:
            source = str(IPv4Address(data[16:20]))
            destination = str(IPv4Address(data[20:24]))
            ports = 24
        elif family == INET6:
            source = unmapped(IPv6Address(data[16:32]))
            destination = unmapped(IPv6Address(data[32:48]))
            ports = 48
        else:
            return WHOLE
        source_port = data[ports] << 8 | data[ports + 1]
        destination_port = data[ports + 2] << 8 | data[ports + 3]
        self.header = ProxyHeader(2, source, source_port, destination, destination_port)
        return WHOLE


def parse_line(line: bytes) -> ProxyHeader | None:
    """A v1 line, up to and with its first LF; None if it is not one."""
    if len(line) > V1_MAX or not line.endswith(b"\r\n"):
        return None
    if line == UNKNOWN + b"\r\n" or line.startswith(UNKNOWN + b" "):
        return ProxyHeader(1, "", 0, "", 0)
    fields = line[:-2].decode("latin-1").split(" ")
    if len(fields) != 6 or fields[0] != "PROXY" or not line.isascii():
        return None
    source_port = _port(fields[4])
    destination_port = _port(fields[5])
    if source_port < 0 or destination_port < 0:
        return None
    try:
        if fields[1] == "TCP4":
            source = str(IPv4Address(fields[2]))
            destination = str(IPv4Address(fields[3]))
        elif fields[1] == "TCP6" and "%" not in fields[2] and "%" not in fields[3]:
            source = unmapped(IPv6Address(fields[2]))
            destination = unmapped(IPv6Address(fields[3]))
        else:
            return None
    except ValueError:
        return None
    return ProxyHeader(1, source, source_port, destination, destination_port)


def _port(text: str) -> int:
    """The port, or -1."""
    if not text.isascii() or not text.isdigit() or len(text) > 5 or (text[0] == "0" and text != "0"):
        return -1
    port = int(text)
    return port if port <= 65535 else -1


def unmapped(address: IPv6Address) -> str:
    """As text; one that means IPv4 as IPv4."""
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else str(mapped)


def tlvs_hold(data: bytes, start: int) -> bool:
    """The TLVs from ``start`` on fill the header exactly, and its checksum, if there is one, is right."""
    end = len(data)
    while start < end:
        if end - start < 3:
            return False
        value = start + 3
        after = value + (data[start + 1] << 8 | data[start + 2])
        if after > end:
            return False
        if data[start] == TYPE_CRC32C:
            if after - value != 4:
                return False
            told = int.from_bytes(data[value:after], "big")
            if crc32c(data[:value] + bytes(4) + data[after:]) != told:
                return False
        start = after
    return True
