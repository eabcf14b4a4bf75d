"""Changes over the API, as entries of the overlay: each function is one kind of change. Pure.

Rules:

* A function gets the configuration in force and gives the `Changes` of the overlay, or raises: `ConfigError`
  with every error, `UnknownId`, `IdTaken`. `txlb.config.overlay.changed` then checks the whole.
* An id is taken as long as the configuration has it, and as long as ``leaving`` has it.
* A patch holds whole values of the keys it names; ``id`` is not one of them. An empty one does nothing.
* What the API put there is removed with its entry; what the file has, by an entry that says so.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from txlb.config.objects import Spec, digest, spec_of
from txlb.config.overlay import BACKEND, DRAIN, PATCH, PUT, REMOVE, RULE, Changes, Composed, Entry
from txlb.config.problems import Suggestions
from txlb.config.values import shown
from txlb.errors import ConfigError, IdTaken, UnknownId


def add_backend(composed: Composed, body: object, leaving: Container[str] = ()) -> Changes:
    data = _mapping(body)
    id = spec_of(BACKEND, data, composed.file, composed.folder).id
    if _found(composed, BACKEND, id) is not None:
        raise IdTaken(f"there is a backend {id} already")
    if id in leaving:
        raise IdTaken(f"backend {id} is being removed: its id is free when that is done")
    return {(BACKEND, id): _put(composed, BACKEND, id, data), (DRAIN, id): None}


def patch_backend(composed: Composed, id: str, body: object) -> Changes:
    patch = _mapping(body)
    _must(composed, BACKEND, id)
    if "id" in patch:
        raise ConfigError(["id: cannot be changed"])
    entry = composed.overlay.get((BACKEND, id))
    if entry is not None and not entry.aside and entry.action in (PUT, PATCH):
        after = Entry(entry.action, {**entry.data, **patch}, entry.base)
    else:
        after = Entry(PATCH, patch, _base(composed, BACKEND, id))
    return {(BACKEND, id): after if after.data else None}


def remove_backend(composed: Composed, id: str) -> Changes:
    _must(composed, BACKEND, id)
    return {**_removed(composed, BACKEND, id), (DRAIN, id): None}


def drain_backend(composed: Composed, id: str, until: float) -> Changes:
    """``until``: seconds since the epoch."""
    _must(composed, BACKEND, id)
    return {(DRAIN, id): Entry(PUT, {"until": until}, _base(composed, BACKEND, id))}


def enable_backend(composed: Composed, id: str) -> Changes:
    _must(composed, BACKEND, id)
    return {(DRAIN, id): None}


def add_rule(composed: Composed, body: object, new_id: str) -> Changes:
    """``new_id`` is used if the rule has none of its own."""
    data = _mapping(body)
    id = spec_of(RULE, data, composed.file, composed.folder).id or new_id
    if _found(composed, RULE, id) is not None:
        raise IdTaken(f"there is a routing rule {id} already")
    return {(RULE, id): _put(composed, RULE, id, data)}


def put_rule(composed: Composed, id: str, body: object) -> Changes:
    """Instead of the rule that is there."""
    data = _mapping(body)
    _must(composed, RULE, id)
    if data.get("id", id) != id:
        raise ConfigError([f"id: must be {id}, as in the path, or left out"])
    spec_of(RULE, data, composed.file, composed.folder)
    return {(RULE, id): _put(composed, RULE, id, data)}


def remove_rule(composed: Composed, id: str) -> Changes:
    _must(composed, RULE, id)
    return _removed(composed, RULE, id)


def _mapping(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ConfigError([f"the body must be a JSON object, not {shown(body)}"])
    return body


def _found(composed: Composed, kind: str, id: str) -> Spec | None:
    objects: Any = composed.snapshot.backends if kind == BACKEND else composed.snapshot.rules
    return next((one for one in objects if one.id == id), None)


def _must(composed: Composed, kind: str, id: str) -> None:
    if _found(composed, kind, id) is None:
        objects: Any = composed.snapshot.backends if kind == BACKEND else composed.snapshot.rules
        what = "backend" if kind == BACKEND else "routing rule"
        raise UnknownId(f"there is no {what} {id}{Suggestions().near(id, (one.id for one in objects))}")


def _base(composed: Composed, kind: str, id: str) -> str:
    """The digest of the file's object of this id."""
    objects: Any = composed.file.backends if kind == BACKEND else composed.file.rules
    return digest(kind, next((one for one in objects if one.id == id), None), composed.file)


def _put(composed: Composed, kind: str, id: str, data: dict[str, Any]) -> Entry:
    return Entry(PUT, {key: value for key, value in data.items() if key != "id"}, _base(composed, kind, id))


def _removed(composed: Composed, kind: str, id: str) -> Changes:
    base = _base(composed, kind, id)
    return {(kind, id): Entry(REMOVE, {}, base) if base else None}
