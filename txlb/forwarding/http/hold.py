"""What was sent of a request's body, in case it must be sent again.

Rules:

* While a connection is being made everything is kept: nothing was sent yet. The client is
  paused beyond `HOLD` bytes.
* On a reused connection it is kept until the answer begins or `HOLD` is exceeded; on a fresh
  one nothing is, for such a request is not sent again.
"""

from __future__ import annotations

from typing import Final

HOLD: Final = 65536


class RequestHold:
    """The pieces, and whether they are all there."""

    pieces: list[bytes]
    size: int
    whole: bool

    def __init__(self) -> None:
        self.pieces = []
        self.size = 0
        self.whole = True

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.whole:
            self.pieces.append(data)

    def is_full(self) -> bool:
        return self.size > HOLD

    def drop(self) -> None:
        """No more: what follows cannot be sent again."""
        self.whole = False
        self.pieces = []

    def body(self) -> bytes:
        return b"".join(self.pieces)
