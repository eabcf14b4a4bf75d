"""A message body as it arrives: where it ends, and what of it may be passed on.

Rules (RFC 9112 §6):

* Counted bodies pass as they are, chunked ones as `framing.ChunkedReader` lets them, others
  last until their connection ends.
* ``used`` says how much of the last piece belonged to the body: what lies beyond is another
  message's, or nobody's.
"""

from __future__ import annotations

from txlb.core.http.framing import DEFECT, DONE, ChunkedReader
from txlb.core.http.head import CHUNKED, LENGTH


class BodyReader:
    """Reads one body."""

    framing: int
    left: int  # bytes to come of a counted body
    size: int  # bytes of content so far
    used: int
    done: bool
    defect: str  # why the framing is refused; "" = it is not
    chunks: ChunkedReader | None

    def __init__(self, framing: int, length: int, chunks: ChunkedReader | None) -> None:
        """``framing`` as in `txlb.core.http.head`; ``chunks`` reads a chunked body."""
        self.framing = framing
        self.left = length
        self.size = 0
        self.used = 0
        self.done = False
        self.defect = ""
        self.chunks = chunks

    def feed(self, data: bytes) -> bytes:
        """The next piece; returns what may be passed on."""
        size = len(data)
        if self.framing == LENGTH:
            if size >= self.left:
                size = self.left
                self.done = True
                if size < len(data):
                    data = data[:size]
            self.left -= size
            self.used = size
            self.size += size
            return data
        chunks = self.chunks
        if self.framing == CHUNKED and chunks is not None:
            out = chunks.feed(data)
            self.used = chunks.used
            self.size = chunks.body_size
            if chunks.state == DONE:
                self.done = True
            elif chunks.state == DEFECT:
                self.defect = chunks.reason
            return out
        self.used = size
        self.size += size
        return data

    def moved(self, size: int) -> None:
        """``size`` bytes of a counted body went another way (splice)."""
        self.left -= size
        self.size += size
        if self.left == 0:
            self.done = True
