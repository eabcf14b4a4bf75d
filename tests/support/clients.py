"""Ordinary clients that keep asking while a test does something to txlb."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Self

from support.wire import Ended, Wire


class Clients:
    """Each opens a new connection for every request, one request after the other."""

    def __init__(self, port: int, count: int, path: str = "/new") -> None:
        self.port = port
        self.path = path
        self.outcomes: Counter[str] = Counter()  # status codes, or what went wrong
        self.seconds: list[float] = []  # from connecting to the end of the answer
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self.outcomes.values())

    @property
    def slowest(self) -> float:
        return max(self.seconds)

    def percentile(self, share: float) -> float:
        """Seconds that this share of the answers did not exceed."""
        return sorted(self.seconds)[int(len(self.seconds) * share)]

    def forget_times(self) -> None:
        """`seconds` begins anew; `outcomes` go on."""
        with self._lock:
            self.seconds.clear()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                with Wire.to(self.port) as client:
                    answer = client.ask(f"GET {self.path} HTTP/1.1\nHost: a\nConnection: close")
                    outcome = str(answer.status)
            except (OSError, Ended) as failure:
                outcome = type(failure).__name__
            with self._lock:
                self.outcomes[outcome] += 1
                self.seconds.append(time.monotonic() - began)
