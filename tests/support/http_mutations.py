"""Requests and answers to start from, and ways to spoil them.

The inserted bytes, the folds and the ways to join names are those of PortSwigger's request-smuggling
generator; the chunk forms are named after where their line terminators and spilled bytes are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET /a/b?c=d&e HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n"
    b"Cookie: a=b; c=d\r\n\r\n",
    b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n",
    b"PUT /t HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"a;name=value\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"HEAD /x HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nConnection: keep-alive, X-Hop\r\n"
    b"X-Hop: 1\r\nTE: trailers\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    b"GET http://b.example/abs?q HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\n\r\n",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\r\n",
    b"POST /old HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n",
    b"DELETE /d HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: evil\r\n"
    b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
    b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil the end",
    b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: "x"\r\n\r\n',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\n"
    b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    b"HTTP/1.1 404 Not Found\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
    b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n",
)
BYTES = (b"\0", b"\t", b"\n", b"\v", b"\f", b"\r", b" ", b"\x7f", b"\xa0", b"\xff")
PIECES = (
    *BYTES,
    *(b":", b";", b",", b"#", b"?", b"/", b"\\", b"_", b'"', b"+", b"-", b"0", b"1", b"x", b"@", b"%00"),
    *(b"\r\n", b"\r\n ", b"\r\n\t", b"\n\n", b"\r\n\r\n", b"0x", b"HTTP/1.0", b"HTTP/1.9", b"http://"),
)
LINES = (
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 05\r\n",
    b"Content-Length:\t5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length:\r\n",
    b"Content_Length: 5\r\n",
    b"Content-Length : 5\r\n",
    b" Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: Chunked\r\n",
    b"Transfer-Encoding:\tchunked\t\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding\r\n : chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Content-Length, Transfer-Encoding, Host, X-Forwarded-For\r\n",
    b"Host: b\r\n",
    b"Host: b@c\r\n",
    b"Upgrade: h2c\r\n",
    b"Foo: bar\r\n baz\r\n",
    b": empty\r\n",
    b"Expect: 200-ok\r\n",
    b"X-\x80: 1\r\n",
    b"X: \x80\xff\r\n",
)


def mutated(original: bytes, choices: random.Random) -> bytes:
    """``original`` after one to four changes."""
    data = bytearray(original)
    for _ in range(choices.randint(1, 4)):
        at = choices.randrange(len(data) + 1)
        what = choices.randrange(8)
        if what == 0:
            data[at:at] = choices.choice(PIECES)
        elif what == 1:
            del data[at : at + choices.randint(1, 4)]
        elif what == 2:
            data[at : at + 1] = choices.choice(PIECES)
        elif what == 3:
            data[at : at + 1] = bytes((choices.randrange(256),))
        else:
            lines = bytes(data).split(b"\r\n")
            line = choices.randrange(len(lines))
            if what == 4:
                lines.insert(line, lines[line])
            elif what == 5:
                lines.insert(line, choices.choice(LINES)[:-2])
            elif what == 6:
                other = choices.randrange(len(lines))
                lines[line], lines[other] = lines[other], lines[line]
            else:
                lines[line] = lines[line].swapcase()
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def spoilt_fields() -> Iterator[tuple[str, bytes]]:
    """Named field lines that a strict parser refuses or that mean nothing at this hop."""
    for name, value in ((b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked"), (b"Host", b"a")):
        for piece in BYTES:
            if piece not in (b" ", b"\t"):
                yield f"{name!r} value after {piece!r}", name + b": " + piece + value + b"\r\n"
                yield f"{name!r} value before {piece!r}", name + b": " + value + piece + b"\r\n"
                yield f"{name!r} colon before {piece!r}", name + b":" + piece + value + b"\r\n"
            yield f"{name!r} name after {piece!r}", piece + name + b": " + value + b"\r\n"
            yield f"{name!r} name before {piece!r}", name + piece + b": " + value + b"\r\n"
            yield f"{name!r} cut by {piece!r}", name[:4] + piece + name[4:] + b": " + value + b"\r\n"
        for fold in (b"\r\n ", b"\r\n\t", b"\n ", b"\r ", b"\r\n\r "):
            yield f"{name!r} value folded by {fold!r}", name + b":" + fold + value + b"\r\n"
            yield f"{name!r} name folded by {fold!r}", name + fold + b": " + value + b"\r\n"
            yield f"{name!r} begun by {fold!r}", b"X: y" + fold + name + b": " + value + b"\r\n"
        if b"-" in name:
            for joint in (b"_", b" ", b"\\"):
                joined = name.replace(b"-", joint)
                yield f"{joined!r}", joined + b": " + value + b"\r\n"
        yield f"{name!r} without colon", name + b" " + value + b"\r\n"
        yield f"{name!r} with bare LF", name + b": " + value + b"\n"
        yield f"{name!r} with bare CR", name + b": " + value + b"\r"


SPILT_CHUNKS = {
    # the line terminator inside the extension is one that lenient parsers take
    "TERM.EXT": b"2;\nxx\r\nab\r\n0\r\n\r\n",
    "TERM.EXT with CR": b"2;\rxx\r\nab\r\n0\r\n\r\n",
    "EXT.TERM": b"2;ext\nab\r\n0\r\n\r\n",
    "EXT.TERM with CR": b"2;ext\rab\r\n0\r\n\r\n",
    "EXT.TERM with LF CR": b"2;ext\n\rab\r\n0\r\n\r\n",
    # the terminator after the data is not two bytes, or not these two
    "TERM.SPILL": b"5\r\nhello\n0\r\n\r\n",
    "TERM.SPILL with CR": b"5\r\nhello\r0\r\n\r\n",
    "SPILL.TERM": b"5\r\nhelloX\r\n0\r\n\r\n",
    "SPILL.TERM with two": b"5\r\nhelloXX0\r\n\r\n",
    "ONE.TWO": b"5\r\nhelloX\n0\r\n\r\n",
    "TWO.ONE": b"5\nhello\r\n0\r\n\r\n",
    "ZERO.TWO": b"5\r\nhello0\r\n\r\n",
    "TWO.ZERO": b"5hello\r\n0\r\n\r\n",
    "last chunk with LF": b"0\n\r\n",
    "end with LF": b"0\r\n\n",
    "end with CR": b"0\r\n\rX",
}
