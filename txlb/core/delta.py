"""The difference of two snapshots as bytes, for a worker that runs the older one.

Rules:

* Values travel whole: what was added or changed is sent as it is now, what is gone by id.
  Settings, listeners and the bases of rules are few and always sent.
* A delta fits one generation only (``base``); `patch` refuses any other.
* Patching gives the newer snapshot up to the order of backends and rules, which means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import decode, diff, encode

State = tuple[Snapshot, Columns]


class WrongBase(Exception):
    """The delta is for another generation than the one we run."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What `patch` needs: the new values in a snapshot of their own, and what is gone."""

    base: int
    values: State
    backends: list[str]
    rules: list[str]
    cells: list[tuple[str, str, str]]


def encode_delta(old: State, new: State) -> Generator[bytes, None, None]:
    """The lines that turn ``old`` into ``new``."""
    (before, columns_before), (after, columns) = old, new
    changes = diff(before, after)
    gone = {
        "base": before.generation,
        "backends": changes.backends.removed,
        "rules": changes.rules.removed,
        "cells": [cell for cell in columns_before.cells if cell not in columns.cells],
    }
    yield json.dumps(gone, separators=(",", ":")).encode("ascii") + b"\n"
    backends = {*changes.backends.added, *changes.backends.changed}
    rules = {*changes.rules.added, *changes.rules.changed}
    values = replace(
        after,
        backends=tuple(backend for backend in after.backends if backend.id in backends),
        rules=tuple(rule for rule in after.rules if rule.id in rules),
    )
    cells = {cell: base for cell, base in columns.cells.items() if columns_before.cells.get(cell) != base}
    yield from encode(values, replace(columns, cells=cells))


def decode_delta(data: bytes) -> Generator[None, None, Delta]:
    """In small steps, like `txlb.core.snapshot.decode`."""
    end = data.index(b"\n") + 1
    gone: dict[str, Any] = json.loads(data[:end])
    yield
    values = yield from decode(data[end:])
    cells = [(listener, rule, backend) for listener, rule, backend in gone["cells"]]
    return Delta(gone["base"], values, gone["backends"], gone["rules"], cells)


def patch(state: State, delta: Delta) -> State:
    """The state after ``delta``; ``state`` itself is not touched."""
    snapshot, columns = state
    if snapshot.generation != delta.base:
        raise WrongBase(f"generation {delta.base} is needed, not {snapshot.generation}")
    values, new = delta.values
    backends = {backend.id: backend for backend in snapshot.backends}
    rules = {rule.id: rule for rule in snapshot.rules}
    bases = dict(columns.backends)
    cells = dict(columns.cells)
    for gone in delta.backends:
        del backends[gone], bases[gone]
    for gone in delta.rules:
        del rules[gone]
    for cell in delta.cells:
        del cells[cell]
    backends.update((backend.id, backend) for backend in values.backends)
    rules.update((rule.id, rule) for rule in values.rules)
    patched = replace(values, backends=tuple(backends.values()), rules=tuple(rules.values()))
    return patched, replace(new, backends={**bases, **new.backends}, cells={**cells, **new.cells})
