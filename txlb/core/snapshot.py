"""A `Snapshot` as bytes, and the difference of two.

Rules:

* The bytes are JSON, one value a line: a head with everything small, then slices of at
  most `SLICE` backends, rules and cells. Backends are lists, not objects: half the bytes
  and time, and 10,000 of them are the case that matters. What they have in common (``tls``) is sent once.
* Few backends have a health check like no other's: each kind travels once, before them.
* `decode` is a generator that does one line per step, so that an event loop can spread
  it over many turns; no step takes longer than one slice.
* ``decode(encode(snapshot, columns)) == (snapshot, columns)``, the free list aside.
* `diff` compares by id: equal specs are unchanged, whatever their order.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, TypeVar

from txlb.core.model import (
    AccessLogSpec,
    AdminSpec,
    AdminTlsSpec,
    AlgorithmSpec,
    BackendSpec,
    BackendTlsSpec,
    CertificateSpec,
    ErrorResponseSpec,
    HealthCheckSpec,
    IdleConnectionsSpec,
    LimitsSpec,
    ListenerSpec,
    OcspSpec,
    OwnCheckSpec,
    RetriesSpec,
    RuleSpec,
    Snapshot,
    TimeoutsSpec,
    TlsSpec,
    UdpSpec,
)
from txlb.core.scoreboard import Cell, Columns

SLICE = 250
_Item = TypeVar("_Item")
_BACKEND = tuple(spec.name for spec in fields(BackendSpec) if spec.name != "health_check")
_TLS = _BACKEND.index("tls")


def encode(snapshot: Snapshot, columns: Columns) -> Generator[bytes, None, None]:
    """The lines of this snapshot and its columns; joined they are what `decode` reads."""
    shared = list(dict.fromkeys(backend.tls for backend in snapshot.backends if backend.tls is not None))
    numbers: dict[BackendTlsSpec | None, int] = {None: -1, **{tls: at for at, tls in enumerate(shared)}}
    checks = {spec: index for index, spec in enumerate({one.health_check: 0 for one in snapshot.backends})}
    head: dict[str, Any] = {
        "generation": snapshot.generation,
        "node_id": snapshot.node_id,
        "workers": snapshot.workers,
        "admin": asdict(snapshot.admin),
        "admin_allowed_backends": snapshot.admin_allowed_backends,
        "metrics_bind": snapshot.metrics_bind,
        "store": snapshot.store,
        "secret_file": snapshot.secret_file,
        "secret": snapshot.secret,
        "limits": asdict(snapshot.limits),
        "timeouts": asdict(snapshot.timeouts),
        "idle_connections": asdict(snapshot.idle_connections),
        "access_log": asdict(snapshot.access_log),
        "health_check": asdict(snapshot.health_check),
        "health_check_concurrency": snapshot.health_check_concurrency,
        "listeners": [asdict(listener) for listener in snapshot.listeners],
        "error_responses": [asdict(response) for response in snapshot.error_responses],
        "backend_tls": [asdict(tls) for tls in shared],
        "columns": {**columns.to_json(), "backends": {}, "cells": []},
    }
    yield _line("head", head)
    for specs in _slices(list(checks)):
        yield _line("checks", [asdict(spec) for spec in specs])
    for backends in _slices(snapshot.backends):
        rows = [[checks[one.health_check], *_backend_row(one, numbers)] for one in backends]
        yield _line("backends", rows)
        yield _line("bases", {backend.id: columns.backends[backend.id] for backend in backends})
    for rule in snapshot.rules:  # a rule may name 10,000 backends: those follow as slices of their own
        yield _line("rule", {**_rule_head(rule), "backends": []})
        for ids in _slices(rule.backends):
            yield _line("rule_backends", ids)
    for cells in _slices(columns.cell_items()):
        yield _line("cells", cells)


def decode(data: bytes) -> Generator[None, None, tuple[Snapshot, Columns]]:
    """Decode one line per step; the generator's value is the snapshot and its columns."""
    head: dict[str, Any] = {}
    backends: list[BackendSpec] = []
    rules: list[tuple[dict[str, Any], list[str]]] = []
    cells: dict[Cell, int] = {}
    bases: dict[str, int] = {}
    shared: list[BackendTlsSpec] = []
    checks: list[OwnCheckSpec] = []
    start = 0
    while start < len(data):
        end = data.index(b"\n", start)
        kind, value = json.loads(data[start:end])
        start = end + 1
        if kind == "backends":
            backends += [_backend(row, checks, shared) for row in value]
        elif kind == "rule_backends":
            rules[-1][1].extend(value)
        elif kind == "rule":
            rules.append((value, []))
        elif kind == "cells":
            cells.update({(listener, rule, backend): base for listener, rule, backend, base in value})
        elif kind == "bases":
            bases.update(value)
        elif kind == "checks":
            checks += [OwnCheckSpec(**_pairs(row)) for row in value]
        else:
            head = value
            shared = [_backend_tls(one) for one in head["backend_tls"]]
        yield
    snapshot = Snapshot(
        generation=head["generation"],
        node_id=head["node_id"],
        workers=head["workers"],
        admin=_admin(head["admin"]),
        admin_allowed_backends=tuple(head["admin_allowed_backends"]),
        metrics_bind=head["metrics_bind"],
        store=head["store"],
        secret_file=head["secret_file"],
        secret=head["secret"],
        limits=LimitsSpec(**head["limits"]),
        timeouts=TimeoutsSpec(**head["timeouts"]),
        idle_connections=IdleConnectionsSpec(**head["idle_connections"]),
        access_log=AccessLogSpec(**head["access_log"]),
        health_check=HealthCheckSpec(**_pairs(head["health_check"])),
        health_check_concurrency=head["health_check_concurrency"],
        listeners=tuple(_listener(row) for row in head["listeners"]),
        backends=tuple(backends),
        rules=tuple(_rule(row, ids) for row, ids in rules),
        error_responses=tuple(ErrorResponseSpec(**row) for row in head["error_responses"]),
    )
    columns = Columns.from_json(head["columns"])
    columns.backends = bases
    columns.cells = cells
    return snapshot, columns


def decode_now(data: bytes) -> tuple[Snapshot, Columns]:
    """`decode` at one go: for a worker that does not serve yet."""
    steps = decode(data)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            snapshot, columns = done.value
            return snapshot, columns


def _line(kind: str, value: object) -> bytes:
    return json.dumps([kind, value], separators=(",", ":")).encode("ascii") + b"\n"


def _slices(items: Sequence[_Item]) -> Iterable[Sequence[_Item]]:
    return (items[start : start + SLICE] for start in range(0, len(items), SLICE))


def _rule_head(rule: RuleSpec) -> dict[str, Any]:
    return {
        "id": rule.id,
        "listeners": rule.listeners,
        "host": rule.host,
        "path_prefix": rule.path_prefix,
        "algorithm": [rule.algorithm.name, rule.algorithm.options],
        "retries": asdict(rule.retries),
        "panic_threshold": rule.panic_threshold,
        "sticky": rule.sticky,
    }


def _rule(row: dict[str, Any], backends: list[str]) -> RuleSpec:
    name, options = row["algorithm"]
    return RuleSpec(
        id=row["id"],
        backends=tuple(backends),
        listeners=None if row["listeners"] is None else tuple(row["listeners"]),
        host=row["host"],
        path_prefix=row["path_prefix"],
        algorithm=AlgorithmSpec(name, tuple((key, value) for key, value in options)),
        retries=RetriesSpec(**row["retries"]),
        panic_threshold=row["panic_threshold"],
        sticky=row["sticky"],
    )


def _admin(row: dict[str, Any]) -> AdminSpec:
    tls = row.pop("tls")
    return AdminSpec(tls=None if tls is None else AdminTlsSpec(**tls), **_tuples(row))


def _backend_row(backend: BackendSpec, numbers: dict[BackendTlsSpec | None, int]) -> list[Any]:
    row = [getattr(backend, name) for name in _BACKEND]
    row[_TLS] = numbers[backend.tls]
    return row


def _listener(row: dict[str, Any]) -> ListenerSpec:
    tls = row["tls"]
    if tls is not None:
        tls = TlsSpec(**{**tls, "certificates": tuple(map(_certificate, tls["certificates"]))})
    return ListenerSpec(**{**_tuples(row), "tls": tls, "udp": UdpSpec(**row["udp"])})


def _backend_tls(row: dict[str, Any]) -> BackendTlsSpec:
    mine = row["client_certificate"]
    return BackendTlsSpec(**{**row, "client_certificate": None if mine is None else _certificate(mine)})


def _certificate(row: dict[str, Any]) -> CertificateSpec:
    ocsp = row["ocsp"]
    return CertificateSpec(**{**_tuples(row), "ocsp": None if ocsp is None else OcspSpec(**ocsp)})


def _backend(row: list[Any], checks: list[OwnCheckSpec], shared: list[BackendTlsSpec]) -> BackendSpec:
    check, *values = row
    said = dict(zip(_BACKEND, values, strict=True))
    said["tls"] = shared[said["tls"]] if said["tls"] >= 0 else None
    return BackendSpec(**said, health_check=checks[check])


def _pairs(row: dict[str, Any]) -> dict[str, Any]:
    """With lists of pairs as tuples."""
    return {
        name: tuple((one, other) for one, other in value) if isinstance(value, list) else value
        for name, value in row.items()
    }


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids of one kind of thing that came, went, or stayed with another value; in file order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        return f"+{len(self.added)} -{len(self.removed)} ~{len(self.changed)}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a reload changes."""

    listeners: Changes
    backends: Changes
    rules: Changes
    settings: tuple[str, ...]  # keys of the configuration outside the three lists that differ

    def __bool__(self) -> bool:
        return bool(self.listeners or self.backends or self.rules or self.settings)

    def __str__(self) -> str:
        parts = [f"listeners {self.listeners}", f"backends {self.backends}", f"rules {self.rules}"]
        if self.settings:
            parts.append("settings " + " ".join(self.settings))
        return ", ".join(parts)


_LISTS = ("generation", "listeners", "backends", "rules")
_KEYS = {
    "node_id": "node",
    "admin_allowed_backends": "admin",
    "metrics_bind": "metrics",
    "secret": "secret_file",
    "health_check_concurrency": "health_check",
}


def diff(old: Snapshot, new: Snapshot) -> Difference:
    """What changes from ``old`` to ``new``, the generation aside."""
    return Difference(
        listeners=_changes(old.listeners, new.listeners),
        backends=_changes(old.backends, new.backends),
        rules=_changes(old.rules, new.rules),
        settings=tuple(
            dict.fromkeys(
                key_of(spec.name)
                for spec in fields(Snapshot)
                if spec.name not in _LISTS and getattr(old, spec.name) != getattr(new, spec.name)
            )
        ),
    )


def key_of(field: str) -> str:
    """The key at the top of the configuration that ``field`` of a Snapshot comes from."""
    return _KEYS.get(field, field)


def _changes(old: Sequence[_Identified], new: Sequence[_Identified]) -> Changes:
    before = {item.id: item for item in old}
    after = {item.id for item in new}
    return Changes(
        added=tuple(item.id for item in new if item.id not in before),
        removed=tuple(item.id for item in old if item.id not in after),
        changed=tuple(
            item.id
            for item in new
            if (known := before.get(item.id, item)) is not item and known != item  # most are the same object
        ),
    )
