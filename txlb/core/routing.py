"""Which rule an exchange belongs to.

Rules:

* Hosts first: the exact host, then wildcards from the longest to the shortest, then rules without a host.
  Within a host the longest path prefix; if none fits, the next host. None = no rule (404).
* ``*.example.com`` matches every name below ``example.com`` at any depth, not ``example.com`` itself.
* A path prefix is a row of whole segments: ``/api`` matches ``/api``, ``/api/x`` and ``/api?q``, not
  ``/apix``. A segment is what follows a slash; one slash at the end of a prefix says nothing (``/api/`` is
  ``/api``, ``/`` is every path).
* Paths are raw bytes: not decoded, no case folded, nothing normalised. ``/%61pi``, ``/API``, ``//api`` and
  ``/x/../api`` are not below ``/api``; ``/api//x`` and ``/api/../x`` are.
* The caller passes the host in lower case and without port; one trailing dot is ignored. The path may still
  carry its query, which is not looked at. ``*`` (OPTIONS) only matches rules without a prefix.
* Cost: a dict lookup per label of the host and per segment of the path, as far as any rule is deep; the
  number of rules does not matter.
"""

from __future__ import annotations

from typing import Final, final

from txlb.core.pool import Pool

QUERY: Final = b"?"
SLASH: Final = b"/"
DOT: Final = b"."
SLASH_BYTE: Final = 47
DOT_BYTE: Final = 46


def normal_prefix(prefix: str | None) -> bytes:
    """The key of a path prefix: two rules of one host that have the same one match the same."""
    if prefix is None:
        return b""
    raw = prefix.encode("latin-1")
    return raw[:-1] if raw.endswith(SLASH) else raw


def normal_host(host: str | None) -> bytes:
    """The key of a rule's host: lower case, no trailing dot; b"" = any, ``*.x`` becomes ``.x``."""
    if host is None or host == "*":
        return b""
    raw = host.encode("ascii").lower()
    if raw.endswith(DOT):
        raw = raw[:-1]
    return raw[1:] if raw.startswith(b"*.") else raw


@final
class Route:
    """What one rule matches, and where it leads. Host and prefix as in the configuration."""

    def __init__(self, host: str | None, path_prefix: str | None, pool: Pool) -> None:
        self.host = normal_host(host)
        self.prefix = normal_prefix(path_prefix)
        self.pool = pool


@final
class HostRoutes:
    """The rules of one host (or wildcard): path prefixes."""

    def __init__(self) -> None:
        self._everything: Pool | None = None
        self._prefixes: dict[bytes, Pool] = {}
        self._depth = 0  # segments in the longest prefix

    def add(self, prefix: bytes, pool: Pool) -> None:
        if prefix == b"":
            self._everything = pool
        else:
            self._prefixes[prefix] = pool
            self._depth = max(self._depth, prefix.count(SLASH))

    def match(self, path: bytes) -> Pool | None:
        best = self._everything
        if self._depth == 0 or not path or path[0] != SLASH_BYTE:
            return best
        query = path.find(QUERY)
        if query >= 0:
            path = path[:query]
        prefixes = self._prefixes
        end = 0
        for _ in range(self._depth):  # one segment more each time; the last hit is the longest
            end = path.find(SLASH, end + 1)
            pool = prefixes.get(path if end < 0 else path[:end])
            if pool is not None:
                best = pool
            if end < 0:
                break
        return best


@final
class RouteTable:
    """All rules of one listener. ValueError if two of them match the same."""

    def __init__(self, routes: list[Route]) -> None:
        self._exact: dict[bytes, HostRoutes] = {}
        self._wildcard: dict[bytes, HostRoutes] = {}  # by ".example.com"
        self._labels = 0  # in the longest wildcard
        self._any: HostRoutes | None = None
        self._only: Pool | None = None  # the table is this one rule, which matches everything
        seen: set[tuple[bytes, bytes]] = set()
        for route in routes:
            key = (route.host, route.prefix)
            if key in seen:
                raise ValueError(f"two rules match host {route.host!r} and path prefix {route.prefix!r}")
            seen.add(key)
            self._routes_of(route.host).add(route.prefix, route.pool)
        if len(routes) == 1 and routes[0].host == b"" and routes[0].prefix == b"":
            self._only = routes[0].pool

    def _routes_of(self, host: bytes) -> HostRoutes:
        if host == b"":
            if self._any is None:
                self._any = HostRoutes()
            return self._any
        table = self._exact
        if host.startswith(DOT):
            table = self._wildcard
            self._labels = max(self._labels, host.count(DOT))
        if host not in table:
            table[host] = HostRoutes()
        return table[host]

    def match(self, host: bytes, path: bytes) -> Pool | None:
        """The pool of the most specific rule."""
        only = self._only
        if only is not None:
            return only
        if host and host[len(host) - 1] == DOT_BYTE:
            host = host[:-1]
        routes = self._exact.get(host)
        if routes is not None:
            pool = routes.match(path)
            if pool is not None:
                return pool
        if self._labels:
            pool = self._match_wildcards(host, path)
            if pool is not None:
                return pool
        routes = self._any
        return None if routes is None else routes.match(path)

    def _match_wildcards(self, host: bytes, path: bytes) -> Pool | None:
        dots: list[int] = []
        dot = len(host)
        for _ in range(self._labels):
            dot = host.rfind(DOT, 0, dot)
            if dot <= 0:
                break
            dots.append(dot)
        while dots:
            routes = self._wildcard.get(host[dots.pop() :])
            if routes is not None:
                pool = routes.match(path)
                if pool is not None:
                    return pool
        return None
