"""TLS on a connected socket: the handshake, and the stream transport that follows it.

Rules:

* A `TlsTransport` is a `StreamTransport` in all but how bytes are read, written and how output ends:
  back-pressure, send deadlines, half-close and closing are the same.
* Reads ask for a whole record (`RECORD`) or more: less would leave decrypted bytes inside OpenSSL, where no
  poll sees them. At most `RECORDS` of them a wake-up.
* Writes go on until all is taken or there is no room; what is left is retried with the same bytes in front.
* What a read or a write waits for (OpenSSL may need the other direction) is what the loop is asked for.
* Output ends with close_notify, behind everything that was written, then FIN. A client's FIN without
  close_notify is a half-close like any other; a backend's is an end of which `is_truncated` says that it may
  have come too early (after it OpenSSL takes no more output).
* `end_short` is FIN without close_notify: so the peer knows that more should have come.
* Nothing is spliced: the kernel would move ciphertext.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr
from OpenSSL import SSL

from txlb.net.loop import READ, WRITE, Loop
from txlb.net.openssl import DONE, FAILED, RECORD, decrypt, encrypt, engine_of, handshake
from txlb.net.stream import StreamTransport

RECORDS: Final = 8
UNEXPECTED_EOF: Final = -1
TCP_CORK: Final[Any] = int(getattr(socket, "TCP_CORK", 3))

ERROR: Final[Any] = SSL.Error
WANT_READ_ERROR: Final[Any] = SSL.WantReadError
WANT_WRITE_ERROR: Final[Any] = SSL.WantWriteError
ZERO_RETURN_ERROR: Final[Any] = SSL.ZeroReturnError
SYSTEM_ERROR: Final[Any] = SSL.SysCallError

# How far saying goodbye has come
NOT_YET: Final = 0
NO_ROOM: Final = 1
SAID: Final = 2


@mypyc_attr(allow_interpreted_subclasses=True)
class Handshake:
    """One handshake on ``tls`` (an OpenSSL Connection); callbacks of its context find it as app data."""

    tls: Any
    engine: Any
    refused: str  # a callback has decided against this peer, and why
    problem: str  # why it failed
    realm: int  # server side: whose rules the client came in under

    def __init__(self, tls: Any) -> None:
        self.tls = tls
        self.engine = engine_of(tls)
        self.refused = ""
        self.problem = ""
        self.realm = 0
        tls.set_app_data(self)

    def step(self) -> int:
        """Go on as far as the peer lets us."""
        result = DONE
        try:
            result = handshake(self.tls, self.engine)
        except SYSTEM_ERROR:
            self.problem = "connection closed"
            result = FAILED
        except ERROR as why:
            self.problem = reason_of(why)
            result = FAILED
        if self.refused:
            self.problem = self.refused
            result = FAILED
        if result == DONE or result == FAILED:
            self.tls.set_app_data(None)  # it holds us, and we hold it
        return result


@mypyc_attr(allow_interpreted_subclasses=True)
class SessionStore:
    """Who wants to resume later what was negotiated once."""

    def keep(self, tls: Any) -> None:
        """``tls`` has received something: the session tickets that come first are in."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Origin(SessionStore):
    """A backend that is spoken to in TLS (`txlb.net.tls_origin`)."""

    def connection(self, sock: Any) -> Any:
        """An OpenSSL connection on a socket that is connected."""
        raise NotImplementedError

    def accepts(self, tls: Any) -> bool:
        """The handshake is done: is this whom we expect?"""
        raise NotImplementedError

    def failed(self, problem: str) -> None:
        """A handshake came to nothing."""

    def take_problem(self, now: float) -> str:
        """What to tell the operator now; "" if there is nothing, or nothing new."""
        return ""


class TlsTransport(StreamTransport):
    """One connected, non-blocking stream socket after its handshake."""

    tls: Any
    engine: Any
    sessions: SessionStore | None
    truncated: bool
    read_wants_write: bool
    write_wants_read: bool
    farewell: int
    short: bool  # there is no saying goodbye
    last_size: int

    def __init__(self, loop: Loop, sock: Any, peer: Any, send_timeout: float, tls: Any) -> None:
        super().__init__(loop, sock, peer, send_timeout)
        self.reading = READ  # the end of input is a record, not FIN
        self.tls = tls
        self.engine = engine_of(tls)
        self.sessions = None
        self.truncated = False
        self.read_wants_write = False
        self.write_wants_read = False
        self.farewell = NOT_YET
        self.short = False
        self.last_size = 0

    # -- the descriptor ---------------------------------------------------------------

    def _receive(self, size: int) -> bytes:
        try:
            data = decrypt(self.tls, self.engine)
        except WANT_READ_ERROR:
            raise BlockingIOError from None
        except WANT_WRITE_ERROR:
            self.read_wants_write = True
            raise BlockingIOError from None
        except ZERO_RETURN_ERROR:
            return b""
        except SYSTEM_ERROR as why:
            if why.args[0] == UNEXPECTED_EOF:
                self.truncated = True
                return b""
            raise ConnectionResetError(str(why)) from None
        except ERROR as why:
            raise ConnectionAbortedError(reason_of(why)) from None
        self.last_size = len(data)
        sessions = self.sessions
        if sessions is not None:
            self.sessions = None
            sessions.keep(self.tls)
        return data

    def _transmit(self, data: bytes) -> int:
        size = len(data)
        sent = 0
        piece: Any = data
        while True:
            try:
                taken = encrypt(self.tls, self.engine, piece, size - sent)
            except WANT_WRITE_ERROR:
                return sent
            except WANT_READ_ERROR:
                self.write_wants_read = True
                return sent
            except ERROR as why:
                raise ConnectionAbortedError(reason_of(why)) from None
            sent += taken
            if sent == size:
                return sent
            piece = memoryview(data)[sent:]

    def write_last(self, data: bytes) -> None:
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_CORK, 1)  # OpenSSL writes without flags
        except OSError:
            pass  # no TCP
        super().write_last(data)

    # -- events -----------------------------------------------------------------------

    def ready(self, events: int) -> None:
        if self.closing:
            return
        crossed = False
        if self.read_wants_write and events & WRITE:
            self.read_wants_write = False
            events |= READ
            crossed = True
        if self.write_wants_read and events & READ:
            self.write_wants_read = False
            events |= WRITE
            crossed = True
        super().ready(events)
        if (crossed or self.read_wants_write) and self.connected:
            self._update()

    def _readable(self) -> None:
        for _ in range(RECORDS):
            self.last_size = 0
            self._read()
            if self.last_size < RECORD or self.paused or self.closing or not self.connected:
                return

    def _writable(self) -> None:
        if self.pending_size:
            self._flush()
        elif self.farewell == NO_ROOM:
            self._finish_output()

    def _wanted(self) -> int:
        wanted = 0 if self.paused or self.read_closed or self.read_wants_write else READ
        if self.pending_size:
            wanted |= READ if self.write_wants_read else WRITE
        if self.read_wants_write or self.farewell == NO_ROOM:
            wanted |= WRITE
        return wanted

    # -- closing ------------------------------------------------------------------------

    def _finish_output(self) -> None:
        if not self.disconnecting and not self.write_closed:
            return
        if self.farewell != SAID:
            waited = self.farewell == NO_ROOM
            if self.short:
                self.tls.set_shutdown(SSL.SENT_SHUTDOWN)  # it is no bad session for that
            elif not self.broken:
                try:
                    self.tls.shutdown()
                except WANT_WRITE_ERROR:
                    if not waited:
                        self.farewell = NO_ROOM
                        self._watch_progress()
                        self._update()
                    return
                except ERROR:
                    pass  # it is dead already: reading will tell
            self.farewell = SAID
            if waited:
                self.deadline = 0.0
                self._update()
        super()._finish_output()

    def _lost(self, reason: Any) -> None:
        tls = self.tls
        if tls is not None and self.farewell != SAID:
            tls.set_shutdown(SSL.SENT_SHUTDOWN)  # else OpenSSL takes the session for a bad one
        super()._lost(reason)
        self.tls = None
        self.engine = None

    def is_truncated(self) -> bool:
        return self.truncated

    def end_short(self) -> bool:
        self.short = True
        self.loseWriteConnection()
        return True


def reason_of(why: BaseException) -> str:
    """What OpenSSL says, in its words; "" if it says nothing (a connection that was dead before)."""
    try:
        return "; ".join(str(entry[2]) for entry in why.args[0])
    except (IndexError, TypeError):
        return str(why)
