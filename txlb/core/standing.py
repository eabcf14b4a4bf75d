"""What control has decided about one backend, as every worker is told: does it get traffic?

Rules:

* Observed health and the operator's will are two things; neither overwrites the other.
* A backend nobody said anything about is healthy and not drained: only other standings travel.
* ``drain_until`` is a moment of the monotonic clock, which all processes of a host share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Standing:
    """One backend's; equal standings change nothing."""

    backend_id: str
    healthy: bool = True
    drained: bool = False
    drain_until: float | None = None  # monotonic seconds: what is still open then is cut off; None = never

    @property
    def is_default(self) -> bool:
        return self.healthy and not self.drained

    def to_row(self) -> list[Any]:
        """For the link."""
        return [self.backend_id, self.healthy, self.drained, self.drain_until]


def standings_of(rows: Sequence[Sequence[Any]]) -> list[Standing]:
    """The reading side of `Standing.to_row`."""
    return [Standing(*row) for row in rows]
