"""Moving a run of bytes from one socket to another without copying it through here.

Rules:

* `Splice` moves exactly ``left`` bytes from ``source`` to ``sink`` through a pipe (splice(2)),
  in order behind what was written to ``sink`` before: it moves nothing while that is pending.
* A run of `UNBOUNDED` bytes ends when it turns thin: when less than `THIN` bytes were there at once. So a
  connection holds a pipe only while it moves much.
* At most one pipe full waits: while the sink does not take it, the source is not read. The
  sink's send deadline applies as to any other write.
* The owner hears of every advance, and once of the end. A source that ends early is told as
  its protocol is used to: ``readConnectionLost`` or ``connectionLost``.
* Pipes are kept for reuse (`PipeStore`), but never one with bytes in it. There are at most `PipeStore.limit`;
  where no pipe of `PIPE_SIZE` is to be had, bytes are copied.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from txlb.net.transport import StreamProtocol

PIPE_SIZE: Final = 262144
KEPT_PIPES: Final = 64
F_SETPIPE_SZ: Final = 1031
MOVE_NONBLOCK: Final = 3  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK
SPLICE_FROM: Final = 131072  # bytes still to come that make it worth while
UNBOUNDED: Final = 1 << 62
THIN: Final = 16384


class Pipe:
    """Two descriptors."""

    reader: int
    writer: int

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class PipeStore:
    """Empty pipes of one worker."""

    enabled: bool
    kept: list[Pipe]
    open: int  # in use and kept
    limit: int
    pipe_size: int

    def __init__(self) -> None:
        self.enabled = hasattr(os, "splice")
        self.kept = []
        self.open = 0
        self.limit = KEPT_PIPES
        self.pipe_size = PIPE_SIZE

    def take(self) -> Pipe | None:
        """A pipe, or None where there is no splice(2), or all are in use."""
        if self.kept:
            return self.kept.pop()
        if not self.enabled or self.open >= self.limit:
            return None
        try:
            reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.fcntl(writer, F_SETPIPE_SZ, self.pipe_size)
        except OSError:  # beyond the user's share of memory; a small pipe is slower than copying
            os.close(reader)
            os.close(writer)
            return None
        self.open += 1
        return Pipe(reader, writer)

    def give(self, pipe: Pipe) -> None:
        """Back, empty."""
        if len(self.kept) < KEPT_PIPES and self.open <= self.limit:
            self.kept.append(pipe)
        else:
            self.drop(pipe)

    def drop(self, pipe: Pipe) -> None:
        """Close one that was taken: there are bytes in it, or too many of them."""
        self.open -= 1
        pipe.close()

    def set_limit(self, limit: int) -> None:
        """At most so many from now on; those in use stay."""
        self.limit = limit
        while self.kept and self.open > limit:
            self.drop(self.kept.pop())

    def close(self) -> None:
        """Close what is kept."""
        for pipe in self.kept:
            self.drop(pipe)
        self.kept = []


class Splice:
    """One run of bytes under way."""

    store: PipeStore
    pipe: Pipe | None
    owner: StreamProtocol
    source_fd: int
    sink_fd: int
    left: int
    held: int
    unbounded: bool
    thin: bool
    move: Any

    def __init__(
        self, store: PipeStore, pipe: Pipe, owner: StreamProtocol, source_fd: int, sink_fd: int, size: int
    ) -> None:
        self.store = store
        self.pipe = pipe
        self.owner = owner
        self.source_fd = source_fd
        self.sink_fd = sink_fd
        self.left = size
        self.held = 0
        self.unbounded = size == UNBOUNDED
        self.thin = False
        self.move = os.splice

    def pull(self) -> int:
        """Source to pipe: how many bytes, 0 at the end of input; raises OSError."""
        pipe = self.pipe
        if pipe is None:
            return 0
        size = self.left if self.left < PIPE_SIZE else PIPE_SIZE
        moved: int = self.move(self.source_fd, pipe.writer, size, None, None, MOVE_NONBLOCK)
        self.left -= moved
        self.held += moved
        self.thin = self.unbounded and moved < THIN
        return moved

    def push(self) -> int:
        """Pipe to sink: how many bytes; raises OSError."""
        pipe = self.pipe
        if pipe is None or not self.held:
            return 0
        moved: int = self.move(pipe.reader, self.sink_fd, self.held, None, None, MOVE_NONBLOCK)
        self.held -= moved
        return moved

    def release(self) -> None:
        """Give up the pipe; what it holds is lost."""
        pipe = self.pipe
        self.pipe = None
        if pipe is not None:
            if self.held:
                self.store.drop(pipe)
            else:
                self.store.give(pipe)
