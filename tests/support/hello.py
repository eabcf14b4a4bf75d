"""ClientHellos as OpenSSL sends them."""

from __future__ import annotations

import ssl


def client_hello(name: str | None = None, alpn: tuple[str, ...] = ()) -> bytes:
    """One that asks for ``name``."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()
