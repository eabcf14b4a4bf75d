"""A head that arrives in pieces.

Rules:

* Every octet is looked at once, however the pieces are cut.
* What can be judged before the head is whole is judged at once: a bare LF (400), a request
  line beyond its limit (414), a head beyond its limit (431). A few bytes of slack: once the
  head is whole, who parses it is exact, so the same head is judged alike however it was cut.
"""

from __future__ import annotations

from typing import Final

END_OF_HEAD: Final = b"\r\n\r\n"
MORE: Final = 0  # not whole yet
WHOLE: Final = 1  # ``data`` holds the whole head and what came behind it
SLACK: Final = 11  # empty lines before the head, and what is here already of the CRLF CRLF behind it


class HeadCollector:
    """Collects until CRLF CRLF. A refusal is an HTTP status (400, 414, 431)."""

    data: bytearray
    line_seen: bool

    def __init__(self) -> None:
        self.data = bytearray()
        self.line_seen = False

    def add(self, piece: bytes, max_line: int, max_head: int) -> int:
        """`MORE`, `WHOLE`, or the status to refuse with. Limits are in bytes, without CRLF."""
        data = self.data
        before = len(data)
        data += piece
        found = data.find(END_OF_HEAD, max(0, before - 3))
        end = len(data) if found < 0 else found
        at = data.find(b"\n", before, end)
        while at >= 0:
            if at == 0 or data[at - 1] != 13:
                return 400
            if not self.line_seen and at > 1:
                self.line_seen = True
                if at - 1 > max_line + 2:
                    return 414
            at = data.find(b"\n", at + 1, end)
        if found >= 0:
            return WHOLE
        if not self.line_seen and end > max_line + 3:
            return 414
        return 431 if end > max_head + SLACK else MORE
