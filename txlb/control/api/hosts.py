"""Under which names the admin API may be called: what keeps web pages out.

Rules:

* The Host of a request must name the loopback, the address that the connection came to, or an entry of
  ``admin.allowed_hosts``: a page that resolves its own name to 127.0.0.1 gets nothing. On a UNIX socket
  any will do.
* An address counts as an address only if all of it is one: ``127.evil.test`` is a name.
* The target of a request is a path, ``*``, or an http or https URL, whose authority then counts in place of
  the Host field (RFC 9112, 3.2.2); a URL has a host and no user.
* A request has one Host field. An Origin, which browsers send, must be allowed in the same way.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence

_URL = re.compile(
    rb"https?://(?P<authority>[^/?#@]+)(?P<path>/.*)?(?P<query>\?.*)?", re.IGNORECASE | re.DOTALL
)


def split_target(target: bytes) -> tuple[bytes | None, bytes]:
    """The authority of a request's target, if it has one, and path and query. Raises `ValueError`."""
    if target.startswith(b"/") or target == b"*":
        return None, target
    url = _URL.fullmatch(target)
    if url is None:
        raise ValueError("the target is neither a path nor the URL of one")
    return url["authority"], (url["path"] or b"/") + (url["query"] or b"")


def host_of(header: str) -> str:
    """The host of a Host field without its port, lower case, brackets removed; "" if malformed."""
    host = header.strip().lower()
    if host.startswith("["):
        inner, bracket, rest = host[1:].partition("]")
        return inner if bracket and (not rest or (rest[0] == ":" and rest[1:].isdigit())) else ""
    name, _, port = host.partition(":")
    return name if not port or (port.isascii() and port.isdigit()) else ""


def host_allowed(header: str, local: str, allowed: Collection[str]) -> bool:
    """May a request that came to ``local`` ("" = a UNIX socket) have this Host?"""
    if not local:
        return True
    host = host_of(header)
    if host == "localhost" or host in allowed:
        return True
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address == ipaddress.ip_address(local)
    except ValueError:
        return False


def origins_allowed(headers: Sequence[str], local: str, allowed: Collection[str]) -> bool:
    """The same for Origin fields; on a UNIX socket there is no browser, so none is allowed."""
    for header in headers:
        scheme, separator, host = header.partition("://")
        if not separator or scheme not in ("http", "https") or not local:
            return False
        if not host_allowed(host, local, allowed):
            return False
    return True
