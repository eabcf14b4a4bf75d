"""How one worker divides its open files among clients' and backends' connections, UDP flows and pipes.

Rules:

* Each has its own part, so that one cannot eat up what another needs; `RESERVED` stay for everything else.
* UDP flows get nothing without a UDP listener, a quarter beside others, everything where there are no others.
* Pipes, in which the kernel moves bulk, have two each: a sixteenth, `MOST_PIPES` at most. Without one bytes
  are copied.
* Of the rest clients get half, or what ``limits.max_connections`` says; backends get the other half.
* What clients leave unused may hold idle connections to backends, too (`Share.idle`): each client is counted
  twice, as it may need a backend, and an eighth stays free for those who come.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

RESERVED = 128
MOST_PIPES = 1024
LEAST = 16


@dataclass(frozen=True, slots=True)
class Share:
    """At most so many of each at a time."""

    clients: int
    backends: int
    flows: int
    pipes: int
    streams: int  # of clients and backends together

    def idle(self, clients: int) -> int:
        """Connections to backends that may be kept idle while so many clients are here."""
        return max(self.backends, self.streams - self.streams // 8 - 2 * clients)


def share(open_files: int, protocols: Collection[str], max_connections: int | None) -> Share:
    """``open_files``: RLIMIT_NOFILE; ``protocols``: of the listeners."""
    usable = open_files - RESERVED
    flows = 0
    if "udp" in protocols:
        flows = max(LEAST, usable // 4 if any(protocol != "udp" for protocol in protocols) else usable)
    pipes = 0
    if any(protocol != "udp" for protocol in protocols):
        pipes = max(1, min(MOST_PIPES, usable // 16 // 2))
    streams = usable - flows - 2 * pipes
    clients = max(LEAST, streams // 2)
    backends = max(LEAST, streams - clients)
    if max_connections is not None:
        clients = min(max_connections, 2 * clients)
    return Share(clients, backends, flows, pipes, streams)
