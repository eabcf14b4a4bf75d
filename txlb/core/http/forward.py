"""What is sent on: verified bytes as they stand, minus what ends here, plus what is ours.

Rules (RFC 9110 §§7.6, 10.1.1; RFC 9112 §3.2.2):

* Hop-by-hop fields are removed first, then ours are added, so that a Connection field
  cannot nominate ours away.
* ``X-Forwarded-For/-Proto/-Host``: ``replace`` sends what txlb itself saw; what a trusted
  peer says is believed and kept, with the peer appended to X-Forwarded-For. ``append``
  adds what txlb saw to whatever came in.
* ``X-SSL-Client-*``: removed where txlb itself verifies client certificates; on other listeners of the same
  configuration they are kept of trusted peers only, so nobody comes in beside the listener that verifies.
* ``Via``: ``chain`` appends to one that came in, ``always`` adds one, ``off`` leaves it.
* A request leaves as HTTP/1.1 in origin-form; the authority of an absolute-form target
  becomes its Host. Expect is ignored in HTTP/1.0, so it is not sent on from there.
* A 1xx or 204 answer is sent on without Content-Length and Transfer-Encoding.
* Start lines are ours: version 1.1, single spaces, whatever 1.x the other side spoke.
"""

from __future__ import annotations

from typing import Final

from txlb.core.http.fields import Fields
from txlb.core.http.head import RequestHead, ResponseHead
from txlb.core.http.identity import without_identity

VIA_CHAIN: Final = 0
VIA_ALWAYS: Final = 1
VIA_OFF: Final = 2

# Whose X-SSL-Client-* are believed, and sent on
EVERYBODY: Final = 0  # nobody here asks for certificates: they are fields like any other
TRUSTED: Final = 1
NOBODY: Final = 2

CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"


class ForwardPolicy:
    """How one listener writes X-Forwarded-* and Via."""

    append: bool
    via: int
    scheme: bytes
    identity: int

    def __init__(self, append: bool, via: int, scheme: bytes) -> None:
        self.append = append
        self.via = via
        self.scheme = scheme
        self.identity = EVERYBODY


def without(block: bytes, names: frozenset[bytes]) -> bytes:
    """``block`` without the fields called so (lower case)."""
    kept = []
    for line in block.split(b"\r\n"):
        if line and line[: line.find(b":")].lower() not in names:
            kept.append(line + b"\r\n")
    return b"".join(kept)


def _forwarded(fields: Fields, policy: ForwardPolicy, trusted: bool, host: bytes) -> bytes:
    # Ends inside X-Forwarded-For: the caller adds the client's address and CRLF CRLF.
    proto = policy.scheme
    chain = b""
    if policy.append or trusted:
        if fields.forwarded_for:
            chain = fields.forwarded_for + b", "
        if fields.forwarded_proto:
            proto = fields.forwarded_proto + b", " + proto if policy.append else fields.forwarded_proto
        if fields.forwarded_host:
            host = fields.forwarded_host + b", " + host if policy.append else fields.forwarded_host
    pieces = [b"X-Forwarded-Proto: ", proto, b"\r\n"]
    if host:
        pieces += [b"X-Forwarded-Host: ", host, b"\r\n"]
    pieces += [b"X-Forwarded-For: ", chain]
    return b"".join(pieces)


def request_head(head: RequestHead, policy: ForwardPolicy, trusted: bool, client: bytes) -> bytes:
    """The head to send to a backend; ``client`` is the peer's address and CRLF CRLF."""
    fields = head.fields
    ordinary = (
        head.minor == 1
        and head.rewritten_host is None
        and not trusted
        and not head.websocket
        and fields.max_forwards < 0
        and (policy.via == VIA_OFF or (policy.via == VIA_CHAIN and not fields.via))
    )
    if ordinary:
        block = fields.forward
        if block is None:
            block = _kept(fields, policy, False) + _forwarded(fields, policy, False, fields.host)
            fields.forward = block
    else:
        block = _unusual_block(head, policy, trusted)
    return b"".join([head.method, b" ", head.target, b" HTTP/1.1\r\n", block, client])


def _kept(fields: Fields, policy: ForwardPolicy, trusted: bool) -> bytes:
    if fields.claims_identity and (policy.identity == NOBODY or (policy.identity == TRUSTED and not trusted)):
        return without_identity(fields.kept())
    return fields.kept()


def _unusual_block(head: RequestHead, policy: ForwardPolicy, trusted: bool) -> bytes:
    fields = head.fields
    block = _kept(fields, policy, trusted)
    host = fields.host
    if head.rewritten_host is not None:
        host = head.rewritten_host
        block = b"Host: " + host + b"\r\n" + without(block, frozenset((b"host",)))
    if head.minor == 0:
        block = without(block, frozenset((b"expect",)))
        if not host:
            block = b"Host: " + head.fallback_host + b"\r\n" + block
    if fields.max_forwards > 0 and head.method in (b"TRACE", b"OPTIONS"):
        block = without(block, frozenset((b"max-forwards",)))
        block += b"Max-Forwards: %d\r\n" % (fields.max_forwards - 1)
    if head.websocket:
        block += b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    if policy.via == VIA_ALWAYS or (policy.via == VIA_CHAIN and fields.via):
        block += b"Via: 1.%d txlb\r\n" % head.minor
    return block + _forwarded(fields, policy, trusted, host)


_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_CODING: Final = frozenset((b"transfer-encoding",))


def response_head(
    head: ResponseHead, data: bytes, end: int, ending: bytes, drop_coding: bool
) -> bytes | None:
    """The head to send to a client; None means: as it came.

    ``data[:end + 4]`` is the head as it came; ``ending`` what is ours to add (`CLOSE`,
    `KEEP_ALIVE`, a Transfer-Encoding, or nothing); ``drop_coding``: the client does not
    speak chunked (HTTP/1.0).
    """
    fields = head.fields
    status = head.status
    # A head that changes nothing is not copied.
    if (
        not fields.cuts
        and not ending
        and not drop_coding
        and status >= 200
        and status != 204
        and data[7] == 0x31  # not 1.0, not 1.2
        and data[12] == 0x20
    ):
        return None
    plain = not ending and not drop_coding
    if plain and head.plain is not None:
        return head.plain
    block = fields.forward
    if block is None:
        block = fields.kept()
        fields.forward = block
    if status < 200 or status == 204:
        block = without(block, _FRAMING)
        if status == 101:
            block += b"Connection: Upgrade\r\nUpgrade: " + fields.upgrade_to + b"\r\n"
    elif drop_coding:
        block = without(block, _CODING)
    out = b"".join([b"HTTP/1.1 ", data[9:12], b" ", head.reason, b"\r\n", block, ending, b"\r\n"])
    if plain:
        head.plain = out
    return out
