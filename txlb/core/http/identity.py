"""What a backend is told of the certificate that its client showed: ``X-SSL-Client-*``.

Rules:

* Values are printable ASCII: any other byte of a name is written as ``\\XX``, as RFC 4514 has it, so no
  certificate can end a field and begin another.
* ``Verify`` is ``SUCCESS`` or ``NONE``; the other fields are there only with SUCCESS.
* A text longer than `MAX_TEXT` is left out, never cut: half a name is another name.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = b"x-ssl-client-"
MAX_TEXT: Final = 2048


def identity_fields(subject: str, common_name: str, serial: int, fingerprint: str) -> bytes:
    """The lines for a verified client; ``subject`` as RFC 4514 writes it."""
    lines = [b"X-SSL-Client-Verify: SUCCESS\r\n"]
    for name, text in ((b"Subject", subject), (b"CN", common_name)):
        value = _printable(text)
        if value and len(value) <= MAX_TEXT:
            lines.append(b"X-SSL-Client-%b: %b\r\n" % (name, value))
    lines.append(b"X-SSL-Client-Serial: %X\r\n" % serial)
    lines.append(b"X-SSL-Client-SHA256: %b\r\n" % fingerprint.encode("ascii"))
    return b"".join(lines)


NO_IDENTITY: Final = b"X-SSL-Client-Verify: NONE\r\n"


def without_identity(block: bytes) -> bytes:
    """A field block without what its sender says about certificates."""
    kept = []
    for line in block.split(b"\r\n"):
        if line and line[: len(PREFIX)].lower() != PREFIX:
            kept.append(line + b"\r\n")
    return b"".join(kept)


def _printable(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return b"".join(b"%c" % one if 32 <= one < 127 else b"\\%02X" % one for one in raw).strip()
