"""What control needs of its workers: child processes (`Supervisor`) or one plane inside (`LocalWorker`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txlb.core.delta import encode_delta
from txlb.core.model import Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import encode
from txlb.core.standing import Standing

#: What workers noticed of backends: (backend id, reason).
Reports = Sequence[tuple[str, str]]
OnReports = Callable[[Reports], None]
SMALL = 4096  # bytes of a delta that is always worth sending


@dataclass(frozen=True, slots=True)
class Publication:
    """One generation as workers get it."""

    snapshot: Snapshot
    columns: Columns
    delta: bytes = b""  # what a worker needs that runs generation ``base``; "" if that is not much less
    base: int = 0
    _encoded: list[bytes] = field(default_factory=list, compare=False, repr=False)  # once it is made

    @property
    def encoded(self) -> bytes:
        """The whole. After a small change it is made when a worker starts: nobody else needs it."""
        if not self._encoded:
            self._encoded.append(b"".join(encode(self.snapshot, self.columns)))
        return self._encoded[0]

    @classmethod
    def of(cls, snapshot: Snapshot, columns: Columns, previous: Publication | None = None) -> Publication:
        """With the bytes, and the difference to ``previous`` if that is worth having. Slow: for a thread."""
        if previous is None:
            publication = cls(snapshot, columns)
        else:
            before = (previous.snapshot, previous.columns)
            delta = b"".join(encode_delta(before, (snapshot, columns)))
            publication = cls(snapshot, columns, delta, previous.snapshot.generation)
            if len(delta) <= SMALL:
                return publication
            if len(delta) * 2 > len(publication.encoded):
                publication = replace(publication, delta=b"")
        _ = publication.encoded  # made here, in the thread
        return publication


class Fleet(Protocol):
    """All the workers of this txlb."""

    restarts: int

    def start(self) -> None:
        """Spawn; they serve once something is published. Raises OSError if that cannot work."""

    def publish(self, publication: Publication) -> Deferred[None]:
        """Make this generation the one everybody runs; fires when every live worker does."""

    def set_standings(self, changes: Sequence[Standing]) -> None:
        """Tell every worker; one that starts later is told too."""

    def acknowledged(self) -> int:
        """The lowest generation that any live worker runs; dead ones start with the latest."""

    def up(self) -> list[bool]:
        """By worker: does it serve?"""

    def reopen_logs(self) -> None:
        """Workers open their access log again."""

    def connections(self, worker: int, after: int, limit: int) -> Deferred[list[dict[str, Any]]]:
        """Client connections of one worker by descriptor above ``after``; none of one that does not serve.

        Fails with `LinkError` if it does not answer.
        """

    def shutdown(self, timeout: float) -> Deferred[None]:
        """Stop accepting, finish what is in flight, end; fires when all did, at worst after ``timeout``."""

    def kill(self) -> None:
        """End at once."""
