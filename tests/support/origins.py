"""Origin servers that do exactly what a test says, and write down what they were sent.

Rules:

* An `Origin` listens from the start, so that its port is its own; it accepts while it is `serving`.
* Its script is a function called once per connection, in a thread, with a `Visit`. What the script reads
  through `Visit.request` is recorded, in order, in ``visits``.
* At the end of ``with origin.serving(…)`` every connection is closed and every thread has ended; an
  exception in a script fails the test, apart from the peer's leaving (`Ended`, reset): that is recorded.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from support.wire import Ended, Message, Wire, ok

#: Until when something must have been seen.
PATIENCE = 20.0


class Visit(Wire):
    """One connection to an origin, and what was read on it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.requests: list[Message] = []
        self.left: str | None = None  # how the peer left, if the script met that: "closed" or "reset"
        self.over = threading.Event()

    def request(self) -> Message:
        message = super().request()
        self.requests.append(message)
        return message

    def note(self, message: Message) -> Message:
        """Record a request read by hand."""
        self.requests.append(message)
        return message


Script = Callable[[Visit], None]


def answering(make: Callable[[Message], bytes]) -> Script:
    """A script that answers every request with ``make(request)``, for as long as the peer asks."""

    def script(visit: Visit) -> None:
        while True:
            visit.send(make(visit.request()))

    return script


def echo(message: Message) -> bytes:
    """200 with method, target and size of the body."""
    return ok(f"{message.method} {message.target} {len(message.body)}".encode())


class Origin:
    """One scripted origin."""

    def __init__(self, backlog: int = 1024) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self._sock.settimeout(0.05)
        self.port: int = self._sock.getsockname()[1]
        self.visits: list[Visit] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    @property
    def requests(self) -> list[Message]:
        """All requests so far, connection by connection."""
        return [message for visit in list(self.visits) for message in visit.requests]

    @contextmanager
    def serving(self, script: Script) -> Iterator[Self]:
        """Serve with ``script`` while the block runs."""
        self.visits = []
        failures: list[BaseException] = []
        threads: list[threading.Thread] = []
        stopping = threading.Event()

        def visited(visit: Visit) -> None:
            try:
                script(visit)
            except Ended:
                visit.left = "closed"
            except (ConnectionResetError, BrokenPipeError):
                visit.left = "reset"
            except OSError:
                if not stopping.is_set():
                    raise
            except BaseException as failure:
                if not stopping.is_set():
                    failures.append(failure)
            finally:
                visit.over.set()
                visit.close()

        def accepting() -> None:
            while not stopping.is_set():
                try:
                    sock, _ = self._sock.accept()
                except TimeoutError:
                    continue
                visit = Visit(sock)
                self.visits.append(visit)
                thread = threading.Thread(target=visited, args=(visit,), daemon=True)
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=accepting, daemon=True)
        acceptor.start()
        try:
            yield self
        finally:
            stopping.set()
            acceptor.join(PATIENCE)
            for visit in self.visits:
                try:
                    visit.sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
                except OSError:
                    pass
            for thread in threads:
                thread.join(PATIENCE)
            alive = [thread for thread in threads if thread.is_alive()]
            self._drain()
        assert not alive, "a script does not end"
        if failures:
            raise failures[0]

    def _drain(self) -> None:
        """Close what came but was never accepted, so that it is not the next test's first visit."""
        self._sock.setblocking(False)
        try:
            while True:
                self._sock.accept()[0].close()
        except OSError:
            pass
        self._sock.settimeout(0.05)

    def visit(self, index: int = 0) -> Visit:
        """The ``index``-th connection, waited for."""
        eventually(lambda: len(self.visits) > index, "a connection to the origin")
        return self.visits[index]


def eventually(check: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait until ``check`` is true."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)
