"""Chunked framing (RFC 9112 §7.1): validate strictly, pass on what was verified.

Rules:

* Chunk lines end in CRLF, sizes are 1…16 hex digits, at most `MAX_SIZE`. Anything else is
  a defect: a bare LF here is how requests are smuggled.
* Extensions are read (visible ASCII, space, tab), bounded by `MAX_LINE` per line and
  `MAX_EXTENSIONS` per body, and never passed on.
* Trailer fields obey the rules of header fields, are bounded by ``max_trailer`` bytes, and
  lose those that a trailer must not carry (framing, routing, connection).
* Time is linear in the bytes fed, however they are cut: nothing is scanned twice.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from txlb.core.http.fields import FIELD_VALUE, scan_fields
from txlb.core.http.forward import without

MAX_LINE: Final = 256
MAX_EXTENSIONS: Final = 16384
MAX_SIZE: Final = 1 << 60

SIZE: Final = 0
EXTENSION: Final = 1
SIZE_LF: Final = 2
DATA: Final = 3
DATA_CR: Final = 4
DATA_LF: Final = 5
TRAILER: Final = 6
DONE: Final = 7
DEFECT: Final = 8

HEX: Final = bytes(
    c - 48 if 48 <= c <= 57 else c - 55 if 65 <= c <= 70 else c - 87 if 97 <= c <= 102 else 255 for c in range(256)
)
FORBIDDEN_TRAILERS: Final = frozenset(
    (
        b"transfer-encoding",
        b"content-length",
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"expect",
        b"max-forwards",
        b"cache-control",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"authorization",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"www-authenticate",
        b"set-cookie",
        b"cookie",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
    )
)


class ChunkedReader:
    """Reads one chunked body as it arrives.

    `feed` returns what may be passed on; ``used`` tells how much of its input belonged to
    the body, ``state`` whether it is `DONE` or a `DEFECT` (then ``reason`` says which).
    """

    state: int
    used: int
    reason: str
    body_size: int
    decode: bool
    request: bool
    _left: int
    _size: int
    _digits: int
    _line: int
    _extensions: int
    _max_trailer: int
    _max_fields: int
    _trailer: bytearray

    def __init__(self, decode: bool, request: bool, max_trailer: int, max_fields: int) -> None:
        """``decode``: return the data alone, without framing (for HTTP/1.0 clients)."""
        self.state = SIZE
        self.used = 0
        self.reason = ""
        self.body_size = 0
        self.decode = decode
        self.request = request
        self._left = 0
        self._size = 0
        self._digits = 0
        self._line = 0
        self._extensions = 0
        self._max_trailer = max_trailer
        self._max_fields = max_fields
        self._trailer = bytearray()

    def _fail(self, reason: str) -> bytes:
        self.state = DEFECT
        self.reason = reason
        return b""

    def feed(self, data: bytes) -> bytes:
        """Read on. The bytes returned are verified and in order."""
        end: i64 = len(data)
        pos: i64 = 0
        copied: i64 = 0  # what lies before is in ``out`` or dropped
        out: list[bytes] | None = None
        values = FIELD_VALUE
        state = self.state
        while pos < end and state < TRAILER:
            if state == DATA:
                left: i64 = self._left
                take: i64 = end - pos
                if take > left:
                    take = left
                pos += take
                self.body_size += take
                self._left = left - take
                if self._left:
                    break
                state = DATA_CR
                if self.decode:
                    if out is None:
                        out = []
                    out.append(data[copied:pos])
                continue
            c: i64 = data[pos]
            if state == SIZE:
                digit: i64 = HEX[c]
                if digit != 255:
                    self._digits += 1
                    if self._digits > 16:
                        return self._fail("chunk size too long")
                    self._size = self._size * 16 + digit
                elif self._digits == 0:
                    return self._fail("chunk without size")
                elif c == 13:
                    state = SIZE_LF
                elif c == 0x3B or c == 0x20 or c == 9:
                    # Blanks may stand only before an extension (BWS, RFC 9112 §7.1.1).
                    state = EXTENSION
                    if not self.decode:
                        if out is None:
                            out = []
                        out.append(data[copied:pos])
                    copied = pos
                    self._line = 1 if c == 0x3B else 0
                    self._extensions += 1
                else:
                    return self._fail("malformed chunk size")
            elif state == EXTENSION:
                self._extensions += 1
                if c == 13:
                    if self._line == 0:
                        return self._fail("blank after chunk size")
                    state = SIZE_LF
                    copied = pos
                elif not values[c] or (self._line == 0 and c != 0x3B and c != 0x20 and c != 9):
                    return self._fail("malformed chunk extension")
                else:
                    if self._line or c == 0x3B:
                        self._line += 1
                    if self._line > MAX_LINE or self._extensions > MAX_EXTENSIONS:
                        return self._fail("chunk extensions too long")
            elif state == SIZE_LF:
                if c != 10:
                    return self._fail("chunk line without CRLF")
                self._left = self._size
                if self._size > MAX_SIZE:
                    return self._fail("chunk too large")
                state = DATA if self._size else TRAILER
                if self.decode:
                    copied = pos + 1
                self._size = 0
                self._digits = 0
            elif state == DATA_CR:
                if c != 13:
                    return self._fail("chunk longer than its size")
                state = DATA_LF
            else:
                if c != 10:
                    return self._fail("chunk longer than its size")
                state = SIZE
                if self.decode:
                    copied = pos + 1
            pos += 1
        self.state = state
        if state == TRAILER and pos < end:
            return self._feed_trailer(data, pos, copied, out)
        self.used = pos
        if state == EXTENSION or (self.decode and state != DATA and state != DATA_CR):
            rest = b""
        elif self.decode and state == DATA_CR:
            rest = b""
        elif copied == 0 and pos == len(data):
            rest = data
        else:
            rest = data[copied:pos]
        if out is None:
            return rest
        out.append(rest)
        return b"".join(out)

    def _feed_trailer(self, data: bytes, pos: int, copied: int, out: list[bytes] | None) -> bytes:
        pieces = [] if out is None else out
        if not self.decode:
            pieces.append(data[copied:pos])
        trailer = self._trailer
        before = len(trailer)
        # Only as much as may belong to it: what follows is the next message.
        room = self._max_trailer + 4 - before
        taken = data[pos : pos + room]
        trailer += taken
        if trailer[:2] == b"\r\n":
            size = 2
            fields = b""
        else:
            found = trailer.find(b"\r\n\r\n", max(0, before - 3))
            if found < 0:
                if len(trailer) > self._max_trailer:
                    return self._fail("trailer too long")
                if trailer.find(b"\n", max(0, before - 1)) >= 0 and trailer.count(b"\n") != trailer.count(b"\r\n"):
                    return self._fail("trailer line without CRLF")
                self.used = pos + len(taken)
                return b"".join(pieces)
            size = found + 4
            fields = bytes(trailer[: found + 2])
        if fields:
            scanned = scan_fields(fields, self.request, self._max_fields)
            if scanned.refusal and scanned.reason.startswith(("malformed", "too many", "field line")):
                return self._fail("trailer: " + scanned.reason)
            fields = without(fields, FORBIDDEN_TRAILERS)
        self.used = pos + size - before
        self.state = DONE
        if not self.decode:
            pieces.append(fields + b"\r\n")
        return b"".join(pieces)
