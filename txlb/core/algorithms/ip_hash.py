"""IP hash: consistent_hash by the client's address, with the same rules, source and cost."""

from __future__ import annotations

from typing import final

from txlb.core.algorithms.base import Algorithm
from txlb.core.algorithms.consistent_hash import ConsistentHash


@final
class IpHash(ConsistentHash):
    """Options: prefixes as for consistent_hash; ``fallback`` picks for clients without an address."""

    def __init__(
        self, ipv4_prefix: int = 32, ipv6_prefix: int = 64, fallback: Algorithm | None = None
    ) -> None:
        ConsistentHash.__init__(self, "client_ip", ipv4_prefix, ipv6_prefix, fallback)
