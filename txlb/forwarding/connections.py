"""Client connections of one worker, as ``GET /connections`` lists them.

Rules:

* A page is cut by descriptor number: whoever stays connected while somebody pages through is listed once.
* Bytes are those of the connection: of all its exchanges, heads included, as they cross the network.
* A connection has a number that no other one of the same worker process ever has.
"""

from __future__ import annotations

from bisect import bisect_right

from txlb.forwarding.client import ClientProtocol
from txlb.net.loop import Loop
from txlb.net.stream import StreamTransport


def client_connections(loop: Loop, after: int, limit: int, wall_clock: float) -> list[dict[str, object]]:
    """At most ``limit`` with a descriptor above ``after``; ``wall_clock`` is the time of day, now."""
    found: list[dict[str, object]] = []
    descriptors = sorted(loop.handlers)
    epoch = wall_clock - loop.now
    for at in range(bisect_right(descriptors, after), len(descriptors)):
        handler = loop.handlers[descriptors[at]]
        if not isinstance(handler, StreamTransport):
            continue
        protocol = handler.protocol
        if isinstance(protocol, ClientProtocol):
            found.append(
                {
                    "descriptor": descriptors[at],
                    "connection_id": handler.number,
                    "client_ip": protocol.ip,
                    "client_port": protocol.port,
                    "listener": protocol.listener_id(),
                    "backend_id": protocol.backend_id() or None,
                    "backend_connection_id": protocol.backend_connection() or None,
                    "session_id": protocol.session_id() or None,
                    "created_at": epoch + handler.opened_at,
                    "last_activity_at": epoch + handler.active_at,
                    "bytes_in": handler.taken,
                    "bytes_out": handler.given,
                }
            )
            if len(found) >= limit:
                break
    return found
