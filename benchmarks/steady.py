"""Kept-alive clients at a steady pace, and what each of their requests came to.

Rules:

* Each client has one connection and one request at a time; it opens another when that one is gone.
* Each has a time of its own within ``pause`` and keeps to it, also after it had to wait: what all of them ask
  stays spread evenly, whatever held some of them up together.
* A request is ``ok`` (a whole 200), ``cut`` (its answer had begun and broke off), or else what went wrong.
* They run in a thread of their own; `stop` waits for the requests under way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass
from math import ceil
from types import TracebackType
from typing import Self

OK, CUT = "ok", "cut"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it was sent, how long it took, what came of it."""

    at: float
    seconds: float
    outcome: str


def next_time(due: float, pause: float, now: float) -> float:
    """The next of a client's own times, ``due`` being the last one; those that went by are left out."""
    return due + pause * max(1, ceil((now - due) / pause))


class SteadyClients:
    """``count`` clients that ask for ``path`` every ``pause`` seconds."""

    def __init__(
        self, port: int, count: int = 64, pause: float = 0.1, path: str = "/", patience: float = 20.0
    ) -> None:
        self.port = port
        self.count = count
        self.pause = pause
        self.patience = patience
        self.request = f"GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()
        self.asked: list[Asked] = []
        self._stopping = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends after ``patience`` at most."""
        self._stopping = True
        self._thread.join()

    def outcomes(self, since: float = 0.0) -> Counter[str]:
        return Counter(one.outcome for one in self.asked if one.at >= since)

    def slowest(self, since: float = 0.0) -> float:
        return max((one.seconds for one in self.asked if one.at >= since), default=0.0)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self.count)))

    async def _client(self, number: int) -> None:
        due = time.monotonic() + self.pause * number / self.count
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self._stopping:
                break
            began = time.monotonic()
            outcome = "connect"
            heard: list[bytes] = []
            try:
                async with asyncio.timeout(self.patience):
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", self.port)
                    outcome = "closed"
                    outcome = await self._ask(*streams, heard)
            except TimeoutError:
                outcome = "timeout"
            except (OSError, asyncio.IncompleteReadError):
                if heard:
                    outcome = CUT
            if outcome not in (OK, "502", "503", "504") and streams is not None:
                streams[1].close()
                streams = None
            now = time.monotonic()
            self.asked.append(Asked(began, now - began, outcome))
            due = next_time(due, self.pause, now)
        if streams is not None:
            streams[1].close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[bytes]
    ) -> str:
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        status = head[9:12].decode("latin-1")
        size = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        await reader.readexactly(size)
        return OK if status == "200" else status
