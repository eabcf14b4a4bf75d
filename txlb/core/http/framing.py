"""Chunked framing (RFC 9112 §7.1): validate strictly, pass on what was verified.

Rules:

* Chunk lines end in CRLF, sizes are 1…16 hex digits, below `MAX_SIZE`. Anything else is
  a defect, also a blank behind the size: a bare LF here is how requests are smuggled.
* Extensions are read (visible ASCII, space, tab; quotes closed on their line), bounded by
  `MAX_LINE` per line and `MAX_EXTENSIONS` per body, and never passed on.
* Trailer fields obey the rules of header fields, are bounded by ``max_trailer`` bytes, and
  lose those that a trailer must not carry (framing, routing, connection) and those in
  ``nominated``: what the head's Connection named. Transfer-Encoding there is a defect.
* ``decode`` returns the data alone: no sizes, no trailer.
* Time is linear in the bytes fed, however they are cut: nothing is scanned twice.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from txlb.core.http.fields import scan_fields
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

# where in an extension
PLAIN: Final = 0
QUOTED: Final = 1
ESCAPED: Final = 2

HEX: Final = bytes(int(chr(c), 16) if chr(c) in "0123456789abcdefABCDEF" else 255 for c in range(256))
EXTENSION_TEXT: Final = bytes(1 if c == 9 or 32 <= c < 127 else 0 for c in range(256))
END_OF_FIELDS: Final = b"\r\n\r\n"
FORBIDDEN_TRAILERS: Final = frozenset(
    (
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
        b"forwarded",
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
    nominated: set[bytes] | None
    _left: int
    _size: int
    _digits: int
    _line: int
    _extensions: int
    _within: int
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
        self.nominated = None
        self._left = 0
        self._size = 0
        self._digits = 0
        self._line = 0
        self._extensions = 0
        self._within = 0
        self._max_trailer = max_trailer
        self._max_fields = max_fields
        self._trailer = bytearray()

    def _fail(self, reason: str) -> bytes:
        self.state = DEFECT
        self.reason = reason
        return b""

    def _extend(self, c: int) -> bool:
        """One more byte of an extension; False = defect."""
        self._line += 1
        self._extensions += 1
        within = self._within
        if not EXTENSION_TEXT[c]:
            self._fail("malformed chunk extension")
            return False
        if self._line > MAX_LINE or self._extensions > MAX_EXTENSIONS:
            self._fail("chunk extensions too long")
            return False
        if within == ESCAPED:
            self._within = QUOTED
        elif c == 0x22:
            self._within = PLAIN if within == QUOTED else QUOTED
        elif c == 0x5C and within == QUOTED:
            self._within = ESCAPED
        return True

    def feed(self, data: bytes) -> bytes:
        """Read on. The bytes returned are verified and in order."""
        end: i64 = len(data)
        pos: i64 = 0
        copied: i64 = 0  # what lies before is in ``out`` or dropped
        out: list[bytes] | None = None
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
                    if self._size >= MAX_SIZE >> 4:
                        return self._fail("chunk too large")
                    self._size = self._size * 16 + digit
                elif self._digits == 0:
                    return self._fail("chunk without size")
                elif c == 13:
                    state = SIZE_LF
                elif c == 0x3B:
                    state = EXTENSION
                    if not self.decode:
                        if out is None:
                            out = []
                        out.append(data[copied:pos])
                    copied = pos
                    self._line = 0
                    self._within = PLAIN
                    continue
                else:
                    return self._fail("malformed chunk size")
            elif state == EXTENSION:
                if c == 13 and self._within == PLAIN:
                    state = SIZE_LF
                    copied = pos
                elif not self._extend(c):
                    return b""
            elif state == SIZE_LF:
                if c != 10:
                    return self._fail("chunk line without CRLF")
                self._left = self._size
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
        if state == EXTENSION or (self.decode and state != DATA):
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
        limit = self._max_trailer + len(END_OF_FIELDS)
        trailer += data[pos : pos + limit - before]
        fields = b""
        if trailer[:2] == b"\r\n":
            size = 2
        else:
            found = trailer.find(END_OF_FIELDS, max(0, before - 3))
            if found < 0:
                at = trailer.find(b"\n", before)
                while at >= 0:
                    if at == 0 or trailer[at - 1] != 13:
                        return self._fail("trailer line without CRLF")
                    at = trailer.find(b"\n", at + 1)
                if len(trailer) >= limit:
                    return self._fail("trailer too long")
                self.used = len(data)
                return b"".join(pieces)
            size = found + len(END_OF_FIELDS)
            fields = bytes(trailer[: found + 2])
            scanned = scan_fields(fields, self.request, self._max_fields)
            if scanned.refusal:
                return self._fail("trailer: " + scanned.reason)
            if scanned.coded:
                return self._fail("trailer: Transfer-Encoding")
            dropped = FORBIDDEN_TRAILERS
            if self.nominated is not None:
                dropped = dropped | self.nominated
            fields = without(fields, dropped)
        self.used = pos + size - before
        self.state = DONE
        if not self.decode:
            pieces.append(fields + b"\r\n")
        return b"".join(pieces)
