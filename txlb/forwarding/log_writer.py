"""The access log's slow half: one thread that writes what it is given.

Rules:

* `put`, `reopen` and `close` are called by the reactor thread and never wait for the disk (`close`: at most
  its timeout). What is queued is bounded; a batch beyond the bound is refused.
* Whole lines only, appended (O_APPEND) in writes that end at the end of a line, so that several processes may
  share one file. ``-`` is descriptor 1, which is not ours to close.
* A file that cannot be opened or written costs lines (``lost``), never more; ``take_problem`` tells why,
  once, and the next `reopen` tries again.
"""

from __future__ import annotations

import os
import select
from queue import SimpleQueue
from threading import Thread
from typing import Final

QUEUED_LINES: Final = 65_536  # about 25 MB; more than a second at any rate that one worker serves
LINES_PER_WRITE: Final = 128  # joined at a time, while holding the interpreter's lock
MODE: Final = 0o640
STDOUT: Final = 1


class LogWriter:
    """Appends to ``path``."""

    def __init__(self, path: str, queued_lines: int = QUEUED_LINES) -> None:
        self.lost = 0  # written by the thread only
        self._path = path
        self._limit = queued_lines
        self._accepted = 0  # written by the reactor thread only
        self._finished = 0  # written by the thread only: lines written or lost
        self._closing = False
        self._problem = ""
        self._queue: SimpleQueue[list[str] | bool] = SimpleQueue()  # lines; True = reopen; False = end
        self._fd = -1
        self._open()
        self._thread = Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    # The reactor thread

    def put(self, lines: list[str]) -> bool:
        """Queue whole lines; False if there is no room. The list is the writer's from now on."""
        if self._accepted - self._finished + len(lines) > self._limit:
            return False
        self._accepted += len(lines)
        self._queue.put(lines)
        return True

    def reopen(self) -> None:
        """What was queued before still goes to the old file."""
        self._queue.put(True)

    def close(self, timeout: float) -> bool:
        """Write what is queued, for at most ``timeout`` seconds; False if something was left."""
        self._queue.put(False)
        self._thread.join(timeout / 2)
        self._closing = True  # gives up on a pipe that nobody reads
        self._thread.join(timeout / 2)
        return self._finished == self._accepted

    def take_problem(self) -> str:
        """The last failure, once, for the daemon's log; else ""."""
        problem, self._problem = self._problem, ""
        return problem

    # The thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is False:
                break
            if item is True:
                self._reopen()
                continue
            for start in range(0, len(item), LINES_PER_WRITE):
                lines = item[start : start + LINES_PER_WRITE]
                if not self._write("".join(lines).encode()):
                    self.lost += len(lines)
                self._finished += len(lines)
        self._close_file()

    def _write(self, data: bytes) -> bool:
        if self._fd < 0:
            return False
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the pipe non-blocking
                if self._closing:
                    return False
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(200)
            except OSError as why:
                self._problem = f"access log {self._path}: {why.strerror}"
                return False
        return True

    def _reopen(self) -> None:
        if self._path == "-":
            return
        old = self._fd
        if self._open() and old >= 0:
            os.close(old)

    def _open(self) -> bool:
        """Keeps the file that is open if the new one will not open."""
        if self._path == "-":
            self._fd = STDOUT
            return True
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        except OSError as why:
            self._problem = f"access log {self._path}: {why.strerror}"
            return False
        return True

    def _close_file(self) -> None:
        if self._fd >= 0 and self._path != "-":
            os.close(self._fd)
        self._fd = -1
