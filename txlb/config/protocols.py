"""What a listener's protocol asks of the listener and of its rules.

Rules:

* A rule that names no listeners serves the http ones. Others are named.
* A listener whose traffic is not told apart (udp, and tcp without ``sni``) has exactly one rule, and that has
  neither host nor path prefix.
* A key that means nothing for a protocol is an error where it was set (`ONLY_FOR`).
* TLS is ended here (``tls``) or passed on (``sni``), not both.
* UDP has no ``unix:`` and ``systemd:`` binds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from txlb.config.addresses import is_named
from txlb.config.entries import Listener, RoutingRule
from txlb.config.problems import Finding, Path

#: Keys of a listener that only these protocols know.
ONLY_FOR = {
    "trusted": ("http", "tcp"),
    "forwarded": ("http",),
    "via": ("http",),
    "proxy_protocol": ("http", "tcp"),
    "sni": ("tcp",),
    "tls": ("http", "tcp"),
    "udp": ("udp",),
}
DEFAULTS = Listener(id="defaults", bind=("127.0.0.1:0",))
NOUN = {"host": "hosts", "path_prefix": "paths"}


class _Item(Protocol):
    index: int
    id: str | None
    model: Any
    bad: frozenset[str]


def kind_of(listener: Listener) -> str:
    """``protocol: KIND`` as a message says it."""
    return f"{listener.protocol} listener"


def is_whole(listener: Listener) -> bool:
    """All its traffic goes to one rule."""
    return listener.protocol == "udp" or (listener.protocol == "tcp" and not listener.sni)


def by_id(listeners: Sequence[_Item]) -> dict[str, Listener]:
    """Those whose protocol is known."""
    return {
        item.id: item.model
        for item in listeners
        if item.id is not None and item.model is not None and not item.bad & {"protocol", "sni"}
    }


def problems(listeners: Sequence[_Item], rules: Sequence[_Item]) -> Iterator[Finding]:
    """Everything that contradicts the rules above."""
    known = by_id(listeners)
    first: dict[str, int] = {}
    for item in rules:
        rule: RoutingRule | None = item.model
        if rule is None or rule.listeners is None or "listeners" in item.bad:
            continue
        for place, id in enumerate(rule.listeners):
            listener = known.get(id)
            if listener is None or listener.protocol == "http":
                continue
            if is_whole(listener):
                if id in first:
                    what = f"{id} has a rule already, routing_rules[{first[id]}]"
                    where: Path = ("routing_rules", item.index, "listeners", place)
                    yield Finding(where, f"{what}: a {kind_of(listener)} has exactly one")
                first.setdefault(id, item.index)
            for name in ("path_prefix",) if not is_whole(listener) else ("host", "path_prefix"):
                if getattr(rule, name) is not None and name not in item.bad:
                    where = ("routing_rules", item.index, name)
                    yield Finding(where, f"{id} is a {kind_of(listener)}: it knows of no {NOUN[name]}")
    unclear = any(item.model is None or "listeners" in item.bad for item in rules)
    for entry in listeners:
        listener = known.get(entry.id or "")
        if listener is None or listener is not entry.model:
            continue
        if is_whole(listener) and entry.id not in first and not unclear:
            yield Finding(
                ("listeners", entry.index),
                f"no rule serves {entry.id}: a {kind_of(listener)} needs exactly one,"
                f" with listeners: [{entry.id}]",
            )
        for name, protocols in ONLY_FOR.items():
            if listener.protocol not in protocols and getattr(listener, name) != getattr(DEFAULTS, name):
                where = ("listeners", entry.index, name)
                yield Finding(where, f"means nothing for a {kind_of(listener)}; leave it out")
        if listener.sni and listener.tls is not None and "tls" not in entry.bad:
            what = f"{entry.id} has tls: a listener either ends TLS or passes it on by server name"
            yield Finding(("listeners", entry.index, "sni"), what)
        if listener.protocol == "udp":
            for place, bind in enumerate(listener.bind):
                if is_named(bind):
                    where = ("listeners", entry.index, "bind", place)
                    yield Finding(where, f"{bind}: a udp listener needs an address, host:port")
