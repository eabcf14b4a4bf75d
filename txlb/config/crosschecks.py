"""What no single key can tell: references, clashes, order of limits.

Rules:

* Ids are unique among listeners, among backends and among rules; references name
  one that is there.
* Two rules never match the same requests: same host, same path prefix, and a
  listener in common. What else a listener's protocol asks for is in `txlb.config.protocols`.
* Two binds never claim the same port: same address, or one of them a wildcard of
  the same family (the admin port included; port 0 only with itself on
  the same address). UDP and TCP may share one.
* An algorithm has no options but its own.
* A listener that takes PROXY headers trusts somebody.
* A health check has no keys but those of its type; a class of one's own can be made and is an `IProbe`.
* A request line fits into a head; the idle minimum is not above its maximum.
* Stickiness is by cookie on http listeners, by address on others: a rule is for one or the other.
* What is odd but works is a warning: backends without a rule, rules whose weights
  are all 0 or that have no backends (as after the last was removed over the API), listeners without a rule,
  trust in everybody.
* An admin port that others can reach asks for tokens and speaks TLS.
* Items with errors of their own take part with what is valid in them; what is not
  known about them is never held against others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from txlb.config import protocols
from txlb.config.addresses import is_named, split_bind
from txlb.config.algorithms import misplaced
from txlb.config.entries import Backend, Listener, RoutingRule
from txlb.config.health import problems as check_problems
from txlb.config.models import Configuration
from txlb.config.problems import Finding, Path, Suggestions
from txlb.config.settings import Admin, IdleConnections, Limits, Metrics
from txlb.config.validation import ModelT, salvaged
from txlb.config.values import show_size


@dataclass(slots=True)
class Item(Generic[ModelT]):
    """One entry of a list: what is valid of it, and the names of keys that are not."""

    index: int
    id: str | None
    model: ModelT | None
    bad: frozenset[str] = frozenset()


@dataclass(slots=True)
class Draft:
    """A configuration that may have holes."""

    listeners: list[Item[Listener]]
    backends: list[Item[Backend]]
    rules: list[Item[RoutingRule]]
    admin: Admin | None
    metrics: Metrics | None
    limits: Limits | None
    idle_connections: IdleConnections | None
    secret_file: str | None = None
    admin_bad: frozenset[str] = frozenset()
    whole: bool = True


def draft_of(configuration: Configuration) -> Draft:
    return Draft(
        [Item(index, item.id, item) for index, item in enumerate(configuration.listeners)],
        [Item(index, item.id, item) for index, item in enumerate(configuration.backends)],
        [Item(index, rule.id, rule) for index, rule in enumerate(configuration.routing_rules)],
        configuration.admin,
        configuration.metrics,
        configuration.limits,
        configuration.idle_connections,
        configuration.secret_file,
    )


def draft_of_data(data: object) -> Draft:
    """What can be told of data that is not valid as a whole."""
    known: Mapping[str, Any] = data if isinstance(data, dict) else {}
    admin, admin_bad = salvaged(Admin, known.get("admin", {}))
    return Draft(
        _items(Listener, known.get("listeners")),
        _items(Backend, known.get("backends")),
        _items(RoutingRule, known.get("routing_rules")),
        admin,
        salvaged(Metrics, known.get("metrics", {}))[0],
        salvaged(Limits, known.get("limits", {}))[0],
        salvaged(IdleConnections, known.get("idle_connections", {}))[0],
        admin_bad=admin_bad,
        whole=False,
    )


def _items(model: type[ModelT], data: object) -> list[Item[ModelT]]:
    result: list[Item[ModelT]] = []
    for index, entry in enumerate(data if isinstance(data, list) else []):
        found, bad = salvaged(model, entry)
        id = entry.get("id") if isinstance(entry, dict) else None
        result.append(Item(index, id if isinstance(id, str) else None, found, bad))
    return result


@dataclass(slots=True)
class Examination:
    """The checks; ``errors`` and ``warnings`` are what came of them."""

    draft: Draft
    suggestions: Suggestions
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def run(self) -> None:
        draft = self.draft
        listeners = self._unique("listeners", draft.listeners)
        backends = self._unique("backends", draft.backends)
        self._unique("routing_rules", draft.rules)
        self._binds()
        self._admin()
        self._numbers()
        self._proxies()
        self.errors += protocols.problems(draft.listeners, draft.rules)
        self.errors += check_problems(draft.backends)
        for item in draft.rules:
            if item.model is not None:
                path: Path = ("routing_rules", item.index)
                self._references((*path, "listeners"), item.model.listeners or (), listeners, "listener")
                self._references((*path, "backends"), item.model.backends, backends, "backend")
                self._stickiness(path, item.model)
                for option, why in misplaced(item.model.algorithm):
                    at_key = why.startswith("unknown key")
                    self.errors.append(Finding((*path, "algorithm", option), why, at_key))
        self._same_match()
        if draft.whole:
            self._oddities()

    def _unique(self, section: str, items: list[Any]) -> dict[str, int]:
        first: dict[str, int] = {}
        for item in items:
            if item.id is None:
                continue
            if item.id in first:
                self._error((section, item.index, "id"), f"{item.id} is taken by {section}[{first[item.id]}]")
            else:
                first[item.id] = item.index
        return first

    def _references(self, path: Path, ids: tuple[str, ...], known: dict[str, int], what: str) -> None:
        seen: set[str] = set()
        for index, id in enumerate(ids):
            if id not in known:
                self._error((*path, index), f"unknown {what} {id}{self.suggestions.near(id, known)}")
            elif id in seen:
                self._error((*path, index), f"{id} is listed twice")
            seen.add(id)

    def _stickiness(self, path: Path, rule: RoutingRule) -> None:
        if rule.session_sticky is None or rule.listeners is None:
            return
        protocols = {
            item.model.protocol
            for item in self.draft.listeners
            if item.model is not None and item.id in rule.listeners
        }
        if "http" not in protocols:
            if protocols and rule.session_sticky.cookie is not None:
                self._error((*path, "session_sticky", "cookie"), "needs an http listener: write true")
        elif len(protocols) > 1:
            self._error(
                (*path, "session_sticky"), "makes no sense for http and other listeners at once: two rules"
            )

    def _binds(self) -> None:
        claimed: dict[
            tuple[str, int], list[tuple[str, str]]
        ] = {}  # transport and port: who has which address
        chosen: set[tuple[str, str]] = set()  # transports and addresses with port 0
        named: dict[str, str] = {}  # files and descriptors, and who has them
        admin = None if self.draft.admin is None else self.draft.admin.bind
        if admin is not None and is_named(admin):
            named[admin] = "admin.bind"
        elif admin is not None:
            host, port = split_bind(admin)
            claimed["tcp", port] = [(host, "admin.bind")]
        metrics = None if self.draft.metrics is None else self.draft.metrics.bind
        if metrics is not None and is_named(metrics):
            if metrics in named:
                self._error(("metrics", "bind"), f"{metrics} clashes with {named[metrics]}")
            named.setdefault(metrics, "metrics.bind")
        elif metrics is not None:
            host, port = split_bind(metrics)
            for other, owner in claimed.get(("tcp", port), []) if port else []:
                if _overlap(host, other):
                    self._error(("metrics", "bind"), f"{metrics} clashes with {owner} ({admin})")
            claimed.setdefault(("tcp", port), []).append((host, "metrics.bind"))
        for item in self.draft.listeners:
            transport = "udp" if item.model is not None and item.model.protocol == "udp" else "tcp"
            for index, bind in enumerate(item.model.bind if item.model is not None else ()):
                if is_named(bind):
                    if bind in named:
                        path = ("listeners", item.index, "bind", index)
                        self._error(path, f"{bind} clashes with {named[bind]}")
                    named.setdefault(bind, f"listeners[{item.index}].bind")
                    continue
                host, port = split_bind(bind)
                if port == 0:
                    if (transport, host) in chosen:
                        path = ("listeners", item.index, "bind", index)
                        self._error(path, f"{bind} is there twice: the system chooses one port per address")
                    chosen.add((transport, host))
                    continue
                others = claimed.setdefault((transport, port), [])
                for other, owner in others:
                    if _overlap(host, other):
                        path = ("listeners", item.index, "bind", index)
                        self._error(path, f"{bind} clashes with {owner} ({other}:{port})")
                        break
                others.append((host, f"listeners[{item.index}].bind"))

    def _proxies(self) -> None:
        for item in self.draft.listeners:
            listener = item.model
            if listener is None or item.bad & {"proxy_protocol", "trusted"}:
                continue
            if listener.proxy_protocol and not listener.trusted:
                self._error(
                    ("listeners", item.index, "proxy_protocol"),
                    "needs trusted, the networks whose header is believed",
                )

    def _admin(self) -> None:
        admin = self.draft.admin
        if admin is None or admin.bind is None or admin.bind.startswith("unix:"):
            return
        if ipaddress.ip_address(split_bind(admin.bind)[0]).is_loopback or self.draft.admin_bad:
            return
        missing = [f"admin.{name}" for name in ("token_file", "tls") if getattr(admin, name) is None]
        if missing:
            self._error(
                ("admin", "bind"),
                f"{admin.bind} can be reached by others: that needs {' and '.join(missing)}"
                " (or bind to 127.0.0.1, [::1] or unix:/path)",
            )

    def _numbers(self) -> None:
        limits, idle = self.draft.limits, self.draft.idle_connections
        if limits is not None and limits.request_line > limits.head:
            self._error(
                ("limits", "request_line"),
                f"{show_size(limits.request_line)} is more than limits.head, {show_size(limits.head)}",
            )
        if idle is not None and idle.min_per_backend > idle.max_per_backend:
            self._error(
                ("idle_connections", "min_per_backend"),
                f"{idle.min_per_backend} is more than max_per_backend, {idle.max_per_backend}",
            )

    def _same_match(self) -> None:
        known = protocols.by_id(self.draft.listeners)
        unclear = {item.id for item in self.draft.listeners if item.id is not None} - known.keys()
        others = unclear | {id for id, listener in known.items() if listener.protocol != "http"}
        # Those with one rule each, whatever it matches, and those of which nothing can be said:
        whole = {id for id in others if id in unclear or protocols.is_whole(known[id])}
        groups: dict[tuple[str | None, str | None], dict[str | None, int]] = {}
        for item in self.draft.rules:
            rule = item.model
            if rule is None or item.bad & {"listeners", "host", "path_prefix"}:
                continue
            prefix = None if rule.path_prefix == "/" else rule.path_prefix
            group = groups.setdefault((rule.host, prefix), {})  # by listener; None: the first for all of http
            mine: list[str | None] = [None]
            if rule.listeners is not None:
                mine = [id for id in rule.listeners if id not in whole]
            if rule.listeners is None:
                rivals = [index for key, index in group.items() if key not in others]
            else:
                keys = [*mine, None] if any(id not in others for id in mine) else mine
                rivals = [group[key] for key in keys if key in group]
            clash = min(rivals, default=-1)
            if clash >= 0:
                what = f"{rule.host or 'any host'}, {prefix or 'any path'}"
                self._error(
                    ("routing_rules", item.index), f"matches the same as routing_rules[{clash}] ({what})"
                )
            for key in mine:
                group.setdefault(key, item.index)

    def _oddities(self) -> None:
        draft = self.draft
        weights = {item.model.id: item.model.weight for item in draft.backends if item.model is not None}
        used: set[str] = set()
        served: set[str] = set()
        http = [one for one in draft.listeners if one.model is not None and one.model.protocol == "http"]
        everywhere = [one.id for one in http if one.id is not None]
        for item in draft.rules:
            rule = item.model
            if rule is None:
                continue
            used.update(rule.backends)
            served.update(everywhere if rule.listeners is None else rule.listeners)
            by_cookie = rule.listeners is None or set(rule.listeners) & set(everywhere)
            if rule.session_sticky is not None and by_cookie and draft.secret_file is None:
                self._warn(
                    ("routing_rules", item.index, "session_sticky"),
                    "without secret_file cookies mean nothing after a restart, or to another node",
                )
            if not any(weights.get(id, 1) for id in rule.backends):
                why = "all of them have weight 0" if rule.backends else "there are none"
                self._warn(("routing_rules", item.index, "backends"), f"{why}: it serves nobody")
        for one in draft.backends:
            if one.id not in used:
                self._warn(("backends", one.index), f"no rule uses {one.id}")
        for entry in draft.listeners:
            if entry.model is not None and (entry in http or entry.model.sni) and entry.id not in served:
                what = "it refuses everybody" if entry.model.sni else "it answers 404"
                self._warn(("listeners", entry.index), f"no rule serves {entry.id}: {what}")
            for index, network in enumerate(entry.model.trusted if entry.model is not None else ()):
                if network.endswith("/0"):
                    path = ("listeners", entry.index, "trusted", index)
                    self._warn(path, f"{network} believes what everybody says of their address")

    def _error(self, path: Path, message: str) -> None:
        self.errors.append(Finding(path, message))

    def _warn(self, path: Path, message: str) -> None:
        self.warnings.append(Finding(path, message))


def _overlap(one: str, other: str) -> bool:
    if one == other:
        return True
    if (":" in one) != (":" in other):
        return False
    return one in ("0.0.0.0", "::") or other in ("0.0.0.0", "::")
