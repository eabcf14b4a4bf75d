"""The overlay: what was changed over the API, laid over the file. Pure: no I/O, no clock.

Rules:

* The configuration in force is the file's objects plus the overlay's entries: an object put
  there, keys patched, an object removed, a backend drained. An object's provenance is ``file`` or ``api``.
* An entry knows by a digest which object of the file it was made over ("" = the file had none). When that
  object has changed, appeared or gone, the file wins: `compose` sets the entry aside, with a warning, for
  good. What is set aside is kept and does nothing until the same object is changed over the API again.
* Entries are set aside, too, when they are no longer valid or clash with the file.
* A rule that names a backend that is gone goes on without it, with a warning. So does a rule from the API
  without a listener that is gone; without any left it is set aside.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from txlb.config.consistency import errors_of
from txlb.config.objects import BACKEND, RULE, Spec, data_of_object, digest, said, spec_of
from txlb.config.problems import Finding
from txlb.core.model import BackendSpec, RuleSpec, Snapshot
from txlb.errors import ConfigError

__all__ = ["BACKEND", "DRAIN", "PATCH", "PUT", "REMOVE", "RULE", "changed", "compose"]

DRAIN = "drain"
PUT, PATCH, REMOVE = "put", "patch", "remove"
NAMES = {BACKEND: "backend", RULE: "routing rule", DRAIN: "drain of backend"}

Key = tuple[str, str]  # kind and id


@dataclass(frozen=True, slots=True)
class Entry:
    """One change: its data is never modified. A drain is a ``put`` of ``{"until": …}``."""

    action: str
    data: dict[str, Any]
    base: str = ""
    aside: bool = False


Overlay = Mapping[Key, Entry]
Changes = Mapping[Key, Entry | None]  # None: the entry goes


@dataclass(frozen=True, slots=True)
class Composed:
    """File and overlay as one. ``overlay`` may have more set aside than what came in."""

    file: Snapshot
    overlay: Overlay
    folder: Path
    snapshot: Snapshot
    file_digest: str = ""
    warnings: tuple[str, ...] = ()
    from_api: frozenset[Key] = frozenset()
    made: Mapping[Key, tuple[Entry, Spec, Spec]] = field(default_factory=dict)  # entry, over what, came out

    def provenance(self, kind: str, id: str) -> str:
        return "api" if (kind, id) in self.from_api else "file"

    def patched(self, kind: str, id: str) -> list[str]:
        """The keys of a file's object that the API changed."""
        entry = self.overlay.get((kind, id))
        return [] if entry is None or entry.aside or entry.action != PATCH else sorted(entry.data)

    def guarded(self) -> set[str]:
        """Backends whose address the API chose: `txlb.control.targets` has a say."""
        ids = {id for kind, id in self.from_api if kind == BACKEND}
        for (kind, id), entry in self.overlay.items():
            if (
                kind == BACKEND
                and entry.action == PATCH
                and not entry.aside
                and {"host", "port"} & set(entry.data)
            ):
                ids.add(id)
        return ids

    def drains(self) -> dict[str, float]:
        """Until when (seconds since the epoch), by id of the backend."""
        return {
            id: float(entry.data["until"])
            for (kind, id), entry in self.overlay.items()
            if kind == DRAIN and not entry.aside
        }

    def set_aside(self) -> list[Key]:
        return [key for key, entry in self.overlay.items() if entry.aside]


def _file_digest(file: Snapshot) -> str:
    """Others for another file."""
    return hashlib.sha256(repr(replace(file, generation=0)).encode()).hexdigest()[:8]


def compose(
    file: Snapshot, overlay: Overlay, folder: Path = Path(), before: Composed | None = None
) -> Composed:
    """At load: what stands against the file is set aside, so this never fails."""
    entries, warnings = _without_stale(file, overlay)
    while True:
        composed, invalid = _merged(file, entries, folder, before)
        blamed = invalid or _blamed(composed)
        if not blamed:
            return replace(composed, warnings=(*warnings, *composed.warnings))
        for key, reason in blamed.items():
            entries[key] = replace(entries[key], aside=True)
            warnings.append(_aside(key, reason))


def read_again(composed: Composed, edit: Callable[[Snapshot], Snapshot]) -> Composed:
    """What ``edit`` makes of the file and of what the API put beside it; ``composed`` itself if all stays.

    ``edit`` gives back what it got if nothing changes, and keeps the order of backends.
    """
    file = edit(composed.file)
    theirs = {key: spec for key, (_, _, spec) in composed.made.items() if key[0] == BACKEND}
    alone = replace(file, listeners=(), backends=tuple(theirs.values()))
    edited = edit(alone)
    if file is composed.file and edited is alone:
        return composed
    made = dict(composed.made)
    for key, spec in zip(theirs, edited.backends, strict=True):
        entry, over, _ = made[key]
        made[key] = (entry, over, spec)
    of_file = composed.file_digest if file is composed.file else _file_digest(file)
    before = replace(composed, file=file, file_digest=of_file, made=made)
    return compose(file, composed.overlay, composed.folder, before)


def changed(composed: Composed, changes: Changes) -> Composed:
    """After valid changes over the API; raises `ConfigError` if they do not fit the rest."""
    entries = dict(composed.overlay)
    for key, entry in changes.items():
        if entry is None:
            entries.pop(key, None)
        else:
            entries[key] = entry
    mine = {id for kind, id in changes if kind == RULE}
    result, invalid = _merged(composed.file, entries, composed.folder, composed, mine)
    if invalid:
        raise ConfigError(invalid.values())
    touched = {id for kind, id in changes if kind == BACKEND}
    if any(kind != DRAIN for kind, _ in changes):
        findings = errors_of(result.snapshot, touched)
        if findings:
            raise ConfigError(_said(finding, result.snapshot, mine) for finding in findings)
    return result


def _without_stale(file: Snapshot, overlay: Overlay) -> tuple[dict[Key, Entry], list[str]]:
    backends: dict[str, Spec] = {one.id: one for one in file.backends}
    rules: dict[str, Spec] = {one.id: one for one in file.rules}
    theirs = {BACKEND: backends, DRAIN: backends, RULE: rules}
    kept: dict[Key, Entry] = {}
    warnings: list[str] = []
    for key, entry in overlay.items():
        kind, id = key
        object_kind = BACKEND if kind == DRAIN else kind
        spec = theirs[kind].get(id)
        reason = ""
        if not entry.aside and entry.base != digest(object_kind, spec, file):
            if spec is None and (kind == DRAIN or entry.action == REMOVE):
                continue  # it is gone altogether: nothing is left to say
            reason = (
                "the file has no such object any more"
                if spec is None
                else "the file's object has changed"
                if entry.base
                else "the file has one of its own now"
            )
            warnings.append(_aside(key, reason))
        kept[key] = replace(entry, aside=True) if reason else entry
    return kept, warnings


def _merged(
    file: Snapshot, overlay: Overlay, folder: Path, before: Composed | None, whole: Container[str] = ()
) -> tuple[Composed, dict[Key, str]]:
    """File and overlay, and which entries give no valid object and why. The file's objects come first.

    Rules with an id in ``whole`` are not made to fit: what they name that is not there is an error.
    """
    made: dict[Key, tuple[Entry, Spec, Spec]] = {}
    invalid: dict[Key, str] = {}
    objects: dict[str, dict[str, Spec]] = {
        BACKEND: {spec.id: spec for spec in file.backends},
        RULE: {spec.id: spec for spec in file.rules},
    }
    known = before.made if before is not None and before.file is file else {}
    from_api: set[Key] = set()
    for key, entry in overlay.items():
        kind, id = key
        if entry.aside or kind == DRAIN:
            continue
        theirs = objects[kind]
        if entry.action == REMOVE:
            theirs.pop(id, None)
            continue
        over = theirs.get(id) if entry.action == PATCH else None
        then = known.get(key)
        if then is not None and then[0] == entry and then[1] == over:
            spec = then[2]
        else:
            data = entry.data if over is None else {**data_of_object(kind, over, file), **entry.data}
            try:
                spec = spec_of(kind, {**data, "id": id}, file, folder)
            except ConfigError as error:
                invalid[key] = "; ".join(error.problems)
                continue
        made[key] = (entry, over, spec)
        if entry.action == PUT:
            theirs.pop(id, None)  # to the end: a clash is then the API's fault
            from_api.add(key)
        theirs[id] = spec
    backends = objects[BACKEND]
    warnings: list[str] = []
    rules: list[RuleSpec] = []
    for spec in objects[RULE].values():
        if spec.id not in whole:
            spec = _bereft(spec, backends, warnings)
            if (RULE, spec.id) in from_api and spec.listeners is not None:
                spec = _present(spec, spec.listeners, file, warnings, invalid)
        rules.append(spec)
    snapshot = replace(file, backends=tuple(backends.values()), rules=tuple(rules))
    same = before is not None and before.file is file
    of_file = before.file_digest if before is not None and same else _file_digest(file)
    composed = Composed(file, overlay, folder, snapshot, of_file, tuple(warnings), frozenset(from_api), made)
    return composed, invalid


def _bereft(spec: RuleSpec, backends: Mapping[str, BackendSpec], warnings: list[str]) -> RuleSpec:
    """The rule without backends that are not there."""
    if all(id in backends for id in spec.backends):
        return spec
    gone = ", ".join([id for id in spec.backends if id not in backends][:10])
    warnings.append(
        f"routing rule {spec.id}: backends that are not there any more: {gone}; it goes on without"
    )
    return replace(spec, backends=tuple(id for id in spec.backends if id in backends))


def _present(
    spec: RuleSpec, wanted: tuple[str, ...], file: Snapshot, warnings: list[str], invalid: dict[Key, str]
) -> RuleSpec:
    """A rule of the API without listeners that are not there."""
    here = {listener.id for listener in file.listeners}
    left = tuple(id for id in wanted if id in here)
    if not left:
        invalid[RULE, spec.id] = f"its listeners are gone: {', '.join(wanted)}"
    elif left != wanted:
        gone = ", ".join(id for id in wanted if id not in here)
        warnings.append(f"routing rule {spec.id}: listeners that are not there any more: {gone}")
    return replace(spec, listeners=left)


def _blamed(composed: Composed) -> dict[Key, str]:
    """Entries to set aside because the whole does not fit together, and why: never none if it does not."""
    active = {key: entry for key, entry in composed.overlay.items() if not entry.aside and key[0] != DRAIN}
    if not active:
        return {}
    findings = errors_of(composed.snapshot, {id for kind, id in active if kind == BACKEND})
    blamed: dict[Key, str] = {}
    for finding in findings:
        key = _key_at(finding, composed.snapshot)
        if key in active:
            blamed.setdefault(key, finding.message)
    if findings and not blamed:
        suspects = [key for key in active if key[0] == RULE] or list(active)
        said = _said(findings[0], composed.snapshot, ())
        blamed = dict.fromkeys(suspects, f"with it the configuration is not valid ({said})")
    return blamed


def _key_at(finding: Finding, snapshot: Snapshot) -> Key:
    section, *rest = finding.path
    index = rest[0] if rest and isinstance(rest[0], int) else None
    if section == "routing_rules" and index is not None:
        return RULE, snapshot.rules[index].id
    if section == "backends" and index is not None:
        return BACKEND, snapshot.backends[index].id
    return "", ""


def _said(finding: Finding, snapshot: Snapshot, mine: Container[str]) -> str:
    """A finding for somebody who knows ids, not places in a list; relative in one's ``mine`` rules."""
    kind, id = _key_at(finding, snapshot)
    message = re.sub(
        r"routing_rules\[(\d+)\]", lambda at: f"routing rule {snapshot.rules[int(at[1])].id}", finding.message
    )
    if not kind:
        return said(finding.path, message)
    rest = finding.path[2:]
    if kind == RULE and id in mine:
        return said(rest, message)
    return said((f"{NAMES[kind]} {id}", *rest), message)


def _aside(key: Key, reason: str) -> str:
    return f"{NAMES[key[0]]} {key[1]}: the change made over the API is set aside: {reason}"
