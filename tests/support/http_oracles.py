"""HTTP/1.1 as three parsers read it: txlb's core, h11, and llhttp (httptools).

`through_request` and `through_response` do what a connection does with a stream of bytes, without a socket:
what txlb made of it, and the bytes that it would send on. `h11_*` and `llhttp_*` read a stream the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import h11
import httptools

from txlb.core.http.forward import VIA_CHAIN, ForwardPolicy, request_head, response_head
from txlb.core.http.framing import DEFECT, DONE, ChunkedReader
from txlb.core.http.head import (
    CHUNKED,
    LENGTH,
    UNTIL_CLOSE,
    FieldCache,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
)

POLICY = ForwardPolicy(False, VIA_CHAIN, b"http")
CLIENT = b"192.0.2.1\r\n\r\n"
MAX_TRAILER = 16384
FieldList = list[tuple[bytes, bytes]]


class Seen(NamedTuple):
    """One message. ``start``: (method, target) or (status,); ``fields`` by name, in order within one name."""

    start: tuple[Any, ...]
    fields: FieldList
    body: bytes
    complete: bool


class Passed(NamedTuple):
    """What txlb made of a stream: messages accepted, bytes sent on, why it stopped ("" = it did not)."""

    heads: list[Any]
    seen: list[Seen]
    out: bytes
    refusal: str


def listed(block: bytes) -> FieldList:
    """A field block, naively: by name, in order within one name."""
    found = []
    for line in block.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            found.append((name.lower(), value.strip(b" \t")))
    return by_name(found)


def by_name(fields: FieldList) -> FieldList:
    return sorted(fields, key=lambda field: field[0])


def head_of(data: bytes, max_fields: int = 100, max_line: int = 8192) -> RequestHead:
    """The request head at the start of ``data``."""
    return parse_request(data, 0, data.index(b"\r\n\r\n"), FieldCache(max_fields), max_line)


def answer_of(data: bytes, to_head: bool = False) -> ResponseHead:
    """The head of an answer at the start of ``data``."""
    return parse_response(data, data.index(b"\r\n\r\n"), None, 100, to_head)


def through_request(data: bytes, cache: FieldCache | None = None) -> Passed:
    """Requests from a client, one after the other."""
    cache = cache or FieldCache(100)
    heads: list[Any] = []
    seen: list[Seen] = []
    out = b""
    while data:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return Passed(heads, seen, out, "incomplete head")
        head = parse_request(data, 0, end, cache, 8192)
        if head.status:
            return Passed(heads, seen, out, f"{head.status} {head.reason}")
        sent = request_head(head, POLICY, False, CLIENT)
        data = data[end + 4 :]
        body, raw, complete = b"", b"", True
        if head.framing == LENGTH:
            body = raw = data[: head.content_length]
            complete = len(body) == head.content_length
            data = data[head.content_length :]
        elif head.framing == CHUNKED:
            body, raw, data, complete, defect = _chunked(data, True, head.fields.nominated)
            if defect:
                return Passed(heads, seen, out, "400 " + defect)
        heads.append(head)
        block = sent[sent.index(b"\r\n") + 2 : -2]
        seen.append(Seen((head.method, head.target), listed(block), body, complete))
        out += sent + raw
        if not head.keep_alive:
            break
    return Passed(heads, seen, out, "")


def through_response(data: bytes, method: bytes = b"GET") -> Passed:
    """One answer, 1xx before it, to an HTTP/1.1 client that keeps its connection."""
    heads: list[Any] = []
    seen: list[Seen] = []
    out = b""
    while True:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return Passed(heads, seen, out, "incomplete head")
        head = parse_response(data, end, None, 100, method == b"HEAD")
        if head.refusal:
            return Passed(heads, seen, out, head.refusal)
        if head.status == 101:
            return Passed(heads, seen, out, "unexpected 101")
        ending = b"Transfer-Encoding: chunked\r\n" if head.framing == UNTIL_CLOSE else b""
        sent = response_head(head, data, end, ending, False) or data[: end + 4]
        data = data[end + 4 :]
        body, raw, complete = b"", b"", True
        if head.framing == LENGTH:
            body = raw = data[: head.content_length]
            complete = len(body) == head.content_length
        elif head.framing == CHUNKED:
            body, raw, _, complete, defect = _chunked(data, False, head.fields.nominated)
            if defect:
                return Passed(heads, seen, out, defect)
        elif head.framing == UNTIL_CLOSE:
            body = data
            raw = (b"%x\r\n%s\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n"
        heads.append(head)
        block = sent[sent.index(b"\r\n") + 2 : -2]
        seen.append(Seen((head.status,), listed(block), body, complete))
        out += sent + raw
        if head.status >= 200:
            return Passed(heads, seen, out, "")


def _chunked(
    data: bytes, request: bool, nominated: set[bytes] | None
) -> tuple[bytes, bytes, bytes, bool, str]:
    """Data, bytes sent on, rest of the stream, whether it is whole, why it is defective."""
    raw = ChunkedReader(False, request, MAX_TRAILER, 100)
    plain = ChunkedReader(True, request, MAX_TRAILER, 100)
    raw.nominated = plain.nominated = nominated
    out, body = raw.feed(data), plain.feed(data)
    assert (raw.state, raw.used, raw.reason) == (plain.state, plain.used, plain.reason)
    if raw.state == DEFECT:
        return b"", b"", b"", False, raw.reason
    return body, out, data[raw.used :], raw.state == DONE, ""


def h11_requests(data: bytes) -> tuple[list[Seen], str]:
    """The requests that h11 sees, and why it stopped ("" = it did not)."""
    seen: list[Seen] = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data)
        try:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return seen, "incomplete head"
        except h11.RemoteProtocolError as error:
            return seen, f"h11: {error}"
        body, complete, why = _h11_body(connection)
        if why:
            return seen, why
        fields = by_name(list(request.headers))
        seen.append(Seen((request.method, request.target), fields, body, complete))
        if not complete:
            break
        data = connection.trailing_data[0]
    return seen, ""


def _h11_body(connection: h11.Connection) -> tuple[bytes, bool, str]:
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body, True, ""
            else:
                return body, False, ""
    except h11.RemoteProtocolError as error:
        return body, False, f"h11: {error}"


def h11_answer(data: bytes, method: bytes = b"GET") -> tuple[list[Seen], str]:
    """The answer that h11 sees, 1xx before it; the connection ends after ``data``."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    seen: list[Seen] = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                seen.append(Seen((event.status_code,), by_name(list(event.headers)), b"", True))
            elif isinstance(event, h11.Response):
                body, complete, _ = _h11_body(connection)
                seen.append(Seen((event.status_code,), by_name(list(event.headers)), body, complete))
                return seen, ""
            else:
                return seen, "incomplete head"
    except h11.RemoteProtocolError as error:
        return seen, f"h11: {error}"


class _Collector:
    """Callbacks of httptools."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.seen: list[Seen] = []
        self.open = False
        self.complete_head = False

    def on_message_begin(self) -> None:
        self.open = True
        self.complete_head = False
        self.target = b""
        self.fields: FieldList = []
        self.body = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete_head:  # what follows is a trailer
            self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete_head = True
        if hasattr(self.parser, "get_method"):
            self.start: tuple[Any, ...] = (self.parser.get_method(), self.target)
        else:
            self.start = (self.parser.get_status_code(),)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.seen.append(Seen(self.start, by_name(self.fields), self.body, True))
        self.open = False

    def rest(self) -> None:
        if self.open and self.complete_head:
            self.seen.append(Seen(self.start, by_name(self.fields), self.body, False))


def llhttp_requests(data: bytes) -> tuple[list[Seen], str]:
    """The requests that llhttp sees, and why it stopped ("" = it did not)."""
    return _llhttp(httptools.HttpRequestParser, data)


def llhttp_answer(data: bytes) -> tuple[list[Seen], str]:
    """The answer that llhttp sees to a GET."""
    return _llhttp(httptools.HttpResponseParser, data)


def _llhttp(parser: Any, data: bytes) -> tuple[list[Seen], str]:
    collector = _Collector()
    collector.parser = parser(collector)
    while data:
        try:
            collector.parser.feed_data(data)
            break
        except httptools.HttpParserUpgrade as upgrade:
            data = data[upgrade.args[0] :]  # not taken up: what follows is the next request
            collector.parser = parser(collector)
        except httptools.HttpParserError as error:
            return collector.seen, f"llhttp: {type(error).__name__}: {error}"
    collector.rest()
    return collector.seen, ""
