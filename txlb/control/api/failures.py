"""Who showed wrong tokens lately, and must wait.

Rules:

* After `LIMIT` wrong tokens within `WINDOW` seconds a source is not listened to, whatever it shows, until
  the window that began with the first of them is over. A request without any token is refused but does
  not count: it guesses nothing, and probes of all kinds make them.
* A source is an address, of IPv6 the /64 network, of a UNIX socket the user.
* At most `SOURCES` are remembered; the one that began longest ago is forgotten first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

LIMIT = 10
WINDOW = 60.0
SOURCES = 4096


def source_of(peer: str) -> str:
    """The source that an address belongs to."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


class Failures:
    """See the module; ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, source: str, now: float) -> float:
        """Seconds until this source is listened to again; 0.0: it is."""
        began, count = self._sources.get(source, (now, 0))
        left = began + WINDOW - now
        if left <= 0.0:
            self._sources.pop(source, None)
            return 0.0
        return left if count >= LIMIT else 0.0

    def add(self, source: str, now: float) -> None:
        """It showed a wrong token."""
        began, count = self._sources.get(source, (now, 0))
        if now - began >= WINDOW:
            self._sources.pop(source, None)
            began, count = now, 0
        self._sources[source] = (began, count + 1)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)
