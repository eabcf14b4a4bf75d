"""Doubt about a backend: what is told to control, and when this worker stops choosing it by itself.

Rules:

* A failed connect is told at once (and `txlb.core.backend` avoids the backend for a while).
* A failure after a request was sent is told too, but may be the request's fault: this worker avoids the
  backend only after `IN_A_ROW` of them, from at least two clients, without a good answer in between.
  So one client with one poisonous request takes nobody out.
* A backend is *overdue* when its oldest unanswered request is older than ``suspect_after`` although its
  siblings answered something since that was asked. That is told at once, and again after a pause that
  doubles up to `MOST_PATIENCE` as long as it lasts: some requests just take long.
* Nothing here has a clock, and nothing is kept for a backend that nobody doubts.
"""

from __future__ import annotations

from typing import Final, final

IN_A_ROW: Final = 3
MOST_PATIENCE: Final = 5.0

#: What control is told, besides the names of `txlb.core.outcome`.
OVERDUE: Final = "overdue"


@final
class Doubt:
    """Failures in a row of one backend, and since when it is overdue."""

    failures: int
    client: str  # who met the first
    several: bool  # another client met one too
    next_told: float  # overdue: when to tell it again; 0.0 = never told
    patience: float

    def __init__(self) -> None:
        self.failures = 0
        self.client = ""
        self.several = False
        self.next_told = 0.0
        self.patience = 0.0

    def failed(self, client: str) -> bool:
        """A request of ``client`` was sent and failed; True: that is too much."""
        if self.failures == 0:
            self.client = client
        elif client != self.client:
            self.several = True
        self.failures += 1
        return self.several and self.failures >= IN_A_ROW

    def answered(self) -> None:
        """A good answer: what failed before were the requests."""
        self.failures = 0
        self.several = False

    def overdue(self, suspect_after: float, now: float) -> bool:
        """It is; True: tell it."""
        if self.next_told == 0.0:
            self.patience = suspect_after
        elif now < self.next_told:
            return False
        else:
            self.patience = min(MOST_PATIENCE, 2 * self.patience)
        self.next_told = now + self.patience
        return True

    def timely(self) -> None:
        """It is not (any more)."""
        self.next_told = 0.0


def is_overdue(asked_at: float, siblings_answered_at: float, suspect_after: float, now: float) -> bool:
    """The oldest unanswered request was sent at ``asked_at`` (0.0 = there is none)."""
    return 0.0 < asked_at <= now - suspect_after and siblings_answered_at > asked_at
