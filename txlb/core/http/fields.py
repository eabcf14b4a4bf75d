"""Header fields: one strict pass over a field block.

Rules (RFC 9110 §5, RFC 9112 §5; where a recipient may choose, the strict choice):

* Lines end in CRLF. A bare CR, a bare LF, NUL or any other control but HTAB, a folded
  line, space before the colon and an empty name are refused, never repaired.
* Field names are tokens. In requests "_" is refused too: CGI-style servers read it as
  "-", so ``Content_Length`` would be two things.
* What decides framing and routing is read here, once: Host, Content-Length,
  Transfer-Encoding, Connection, Upgrade, Expect, Max-Forwards. Host, Expect and
  Max-Forwards mean nothing in answers and are not looked at there.
* Content-Length is one field of 1…18 digits. Nothing comes after chunked; empty list
  elements and tabs in Transfer-Encoding are refused, for others read something else there.
  Other codings than chunked are noted (``foreign_coding``), for nobody here decodes them.
* Framing fields not written as everybody writes them (another blank than one space,
  leading zeros, ``Chunked``) are valid but written anew (``restated``): no later parser is
  to find another number in them.
* Fields that end at this hop (Connection and all that it nominates, Keep-Alive,
  Proxy-Connection, TE, Upgrade) and fields that txlb writes itself are collected in
  ``cuts`` and never forwarded. What frames or routes the message cannot be nominated.
* More than ``max_fields`` lines are 431; what follows them is not read.
* A refusal is a value (`Fields.refusal`, an HTTP status for requests), not an exception.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

_TOKEN: Final = b"!#$%&'*+-.^`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
REQUEST_NAME: Final = bytes(1 if c in _TOKEN else 0 for c in range(256))
RESPONSE_NAME: Final = bytes(1 if c in _TOKEN or c == 0x5F else 0 for c in range(256))
FIELD_VALUE: Final = bytes(1 if c == 9 or (c >= 32 and c != 127) else 0 for c in range(256))
MAX_LENGTH_DIGITS: Final = 18

# Names that mean something at this hop; the byte loop below sends only plausible ones here.
OTHER: Final = 0
CONNECTION: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
HOP: Final = 4
UPGRADE: Final = 5
HOST: Final = 6  # this and the following: in requests only
EXPECT: Final = 7
MAX_FORWARDS: Final = 8
VIA: Final = 9
FORWARDED_FOR: Final = 10
FORWARDED_PROTO: Final = 11
FORWARDED_HOST: Final = 12
KINDS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"keep-alive": HOP,
    b"proxy-connection": HOP,
    b"te": HOP,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"max-forwards": MAX_FORWARDS,
    b"via": VIA,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-forwarded-host": FORWARDED_HOST,
}
# Never taken out because Connection nominates them: without them the message changes meaning.
KEPT: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"close", b"keep-alive"))
# First letters (lower case) of the names above, by name length.
_PLAUSIBLE: Final[dict[int, bytes]] = {
    2: b"t",
    3: b"v",
    4: b"h",
    6: b"e",
    7: b"u",
    10: b"ck",
    12: b"m",
    14: b"c",
    15: b"x",
    16: b"px",
    17: b"tx",
}
PLAUSIBLE: Final = bytes(
    1 if bytes((n & 0xFF,)).lower() in _PLAUSIBLE.get(n >> 8, b"") else 0 for n in range(32 << 8)
)


class Fields:
    """One verified field block and what it says about its message."""

    block: bytes
    cuts: list[int]
    count: int
    refusal: int
    reason: str
    host: bytes
    hosts: int
    normal_host: bytes | None
    content_length: int
    chunked: bool
    coded: bool
    foreign_coding: bool
    restated: bytes
    close: bool
    keep_alive: bool
    upgrade: bool
    upgrade_to: bytes
    expect_continue: bool
    expect_other: bool
    max_forwards: int
    via: bool
    forwarded_for: bytes
    forwarded_proto: bytes
    forwarded_host: bytes
    claims_identity: bool  # has X-SSL-Client-*
    nominated: set[bytes] | None
    forward: bytes | None

    def __init__(self, block: bytes) -> None:
        self.block = block
        self.cuts = []
        self.count = 0
        self.refusal = 0
        self.reason = ""
        self.host = b""
        self.hosts = 0
        self.normal_host = None
        self.content_length = -1
        self.chunked = False
        self.coded = False
        self.foreign_coding = False
        self.restated = b""
        self.close = False
        self.keep_alive = False
        self.upgrade = False
        self.upgrade_to = b""
        self.expect_continue = False
        self.expect_other = False
        self.max_forwards = -1
        self.via = False
        self.forwarded_for = b""
        self.forwarded_proto = b""
        self.forwarded_host = b""
        self.claims_identity = False
        self.nominated = None
        self.forward = None

    def refuse(self, status: int, reason: str) -> None:
        """Note the first reason not to accept this block."""
        if not self.refusal:
            self.refusal = status
            self.reason = reason

    def kept(self) -> bytes:
        """The block without what ends at this hop, framing in its plain form."""
        cuts = self.cuts
        if not cuts:
            return self.block
        block = self.block
        pieces: list[bytes] = []
        at = 0
        for index in range(0, len(cuts), 2):
            if cuts[index] > at:
                pieces.append(block[at : cuts[index]])
            at = cuts[index + 1]
        pieces.append(block[at:])
        pieces.append(self.restated)
        return b"".join(pieces)

    def get(self, name: bytes) -> bytes | None:
        """The values of a field (lower-case name), joined as RFC 9110 §5.3 and, for Cookie, RFC 9113
        §8.2.3 have it; None if absent."""
        found: list[bytes] = []
        for line in self.block.split(b"\r\n"):
            colon = line.find(b":")
            if colon == len(name) and line[:colon].lower() == name:
                found.append(line[colon + 1 :].strip(b" \t"))
        if not found:
            return None
        return (b"; " if name == b"cookie" else b", ").join(found)


def scan_fields(block: bytes, request: bool, max_fields: int) -> Fields:
    """Verify ``block`` (lines, each with its CRLF) and read what matters at this hop.

    ``request``: the stricter names of requests, and X-Forwarded-* are ours to write.
    More than ``max_fields`` lines is 431.
    """
    fields = Fields(block)
    names = REQUEST_NAME if request else RESPONSE_NAME
    values = FIELD_VALUE
    plausible = PLAUSIBLE
    size = len(block)
    if size == 0:
        return fields
    if block[size - 1] != 10:
        fields.refuse(400, "field line without CRLF")
        return fields
    end: i64 = size
    pos: i64 = 0
    count: i64 = 0
    limit: i64 = max_fields
    while pos < end:
        start: i64 = pos
        c: i64 = block[pos]
        first: i64 = c
        while names[c]:
            pos += 1
            c = block[pos]
        length: i64 = pos - start
        if c != 0x3A or length == 0:
            fields.refuse(400, "malformed field name")
            return fields
        pos += 1
        value: i64 = pos
        c = block[pos]
        while values[c]:
            pos += 1
            c = block[pos]
        if c != 13 or block[pos + 1] != 10:
            fields.refuse(400, "malformed field value")
            return fields
        stop: i64 = pos
        pos += 2
        count += 1
        if count > limit:
            fields.refuse(431, "too many fields")
            return fields
        if length < 18 and plausible[(length << 8) + first]:
            kind = KINDS.get(block[start : start + length].lower(), OTHER)
            if kind != OTHER:
                if kind >= HOST:
                    if not request:
                        continue
                    if kind >= FORWARDED_FOR:
                        fields.cuts += [start, pos]
                _note(fields, kind, block[value:stop].strip(b" \t"), start, pos)
                if fields.refusal:
                    return fields
        if length > 13 and (first == 0x78 or first == 0x58) and request:
            if block[start : start + 13].lower() == b"x-ssl-client-":
                fields.claims_identity = True
    fields.count = count
    if fields.nominated is not None:
        _cut_nominated(fields)
    return fields


def _note(fields: Fields, kind: int, value: bytes, start: int, end: int) -> None:
    if kind == HOST:
        fields.hosts += 1
        fields.host = value
    elif kind == CONNECTION:
        fields.cuts += [start, end]
        _note_connection(fields, value)
    elif kind == CONTENT_LENGTH:
        if fields.content_length >= 0:
            fields.refuse(400, "more than one Content-Length")
        elif not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
            fields.refuse(400, "invalid Content-Length")
        else:
            fields.content_length = int(value)
            plain = end - start == len(value) + 18 and fields.block[start + 15] == 0x20
            if not plain or (value[0] == 0x30 and len(value) > 1):
                _restate(fields, start, end, b"Content-Length: %d\r\n" % fields.content_length)
    elif kind == TRANSFER_ENCODING:
        _note_coding(fields, value)
        raw = fields.block[start + 18 : end - 2]
        if b"\t" in raw:
            fields.refuse(400, "tab in Transfer-Encoding")
        elif raw != b" chunked":
            _restate(fields, start, end, b"Transfer-Encoding: chunked\r\n")
    elif kind == HOP:
        fields.cuts += [start, end]
    elif kind == UPGRADE:
        fields.cuts += [start, end]
        fields.upgrade_to = fields.upgrade_to + b"," + value.lower() if fields.upgrade_to else value.lower()
    elif kind == EXPECT:
        if value.lower() == b"100-continue" and not fields.expect_continue:
            fields.expect_continue = True
        else:
            fields.expect_other = True
    elif kind == MAX_FORWARDS:
        if fields.max_forwards >= 0 or not value.isdigit() or len(value) > 9:
            fields.refuse(400, "invalid Max-Forwards")
        else:
            fields.max_forwards = int(value)
    elif kind == VIA:
        fields.via = True
    elif kind == FORWARDED_FOR:
        fields.forwarded_for = _joined(fields.forwarded_for, value)
    elif kind == FORWARDED_PROTO:
        fields.forwarded_proto = _joined(fields.forwarded_proto, value)
    elif kind == FORWARDED_HOST:
        fields.forwarded_host = _joined(fields.forwarded_host, value)


def _restate(fields: Fields, start: int, end: int, line: bytes) -> None:
    fields.cuts += [start, end]
    fields.restated = line


def _joined(old: bytes, value: bytes) -> bytes:
    return old + b", " + value if old else value


def _note_connection(fields: Fields, value: bytes) -> None:
    lowered = value.lower()
    if lowered == b"keep-alive":
        fields.keep_alive = True
        return
    for item in lowered.split(b","):
        token = item.strip(b" \t")
        if token == b"close":
            fields.close = True
        elif token == b"keep-alive":
            fields.keep_alive = True
        elif token == b"upgrade":
            fields.upgrade = True
        elif token and token not in KEPT:
            if fields.nominated is None:
                fields.nominated = set()
            fields.nominated.add(token)


def _note_coding(fields: Fields, value: bytes) -> None:
    # RFC 9112 §6.1: chunked comes last and once. Others are named only to be refused (§6.3).
    fields.coded = True
    for item in value.lower().split(b","):
        coding = item.strip(b" \t")
        if fields.chunked:
            fields.refuse(400, "coding after chunked")
        elif coding == b"chunked":
            fields.chunked = True
        else:
            name = coding.split(b";")[0].rstrip(b" \t")
            if not name or name == b"chunked" or name.translate(None, _TOKEN):
                fields.refuse(400, "invalid Transfer-Encoding")
            fields.foreign_coding = True


def _cut_nominated(fields: Fields) -> None:
    nominated = fields.nominated
    if nominated is None:
        return
    spans: list[tuple[int, int]] = []
    for index in range(0, len(fields.cuts), 2):
        spans.append((fields.cuts[index], fields.cuts[index + 1]))
    block = fields.block
    start = 0
    while start < len(block):
        end = block.index(b"\r\n", start) + 2
        name = block[start : block.index(b":", start)].lower()
        if name in nominated and (start, end) not in spans:
            spans.append((start, end))
        start = end
    spans.sort()
    cuts: list[int] = []
    for span in spans:
        cuts += [span[0], span[1]]
    fields.cuts = cuts
    if b"x-forwarded-for" in nominated:
        fields.forwarded_for = b""
    if b"x-forwarded-proto" in nominated:
        fields.forwarded_proto = b""
    if b"x-forwarded-host" in nominated:
        fields.forwarded_host = b""
