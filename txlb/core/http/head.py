"""Request and response heads: start lines, and what follows from line and fields together.

Rules (RFC 9112 §§3, 4, 6; FACTS of other parsers' defects in docs/threat-model.md):

* A head is what lies before the first CRLF CRLF. It is parsed only when it is whole.
* Start lines have single spaces. Versions 1.0 and 1.1 are spoken, 1.2 … 1.9 are read as
  1.1, every other well-formed version is 505.
* Content-Length beside Transfer-Encoding, Transfer-Encoding in HTTP/1.0, and doubled
  Host, Content-Length or Transfer-Encoding are refused in requests and in answers.
  Without chunked as the last coding a request is 400, with others before it 501.
* HTTP/1.1 requests name exactly one valid Host. CONNECT is refused in whatever form.
* An OPTIONS request for an absolute-form target without path and query is one for ``*``.
* 1xx, 204 and 304 answers and those to HEAD have no body whatever their fields say.
* Expectations other than 100-continue are 417; in HTTP/1.0 they are ignored.
* Verified field blocks are remembered by a `FieldCache`, for clients repeat themselves:
  the same bytes give the same `Fields`.
* A refusal is a value: ``status`` is what to answer (requests), ``refusal`` why (answers).
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from txlb.core.http.fields import FIELD_VALUE, REQUEST_NAME, Fields, scan_fields
from txlb.core.http.target import TARGET, normal_host, split_absolute

CACHED_BLOCKS: Final = 512
CACHED_BLOCK_SIZE: Final = 2048

NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3


class FieldCache:
    """Verified request field blocks by their bytes; bounded, in two generations.

    At most 2 × `CACHED_BLOCKS` blocks of at most `CACHED_BLOCK_SIZE` bytes: when the young
    generation is full it becomes the old one, so what is used stays.
    """

    young: dict[bytes, Fields]
    old: dict[bytes, Fields]
    last: Fields | None
    max_fields: int

    def __init__(self, max_fields: int) -> None:
        self.young = {}
        self.old = {}
        self.last = None
        self.max_fields = max_fields

    def fields(self, block: bytes) -> Fields:
        """`scan_fields` of a request's block, remembered if it was not refused."""
        found = self.last
        if found is not None and found.block == block:
            return found
        found = self.young.get(block)
        if found is not None:
            self.last = found
            return found
        found = self.old.get(block)
        if found is None:
            found = scan_fields(block, True, self.max_fields)
            if found.refusal or len(block) > CACHED_BLOCK_SIZE:
                return found
            if found.hosts == 1:
                found.normal_host = normal_host(found.host)
        if len(self.young) >= CACHED_BLOCKS:
            self.old = self.young
            self.young = {}
        self.young[block] = found
        return found


class RequestHead:
    """A verified request head, or why it is refused (``status`` not 0)."""

    status: int
    reason: str
    method: bytes
    target: bytes
    path: bytes
    minor: int
    host: bytes
    rewritten_host: bytes | None
    fallback_host: bytes  # sent as Host where the client named none (HTTP/1.0)
    fields: Fields
    framing: int
    content_length: int
    keep_alive: bool
    websocket: bool
    __slots__ = tuple(__annotations__)

    def __init__(self, method: bytes, target: bytes, minor: int, fields: Fields) -> None:
        self.status = 0
        self.reason = ""
        self.method = method
        self.target = target
        self.path = target
        self.minor = minor
        self.host = b""
        self.rewritten_host = None
        self.fallback_host = b""
        self.fields = fields
        self.framing = NO_BODY
        self.content_length = 0
        self.keep_alive = False
        self.websocket = False

    def refuse(self, status: int, reason: str) -> RequestHead:
        if not self.status:
            self.status = status
            self.reason = reason
        return self


NO_FIELDS: Final = Fields(b"")


def refused(status: int, reason: str) -> RequestHead:
    """A head that could not even be read."""
    return RequestHead(b"", b"", 1, NO_FIELDS).refuse(status, reason)


def parse_request(data: bytes, start: int, end: int, cache: FieldCache, max_line: int) -> RequestHead:
    """Parse the head in ``data[start:end]``; ``end`` is the position of its CRLF CRLF."""
    token = REQUEST_NAME
    visible = TARGET
    pos: i64 = start
    c: i64 = data[pos]
    while token[c]:
        pos += 1
        c = data[pos]
    method_end: i64 = pos
    if c != 0x20 or pos == start:
        return refused(400, "malformed method")
    pos += 1
    query: i64 = -1
    c = data[pos]
    while visible[c]:
        if c == 0x3F and query < 0:
            query = pos
        pos += 1
        c = data[pos]
    target_end: i64 = pos
    if c != 0x20 or pos == method_end + 1:
        return refused(400, "malformed request target")
    line_end: i64 = pos + 9
    if line_end > end or data[line_end] != 13 or data[line_end + 1] != 10:
        line_end = data.find(b"\r\n", pos)
    minor = _minor(data, target_end + 1, line_end)
    if minor < 0:
        if minor == -2:
            return refused(505, "HTTP version not supported")
        return refused(400, "malformed HTTP version")
    if line_end - start > max_line:
        return refused(414, "request line too long")
    fields = cache.fields(data[line_end + 2 : end + 2] if line_end < end else b"")
    head = RequestHead(data[start:method_end], data[method_end + 1 : target_end], minor, fields)
    if fields.refusal:
        return head.refuse(fields.refusal, fields.reason)
    if method_end - start == 7 and head.method == b"CONNECT":
        return head.refuse(501, "CONNECT is not supported")
    if query >= 0:
        head.path = data[method_end + 1 : query]
    _check_target(head)
    _check_framing(head)
    return head


def _minor(data: bytes, start: i64, end: i64) -> i64:
    """Minor version; -1 malformed, -2 well-formed but not 1.x."""
    if end - start != 8 or data[start + 6] != 0x2E:
        return -1
    if (
        data[start] != 0x48
        or data[start + 1] != 0x54
        or data[start + 2] != 0x54
        or data[start + 3] != 0x50
        or data[start + 4] != 0x2F
    ):
        return -1
    major: i64 = data[start + 5] - 48
    minor: i64 = data[start + 7] - 48
    if not (0 <= major <= 9 and 0 <= minor <= 9):
        return -1
    if major != 1:
        return -2
    return 0 if minor == 0 else 1


def _check_target(head: RequestHead) -> None:
    fields = head.fields
    target = head.target
    if fields.hosts > 1:
        head.refuse(400, "more than one Host")
        return
    if target[0] == 0x2F:
        host = fields.normal_host
        if host is not None:
            head.host = host
            return
    elif target == b"*":
        if head.method != b"OPTIONS":
            head.refuse(400, "malformed request target")
            return
    else:
        parts = split_absolute(target)
        if parts is None:
            head.refuse(400, "malformed request target")
            return
        authority, head.target = parts
        if not head.target:
            head.target = b"*" if head.method == b"OPTIONS" else b"/"
        query = head.target.find(b"?")
        head.path = head.target if query < 0 else head.target[:query]
        if fields.hosts == 1 and normal_host(fields.host) is None:
            head.refuse(400, "invalid Host")
            return
        host = normal_host(authority)
        if host is None:
            head.refuse(400, "invalid request target")
            return
        head.host = host
        head.rewritten_host = authority
        if fields.hosts == 0 and head.minor == 1:
            head.refuse(400, "missing Host")
        return
    if fields.hosts == 0:
        if head.minor == 1:
            head.refuse(400, "missing Host")
        return
    host = normal_host(fields.host)
    if host is None:
        head.refuse(400, "invalid Host")
        return
    head.host = host


def _check_framing(head: RequestHead) -> None:
    fields = head.fields
    if fields.coded:
        if fields.content_length >= 0:
            head.refuse(400, "both Content-Length and Transfer-Encoding")
        elif head.minor == 0:
            head.refuse(400, "Transfer-Encoding in HTTP/1.0")
        elif not fields.chunked:
            head.refuse(400, "chunked is not the last coding")
        elif fields.foreign_coding:
            head.refuse(501, "unsupported transfer coding")
        head.framing = CHUNKED
    elif fields.content_length > 0:
        head.framing = LENGTH
        head.content_length = fields.content_length
    if fields.expect_other and head.minor == 1:
        head.refuse(417, "unknown expectation")
    if head.minor == 1:
        head.keep_alive = not fields.close
        if fields.upgrade and fields.upgrade_to == b"websocket":
            head.websocket = head.method == b"GET" and head.framing == NO_BODY
    else:
        head.keep_alive = fields.keep_alive and not fields.close


class ResponseHead:
    """A verified head of a backend's answer, or why it is refused (``refusal`` not "")."""

    refusal: str
    status: int
    minor: int
    reason: bytes
    fields: Fields
    framing: int
    content_length: int
    keep_alive: bool
    plain: bytes | None  # what `forward.response_head` made of it without additions

    def __init__(self, status: int, minor: int, reason: bytes, fields: Fields) -> None:
        self.refusal = ""
        self.status = status
        self.minor = minor
        self.reason = reason
        self.fields = fields
        self.framing = NO_BODY
        self.content_length = 0
        self.keep_alive = False
        self.plain = None


def parse_response(
    data: bytes, end: int, last: Fields | None, max_fields: int, to_head: bool
) -> ResponseHead:
    """Parse the head in ``data[:end]``; ``end`` is the position of its CRLF CRLF.

    ``last``: the fields of the last answer on this connection, reused if the bytes are
    the same. ``to_head``: the request's method was HEAD.
    """
    line_end = data.find(b"\r\n")
    head = ResponseHead(0, 1, b"", NO_FIELDS)
    if line_end < 12 or data[:7] != b"HTTP/1." or data[8] != 0x20 or not data[9:12].isdigit():
        head.refusal = "malformed status line"
        return head
    if line_end > 12:
        text = FIELD_VALUE
        pos: i64 = 12
        c: i64 = data[pos]
        first: i64 = c
        while text[c]:
            pos += 1
            c = data[pos]
        if first != 0x20 or pos != line_end:
            head.refusal = "malformed status line"
            return head
        head.reason = data[13:line_end]
    minor = data[7] - 48
    if not 0 <= minor <= 9:
        head.refusal = "malformed status line"
        return head
    head.minor = 1 if minor else 0
    head.status = status = int(data[9:12])
    block = data[line_end + 2 : end + 2] if line_end < end else b""
    fields = last if last is not None and last.block == block else scan_fields(block, False, max_fields)
    head.fields = fields
    if fields.refusal:
        head.refusal = fields.reason
        return head
    if status < 100 or status > 599:
        head.refusal = "status code out of range"
    elif fields.coded and (
        fields.content_length >= 0 or not fields.chunked or fields.foreign_coding or head.minor == 0
    ):
        head.refusal = "ambiguous framing"
    elif status < 200 or status == 204 or status == 304 or to_head:
        head.framing = NO_BODY
    elif fields.chunked:
        head.framing = CHUNKED
    elif fields.content_length >= 0:
        head.framing = LENGTH if fields.content_length else NO_BODY
        head.content_length = fields.content_length
    else:
        head.framing = UNTIL_CLOSE
    if head.minor == 1:
        head.keep_alive = not fields.close
    else:
        head.keep_alive = fields.keep_alive and not fields.close
    return head
