"""Reading a TLS ClientHello just far enough to know which server it asks for.

Source: RFC 8446 §§4.1.2, 4.2, 5.1 and RFC 6066 §3; the same in every version since SSL 3.

Rules:

* `HelloReader` takes the client's first bytes in any pieces, over any number of records; the verdict and
  the name do not depend on where they were cut, and each byte is looked at once.
* ``raw`` keeps every byte fed, so that they can be passed on as they came. It is bounded: a ClientHello is
  at most `MAX_MESSAGE` bytes, its records at most `MAX_RAW`.
* Everything up to the end of the extensions must have the shape of a ClientHello; what is in them, but for
  the server name, is nobody's business here: GREASE, unknown and unknown-to-us extensions are passed over.
* Anything else is refused at the first byte that tells: other protocols, SSL 2 hellos, alerts, empty
  records.
* Without a server name extension ``server_name`` is "". A name is in lower case; one that is no DNS name
  (controls, spaces, beyond ASCII), an empty one, or a second one is refused.
"""

from __future__ import annotations

import re
from typing import Final

MORE: Final = 0  # not whole yet
WHOLE: Final = 1
BAD: Final = 2

MAX_MESSAGE: Final = 32768
MAX_RAW: Final = 65536
MAX_RECORD: Final = 16384
HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1
SERVER_NAME: Final = 0
HOST_NAME: Final = 0
#: Fatal alert unrecognized_name (112), as a record.
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"
NAME: Final = re.compile(rb"[A-Za-z0-9_.-]{1,255}")


class HelloReader:
    """Reads one ClientHello; see the rules of the module."""

    server_name: bytes
    raw: bytearray
    message: bytearray  # the handshake message so far, without record headers
    size: int  # of the message, once it is announced
    header: bytearray  # of the current record, as far as it is here
    left: int  # bytes of the current record still to come

    def __init__(self) -> None:
        self.server_name = b""
        self.raw = bytearray()
        self.message = bytearray()
        self.size = 0
        self.header = bytearray()
        self.left = 0

    def feed(self, piece: bytes) -> int:
        """`MORE`, `WHOLE` (``server_name`` is known) or `BAD`."""
        self.raw += piece
        at = 0
        end = len(piece)
        while at < end:
            if self.left == 0:
                take = min(5 - len(self.header), end - at)
                self.header += piece[at : at + take]
                at += take
                verdict = self._record()
            else:
                take = min(self.left, end - at)
                self.message += piece[at : at + take]
                self.left -= take
                at += take
                verdict = self._message()
            if verdict != MORE:
                return verdict
        return BAD if len(self.raw) >= MAX_RAW else MORE

    def _record(self) -> int:
        """More of a record's header."""
        header = self.header
        if header[0] != HANDSHAKE or (len(header) > 1 and header[1] != 3):
            return BAD
        if len(header) == 5:
            self.left = header[3] << 8 | header[4]
            if self.left == 0 or self.left > MAX_RECORD:
                return BAD
            header.clear()
        return MORE

    def _message(self) -> int:
        """More of the message."""
        message = self.message
        if message[0] != CLIENT_HELLO:
            return BAD
        if self.size == 0:
            if len(message) < 4:
                return MORE
            self.size = 4 + (message[1] << 16 | message[2] << 8 | message[3])
            if self.size > MAX_MESSAGE:
                return BAD
        if len(message) < self.size:
            return MORE
        name = server_name(bytes(message[4 : self.size]))
        if name is None:
            return BAD
        self.server_name = name
        return WHOLE


def server_name(hello: bytes) -> bytes | None:
    """The server name in the body of a ClientHello, b"" without one; None if it is malformed."""
    end = len(hello)
    at = _after(hello, 34, 1)  # version and random, session id
    at = _after(hello, at, 2)  # cipher suites
    at = _after(hello, at, 1)  # compression methods
    if at < 0 or at == end:
        return None if at < 0 else b""
    if _after(hello, at, 2) != end:
        return None
    at += 2
    name = b""
    seen = False
    while at < end:
        after = _after(hello, at + 2, 2)
        if after < 0:
            return None
        if hello[at] << 8 | hello[at + 1] == SERVER_NAME:
            found = _host_name(hello[at + 4 : after])
            if found is None or seen:
                return None
            seen = True
            name = found
        at = after
    return name


def _after(data: bytes, at: int, width: int) -> int:
    """Where a vector ends whose length stands at ``at``, in ``width`` bytes; -1: beyond the data."""
    start = at + width
    if at < 0 or start > len(data):
        return -1
    size = data[at] if width == 1 else data[at] << 8 | data[at + 1]
    return start + size if start + size <= len(data) else -1


def _host_name(extension: bytes) -> bytes | None:
    """The one name in a server name extension."""
    if _after(extension, 0, 2) != len(extension) or len(extension) < 5 or extension[2] != HOST_NAME:
        return None
    if _after(extension, 3, 2) != len(extension):
        return None
    name = extension[5:]
    return name.lower() if NAME.fullmatch(name) else None
