"""How much a worker grows while something goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.balancer import Balancer, resident

#: How much a worker may grow while bodies or streams pass.
ALLOWED = 20 << 20


class Watched:
    """Resident bytes of the one worker."""

    def __init__(self, before: int) -> None:
        self.before = self.peak = before


@contextmanager
def flat(balancer: Balancer) -> Iterator[Watched]:
    """Fails if the worker grows by more than `ALLOWED` at any moment meanwhile."""
    (worker,) = balancer.worker_pids()
    watched = Watched(resident(worker))
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.02):
            watched.peak = max(watched.peak, resident(worker))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield watched
    finally:
        stopping.set()
        watching.join()
    assert balancer.worker_pids() == [worker]
    grown = watched.peak - watched.before
    assert grown <= ALLOWED, f"grew by {grown >> 20} MiB"
