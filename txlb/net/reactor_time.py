"""A reactor that keeps time when the system's clock is set.

Twisted's reactors go by the time of day: set back by an hour, they do for an hour nothing that was scheduled.

Rules:

* From `use_monotonic_time` on a reactor tells `time.monotonic`; what is scheduled already comes when it would
  have.
* It is for twistd's reactor; a worker's, `LoopReactor`, does so by itself. An embedder's is left alone.
"""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_time(reactor: Any) -> None:
    """See the module."""
    now = reactor.seconds()
    reactor.seconds = time.monotonic
    for call in reactor.getDelayedCalls():
        left = call.getTime() - now
        call.seconds = time.monotonic
        call.reset(max(0.0, left))
