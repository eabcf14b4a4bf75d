"""The answers that txlb gives itself.

Rules:

* Small, the same for every cause of a status, and without a word about backends, rules or
  versions: what went wrong is in the log, not in the answer.
* A body is not sent in answer to HEAD, but its length is.
* Configured ones (``error_responses``) replace content type and body, never the status.
"""

from __future__ import annotations

from typing import Final

REASONS: Final[dict[int, bytes]] = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


class Refusals:
    """Prepared answers by status."""

    texts: dict[int, tuple[bytes, bytes]]

    def __init__(self, configured: dict[int, tuple[str, str]]) -> None:
        """``configured``: content type and body by status."""
        self.texts = {}
        for status, (content_type, body) in configured.items():
            self.texts[status] = (content_type.encode("latin-1"), body.encode("utf-8"))

    def answer(self, status: int, keep_alive: bool, minor: int, to_head: bool) -> bytes:
        """The whole answer as bytes."""
        reason = REASONS.get(status, b"Error")
        text = self.texts.get(status)
        if text is None:
            text = (b"text/plain; charset=utf-8", b"" if status == 200 else b"%d %s\n" % (status, reason))
        content_type, body = text
        connection = b"Connection: close\r\n"
        if keep_alive:
            connection = b"" if minor == 1 else b"Connection: keep-alive\r\n"
        extra = b""
        if status == 405 or status == 200:
            extra = b"Allow: OPTIONS, GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
        head = b"HTTP/1.1 %d %s\r\n" % (status, reason)
        kind = b"Content-Type: %s\r\nContent-Length: %d\r\n" % (content_type, len(body))
        cache = b"Cache-Control: no-store\r\n" if status >= 400 else b""
        return b"".join([head, kind, cache, extra, connection, b"\r\n", b"" if to_head else body])
