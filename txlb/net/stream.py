"""Stream transport: one connected socket on a `Loop`, driven by a protocol.

Rules:

* It offers the part of Twisted's `ITCPTransport`, `IConsumer` and `IPushProducer` that
  protocols use, so one protocol runs here, on Twisted's transports and on
  `StringTransport`.
* `write` tries `send` at once; what the kernel does not take waits in ``pending`` and
  only then is writability asked for.
* Past `HIGH_WATER` bytes pending, the registered producer is paused; it is resumed when
  all is sent.
* A client that does not take what is sent is cut off: within each ``send_timeout``
  window it must take `SEND_PROGRESS` bytes or all that waits.
* At most one `recv` of up to `READ_MAX` bytes a wake-up.
* What is written last (`write_last`) waits in the kernel for FIN, which follows at once: one packet, not two.
* FIN behind the last bytes is known with them (EPOLLRDHUP): the protocol is told (``at_end``), and the end
  of input is read in the same wake-up.
* `loseConnection` and `abortConnection` take effect when the running batch is over, so a
  protocol never hears ``connectionLost`` from inside its own call. So does FIN of our own, which a close that
  follows in the same batch makes needless.
* The kernel makes RST of a close with unread bytes, and the peer may lose what it was sent: one that may
  still be sending is closed in stages (`txlb.net.lingering`).
* End of input is a half-close: the protocol hears ``readConnectionLost`` and may go on
  writing. A reset or a failed write is ``connectionLost``, heard exactly once. A reset behind the end of
  input (Linux says EPIPE) waits until what came before is read.
* What reads, writes and ends output (`_receive`, `_transmit`, `_finish_output`) may be overridden: TLS
  (`txlb.net.tls`) shares all the rest.
* It counts the bytes that it received and sent, whoever moved them, and knows when the last ones did.
* Descriptors are read and written as such (`os.read`, `os.write`); a closed transport has none,
  so it can never touch a successor's.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from txlb.errors import SendStalled
from txlb.net.connected import ConnectedSocket
from txlb.net.loop import ENDED, ERROR, HANGUP, READ, WRITE, Loop
from txlb.net.transport import StreamProtocol, native_protocol

HIGH_WATER: Final = 65536
READ_MIN: Final = 16384
READ_MAX: Final = 131072
SEND_PROGRESS: Final = 16384
READ_FROM: Final[Any] = os.read  # a third cheaper to call than socket.recv and socket.send
WRITE_TO: Final[Any] = os.write
MORE: Final[Any] = int(getattr(socket, "MSG_MORE", 0))
SHUT_WR: Final = int(socket.SHUT_WR)
RESET_BEHIND_FIN: Final = int(errno.EPIPE)
DONE: Final = Failure(ConnectionDone())
ABORTED: Final = Failure(ConnectionAborted())
STALLED: Final = Failure(SendStalled())


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamTransport(ConnectedSocket):
    """One connected, non-blocking stream socket, read and written."""

    loop: Loop
    protocol: StreamProtocol | None
    reading: int  # the events of reading
    interest: int
    read_size: int
    disconnecting: bool
    read_closed: bool
    ending: bool  # the end of input is in sight: the peer has sent FIN
    write_closed: bool
    last: bool  # what is written now is the last: the end of output follows
    fin_due: bool
    paused: bool
    parked: bool
    pending: list[bytes]
    producer: Any
    producer_paused: bool
    streaming: bool
    send_timeout: float
    send_taken: int
    stalled: bool
    broken: bool
    whole: bool  # broken, but behind the end of input
    closing: bool
    aborting: bool
    __slots__ = tuple(__annotations__)

    def __init__(self, loop: Loop, sock: Any, peer: Any, send_timeout: float) -> None:
        """``sock`` is connected; ``peer`` its address as `socket.accept` gives it."""
        super().__init__(sock, peer)
        self.loop = loop
        loop.opened += 1
        self.number = loop.opened
        self.opened_at = self.active_at = loop.now
        self.protocol = None
        self.reading = READ | ENDED if loop.forgets_closed else READ
        self.interest = 0
        self.read_size = READ_MIN
        self.disconnecting = False
        self.read_closed = False
        self.ending = False
        self.write_closed = False
        self.last = False
        self.fin_due = False
        self.paused = False
        self.parked = False
        self.pending = []
        self.producer = None
        self.producer_paused = False
        self.streaming = True
        self.send_timeout = send_timeout
        self.send_taken = 0
        self.stalled = False
        self.broken = False
        self.whole = False
        self.closing = False
        self.aborting = False

    def start(self, protocol: Any) -> None:
        """Give the connection to ``protocol`` and begin to read."""
        self.protocol = native_protocol(protocol)
        self.interest = self.reading
        self.loop.add(self.fd, self, self.reading)
        self.protocol.makeConnection(self)

    def take_over(self, protocol: Any) -> None:
        """`start` on a descriptor that the loop watches already (a connect came through)."""
        self.protocol = native_protocol(protocol)
        self.interest = self.reading
        self.loop.handlers[self.fd] = self
        self.loop.modify(self.fd, self.reading)
        self.protocol.makeConnection(self)

    # -- the descriptor ---------------------------------------------------------------

    def _receive(self, size: int) -> bytes:
        """At most ``size`` bytes, b"" at the end of input. Raises OSError."""
        data: bytes = READ_FROM(self.handle, size)
        return data

    def _transmit(self, data: bytes) -> int:
        """How many bytes of ``data`` were taken. Raises OSError."""
        sent: int = self.sock.send(data, MORE) if self.last else WRITE_TO(self.handle, data)
        return sent

    # -- events ---------------------------------------------------------------------

    def ready(self, events: int) -> None:
        if self.closing:
            return
        if events & WRITE:
            self._writable()
        if events & READ and not self.paused and not self.read_closed:
            if self.connected and not self.closing:
                self.ending = events & ENDED != 0
                self._readable()
        elif events & (ERROR | HANGUP) and self.connected:
            self._hung_up(events)

    def failed(self, why: BaseException) -> None:
        self._lost(Failure(why))

    def _readable(self) -> None:
        self._read()

    def _writable(self) -> None:
        if self.pending_size:
            self._flush()

    def _wanted(self) -> int:
        """The events to be told of."""
        wanted = 0 if self.paused or self.read_closed else self.reading
        return wanted | WRITE if self.pending_size else wanted

    def _read(self) -> None:
        protocol = self.protocol
        if protocol is None:
            return
        try:
            data = self._receive(self.read_size)
        except BlockingIOError:
            return
        except OSError as why:
            self._lost(Failure(ConnectionLost(str(why))))
            return
        size = len(data)
        self.at_end = self.ending and 0 < size < self.read_size
        if size == 0:
            if self.broken and not self.whole:
                self._lost(Failure(ConnectionLost()))  # a reset whose error a write has met
                return
            self.read_closed = True
            self.loop.defer(self)  # most often a close follows: then there is nothing to update
            protocol.readConnectionLost()
            if self.whole:
                self._lost(Failure(ConnectionLost()))
            return
        self.taken += size
        self.active_at = self.loop.now
        if size == self.read_size:
            if size < READ_MAX:
                self.read_size = size * 2
        elif size < READ_MIN and self.read_size > READ_MIN:
            self.read_size = READ_MIN
        protocol.dataReceived(data)
        if self.at_end:
            self.at_end = False
            if self.connected and not self.paused and not self.closing:
                self._readable()  # as whoever splices from here since has it

    def _hung_up(self, events: int) -> None:
        # Both directions are shut, or the connection was reset. What the peer sent before
        # may still be unread (paused): step out of the set, for HANGUP cannot be masked.
        if events & ERROR or self.read_closed or self.broken:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == RESET_BEHIND_FIN and not self.read_closed and not self.broken:
                self.whole = True
                self._write_failed()
            elif (code or self.broken) and not self.whole:
                # After a failed write the error is gone, and a paused protocol waits for
                # nothing that could still come.
                self._lost(Failure(ConnectionLost(f"errno {code}")))
                return
            elif not self.whole and (self.write_closed or self.read_closed):
                self._lost(DONE)
                return
        self.parked = True
        self.loop.park(self.fd)

    def _update(self) -> None:
        interest = self._wanted()
        if self.parked:
            if interest:
                self.parked = False
                self.interest = interest
                self.loop.add(self.fd, self, interest)
        elif interest != self.interest:
            self.interest = interest
            self.loop.modify(self.fd, interest)

    # -- writing --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send ``data``, at once as far as the kernel takes it."""
        if not self.connected or self.disconnecting or self.write_closed or not data:
            return
        if self.pending_size:
            self.pending.append(data)
            self.pending_size += len(data)
            self._check_high_water()
            return
        try:
            sent = self._transmit(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._write_failed()
            return
        self.given += sent
        self.active_at = self.loop.now
        size = len(data)
        if sent != size:
            self.pending.append(data[sent:] if sent else data)
            self.pending_size = size - sent
            self._watch_progress()
            self._update()
            self._check_high_water()

    def write_last(self, data: bytes) -> None:
        self.last = True
        self.write(data)

    def _flush(self) -> None:
        while self.pending_size and self.connected:
            data = b"".join(self.pending) if len(self.pending) > 1 else self.pending[0]
            try:
                sent = self._transmit(data)
            except BlockingIOError:
                self.pending = [data]
                return
            except OSError:
                self._write_failed()
                return
            self.send_taken += sent
            self.given += sent
            self.active_at = self.loop.now
            self.pending_size = len(data) - sent
            self.pending = [data[sent:]] if self.pending_size else []
            if self.pending_size:
                if self.send_taken >= SEND_PROGRESS:
                    self._watch_progress()
                return
        if not self.connected:
            return
        self.deadline = 0.0
        self._update()
        if self.producer_paused:
            self.producer_paused = False
            if self.producer is not None:
                self.producer.resumeProducing()
        if self.connected and not self.pending_size:
            self._finish_output()

    def _write_failed(self) -> None:
        # The peer may have answered before it closed, and what it sent is still to be
        # read. The loss is heard from there (the descriptor now reports HANGUP for ever).
        self.pending = []
        self.pending_size = 0
        self.write_closed = True
        self.broken = True
        if self.disconnecting:
            self._close_later(False)
        else:
            self._update()

    def _watch_progress(self) -> None:
        self.send_taken = 0
        if self.send_timeout > 0.0:
            self.loop.arm(self, self.send_timeout)

    def timed_out(self, now: float) -> None:
        """The peer did not take `SEND_PROGRESS` bytes within the send time-out."""
        self.stalled = True
        self.abortConnection()

    def _check_high_water(self) -> None:
        if self.pending_size > HIGH_WATER and self.producer is not None and not self.producer_paused:
            self.producer_paused = True
            self.producer.pauseProducing()

    # -- closing --------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close once everything written is sent."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            if not self.pending_size:
                self._finish_output()

    def loseWriteConnection(self) -> None:
        """Send FIN once everything written is sent; reading goes on."""
        if self.connected and not self.write_closed:
            self.write_closed = True
            if not self.pending_size:
                self._finish_output()

    def _finish_output(self) -> None:
        """Everything is sent: close, or only our direction, if that was asked for."""
        if not self.disconnecting and not self.write_closed:
            return
        if self.last:
            self.last = False
            self._shutdown_write()  # the kernel holds back what goes with it
        elif not self.disconnecting:
            self.fin_due = True
            self.loop.defer(self)  # the same: a close sends FIN as well
        if self.disconnecting:
            self._close_later(False)

    def _shutdown_write(self) -> None:
        try:
            self.sock.shutdown(SHUT_WR)
        except OSError:
            pass  # reset meanwhile: reading will tell

    def abortConnection(self) -> None:
        """Close at once with RST; what was not sent is lost."""
        if self.connected:
            self.disconnecting = True
            self._close_later(True)

    def _close_later(self, abort: bool) -> None:
        if abort:
            self.aborting = True
        if not self.closing:
            self.closing = True
            self.loop.defer(self)

    def later(self) -> None:
        if not self.connected:
            return
        if not self.closing:
            if self.fin_due:
                self.fin_due = False
                self._shutdown_write()
            self._update()
            return
        if self.aborting:
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                pass
            self._lost(STALLED if self.stalled else ABORTED)
        else:
            self._lost(DONE)

    def _lost(self, reason: Any) -> None:
        if not self.connected:
            return
        self.connected = False
        self.pending = []
        self.pending_size = 0
        if self.filed:
            self.loop.cancel(self)
        if self.parked:
            self.loop.handlers.pop(self.fd, None)
        else:
            self.loop.remove(self.fd, True)
        self.handle = None
        self.sock.close()
        self.producer = None
        protocol = self.protocol
        self.protocol = None
        if protocol is not None:
            protocol.connectionLost(reason)

    # -- producing (we are read from) -------------------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading."""
        if not self.paused and self.connected:
            self.paused = True
            self._update()

    def resumeProducing(self) -> None:
        """Read again."""
        if self.paused and self.connected:
            self.paused = False
            self._update()

    def stopProducing(self) -> None:
        """The consumer is gone."""
        self.loseConnection()

    # -- consuming (we are written to) ------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` (an `IPushProducer`) while more than `HIGH_WATER` waits."""
        self.producer = producer
        self.streaming = streaming
        self._check_high_water()

    def unregisterProducer(self) -> None:
        """Nobody is to be paused any more; a paused producer is resumed first."""
        producer = self.producer
        self.producer = None
        if self.producer_paused:
            self.producer_paused = False
            if producer is not None:
                producer.resumeProducing()
