"""A stream transport that can hand a run of bytes to another in the kernel.

Rules:

* While it is a source, what arrives goes to the sink unseen; the protocol hears how much
  (`StreamProtocol.spliced`), and of the end as ever.
* While the sink does not take what the pipe holds, or what was written to it before, the source is not read.
* Behind a run of known length the next read is a small one: what is read is copied.
* Whatever ends one of the two ends the splice; bytes still in the pipe are then lost, as
  bytes in a send buffer are.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from txlb.net.loop import WRITE, Loop
from txlb.net.splice import Splice
from txlb.net.stream import READ_MIN, SEND_PROGRESS, StreamTransport
from txlb.net.transport import StreamProtocol, Transport


class SplicingTransport(StreamTransport):
    """What accepted and opened connections run on."""

    outgoing: Splice | None  # we are its source
    incoming: Splice | None  # we are its sink
    spliced_from: SplicingTransport | None
    spliced_to: SplicingTransport | None
    __slots__ = tuple(__annotations__)

    def __init__(self, loop: Loop, sock: Any, peer: Any, send_timeout: float) -> None:
        super().__init__(loop, sock, peer, send_timeout)
        self.outgoing = None
        self.incoming = None
        self.spliced_from = None
        self.spliced_to = None

    def splice_to(self, sink: Transport, size: int, owner: StreamProtocol) -> bool:
        """Move the next ``size`` bytes that arrive here to ``sink``; False if that cannot be."""
        if not isinstance(sink, SplicingTransport):
            return False
        if sink.incoming is not None or sink.write_closed or self.outgoing is not None:
            return False
        if not self.connected or not sink.connected or self.closing or sink.disconnecting:
            return False
        pipe = self.loop.pipes.take()
        if pipe is None:
            return False
        splice = Splice(self.loop.pipes, pipe, owner, self.fd, sink.fd, size)
        if not splice.unbounded:
            self.read_size = READ_MIN  # behind it comes another message's head, and a body not to be copied
        self.outgoing = splice
        self.spliced_to = sink
        sink.incoming = splice
        sink.spliced_from = self
        if sink.pending_size:
            self._update()
        return True

    # -- events -----------------------------------------------------------------------

    def _readable(self) -> None:
        if self.outgoing is None:
            self._read()
        else:
            self._pull(self.outgoing)

    def _writable(self) -> None:
        if self.pending_size:
            self._flush()
            source = self.spliced_from
            if source is not None and not self.pending_size:
                source._update()
        elif self.incoming is not None:
            self._push(self.incoming)

    def _wanted(self) -> int:
        wanted = super()._wanted()
        if self.outgoing is not None and (self.outgoing.held or self._must_wait()):
            wanted &= WRITE
        if self.incoming is not None and self.incoming.held:
            wanted |= WRITE
        return wanted

    def _must_wait(self) -> bool:
        sink = self.spliced_to
        return sink is not None and sink.pending_size > 0

    def _pull(self, splice: Splice) -> None:
        if splice.held or self._must_wait():
            return  # an event from before it was so
        try:
            moved = splice.pull()
        except BlockingIOError:
            return
        except OSError as why:
            self._end_splice()
            self._lost(Failure(ConnectionLost(str(why))))
            return
        if moved == 0:
            self._end_splice()
            self._read()
            return
        self.taken += moved
        self.active_at = self.loop.now
        splice.owner.spliced(moved)
        sink = self.spliced_to
        if sink is not None and self.outgoing is splice:
            sink._push(splice)

    def _push(self, splice: Splice) -> None:
        source = self.spliced_from
        if source is None or not self.connected:
            return
        was_held = self.interest & WRITE != 0
        try:
            pushed = splice.push()
            self.send_taken += pushed
            self.given += pushed
            self.active_at = self.loop.now
        except BlockingIOError:
            pass
        except OSError:
            source._end_splice()
            source._update()
            self._write_failed()
            return
        if splice.held:
            if not was_held or self.send_taken >= SEND_PROGRESS:
                self._watch_progress()
        else:
            self.deadline = 0.0
            if not splice.left or splice.thin:
                source._end_splice()
                source._update()
                self._update()
                splice.owner.splice_ended()
                return
        if was_held != (splice.held != 0):
            source._update()
            self._update()

    def _end_splice(self) -> None:
        splice = self.outgoing
        sink = self.spliced_to
        self.outgoing = None
        self.spliced_to = None
        if sink is not None:
            sink.incoming = None
            sink.spliced_from = None
        if splice is not None:
            splice.release()

    def _drop_splices(self) -> None:
        self._end_splice()
        source = self.spliced_from
        if source is not None:
            source._end_splice()
            source._update()

    def _lost(self, reason: Any) -> None:
        self._drop_splices()
        super()._lost(reason)

    def abortConnection(self) -> None:
        self._drop_splices()
        super().abortConnection()

    def is_backed_up(self) -> bool:
        # A stalled one has lost its splice already, its protocol is only yet to hear of it.
        return self.stalled or self.pending_size > 0 or (self.incoming is not None and self.incoming.held > 0)
