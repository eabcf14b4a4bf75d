"""The configuration in force: the file, the overlay over it, and the revision in the store.

Rules:

* What changes the overlay is committed to the store before it is in force; what the store refuses changes
  nothing.
* Entries that a new file sets aside are marked in the store, too. If that fails, the file wins all the same
  and the log says so: a broken store never stops a reload.
* A removed backend is ``leaving`` until nothing of it is open: no rule has it any more, but workers know it,
  and its id is taken. The store forgot it at once.
* The ETag names the revision and the file, so it is the same after a restart with the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from txlb.config.overlay import Composed, Entry, Key, compose
from txlb.core.model import BackendSpec, Snapshot
from txlb.errors import RevisionMismatch, StoreError


@dataclass(slots=True)
class Leaving:
    """A removed backend that still has something open. ``until``: seconds of `time.monotonic`."""

    spec: BackendSpec
    until: float


@dataclass(slots=True)
class Draft:
    """What may become the configuration in force; changes are tried on it one after another."""

    composed: Composed
    leaving: dict[str, Leaving] = field(default_factory=dict)

    @property
    def snapshot(self) -> Snapshot:
        """What workers get, names not resolved."""
        snapshot = self.composed.snapshot
        if not self.leaving:
            return snapshot
        gone = tuple(one.spec for one in self.leaving.values())
        return replace(snapshot, backends=(*snapshot.backends, *gone))

    def take(self, composed: Composed, until: float) -> None:
        """``composed`` comes next; what it lacks leaves until then, what it has again stays."""
        after = {spec.id for spec in composed.snapshot.backends}
        for spec in self.composed.snapshot.backends:
            if spec.id not in after:
                self.leaving[spec.id] = Leaving(spec, until)
        for id in [id for id in self.leaving if id in after]:
            del self.leaving[id]
        self.composed = composed


class Configuration:
    """File, overlay and revision. ``store`` provides `IStore`."""

    log = Logger()

    def __init__(self, file: Snapshot, folder: Path, store: Any) -> None:
        self.store = store
        self.composed = compose(file, {}, folder)
        self.leaving: dict[str, Leaving] = {}
        self.revision = 0
        self._committing = False
        self._stored: Mapping[Key, Entry] = {}  # what the store has

    @property
    def etag(self) -> str:
        return f'"{self.revision}-{self.composed.file_digest}"'

    def draft(self) -> Draft:
        return Draft(self.composed, dict(self.leaving))

    @property
    def snapshot(self) -> Snapshot:
        """What workers get, names not resolved."""
        return self.draft().snapshot

    @property
    def committing(self) -> bool:
        """Whether what the store tells of is our own commit."""
        return self._committing

    async def stored(self, file: Snapshot) -> Composed:
        """``file`` with what the store has now, which is from here on our revision."""
        self.revision, objects = await self.store.load()
        overlay: dict[Key, Entry] = {}
        for name, value in objects.items():
            kind, _, id = name.partition("/")
            try:
                overlay[kind, id] = Entry(**value)
            except TypeError as error:
                raise StoreError(f"the store has an entry {name} that cannot be read: {error}") from error
        self._stored = overlay
        return compose(file, overlay, self.composed.folder)

    def with_file(self, file: Snapshot) -> Composed:
        """What another file makes of it. Slow; safe in a thread."""
        return compose(file, self.composed.overlay, self.composed.folder, self.composed)

    async def commit(self, draft: Draft) -> None:
        """To the store. Fails with `StoreError`, and then nothing has changed; else `adopt` comes next."""
        changes = _changes(self._stored, draft.composed.overlay)
        if changes:
            self._committing = True
            try:
                self.revision = await self.store.commit(changes, self.revision)
            except RevisionMismatch as error:
                raise StoreError(f"the store was changed by somebody else: {error}") from error
            finally:
                self._committing = False
            self._stored = draft.composed.overlay

    async def keep(self, draft: Draft) -> None:
        """To the store, if that can be done; the configuration goes on either way."""
        try:
            await self.commit(draft)
        except StoreError as error:
            self.log.error("{error}; what the file won over is not marked there", error=error)

    def adopt(self, draft: Draft) -> None:
        """It is in force."""
        for warning in draft.composed.warnings:
            if warning not in self.composed.warnings:
                self.log.warn("{warning}", warning=warning)
        self.composed = draft.composed
        self.leaving = draft.leaving


def _changes(before: Mapping[Key, Entry], after: Mapping[Key, Entry]) -> dict[str, Any]:
    changes: dict[str, Any] = {"/".join(key): None for key in before if key not in after}
    for key, entry in after.items():
        if before.get(key) != entry:
            changes["/".join(key)] = asdict(entry)
    return changes
