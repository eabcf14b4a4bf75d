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
* Nothing is spliced: the kernel would move ciphertext.
* Records are read and written by OpenSSL's own calls: pyOpenSSL's methods for that are interpreted, and
  took 2 of 7 microseconds for a small request and its answer. Errors are still told by its exceptions. A
  version of it without what this needs (`DIRECT`) is used by its methods.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr
from OpenSSL import SSL

from txlb.net.loop import READ, WRITE, Loop
from txlb.net.stream import StreamTransport

LIB: Final[Any] = getattr(SSL, "_lib", None)
FFI: Final[Any] = getattr(SSL, "_ffi", None)
DIRECT: Final = FFI is not None and hasattr(LIB, "SSL_read") and hasattr(SSL.Connection, "_raise_ssl_error")

RECORD: Final = 16384
RECORDS: Final = 8
UNEXPECTED_EOF: Final = -1
SSL_READ: Final[Any] = LIB.SSL_read if DIRECT else None
SSL_WRITE: Final[Any] = LIB.SSL_write if DIRECT else None
SSL_DO_HANDSHAKE: Final[Any] = LIB.SSL_do_handshake if DIRECT else None
SSL_GET_ERROR: Final[Any] = LIB.SSL_get_error if DIRECT else None
SSL_ERROR_WANT_READ: Final = 2
SSL_ERROR_WANT_WRITE: Final = 3
# Where a record is decrypted to, and copied out of at once.
SCRATCH: Final[Any] = FFI.new("char[]", RECORD) if DIRECT else None
SCRATCH_VIEW: Final[Any] = FFI.buffer(SCRATCH) if DIRECT else None

ERROR: Final[Any] = SSL.Error
WANT_READ_ERROR: Final[Any] = SSL.WantReadError
WANT_WRITE_ERROR: Final[Any] = SSL.WantWriteError
ZERO_RETURN_ERROR: Final[Any] = SSL.ZeroReturnError
SYSTEM_ERROR: Final[Any] = SSL.SysCallError

# What `Handshake.step` answers
DONE: Final = 0
WANTS_READ: Final = 1
WANTS_WRITE: Final = 2
FAILED: Final = 3

# How far saying goodbye has come
NOT_YET: Final = 0
NO_ROOM: Final = 1
SAID: Final = 2


@mypyc_attr(allow_interpreted_subclasses=True)
class Handshake:
    """One handshake on ``tls`` (an OpenSSL Connection); callbacks of its context find it as app data."""

    tls: Any
    refused: str  # a callback has decided against this peer, and why
    problem: str  # why it failed
    realm: int  # server side: whose rules the client came in under

    def __init__(self, tls: Any) -> None:
        self.tls = tls
        self.refused = ""
        self.problem = ""
        self.realm = 0
        tls.set_app_data(self)

    def step(self) -> int:
        """Go on as far as the peer lets us."""
        result = DONE
        try:
            result = self._step()
        except WANT_READ_ERROR:
            result = WANTS_READ
        except WANT_WRITE_ERROR:
            result = WANTS_WRITE
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

    def _step(self) -> int:
        if DIRECT:
            # Without an exception for each time that it has to wait.
            ssl: Any = self.tls._ssl
            code: int = SSL_DO_HANDSHAKE(ssl)
            if code > 0:
                return DONE
            why: int = SSL_GET_ERROR(ssl, code)
            if why == SSL_ERROR_WANT_READ:
                return WANTS_READ
            if why == SSL_ERROR_WANT_WRITE:
                return WANTS_WRITE
            self.tls._raise_ssl_error(ssl, code)
            return FAILED
        self.tls.do_handshake()
        return DONE


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
    ssl: Any  # OpenSSL's own object behind it; None: without `DIRECT`
    sessions: SessionStore | None
    truncated: bool
    read_wants_write: bool
    write_wants_read: bool
    farewell: int
    last_size: int

    def __init__(self, loop: Loop, sock: Any, peer: Any, send_timeout: float, tls: Any) -> None:
        super().__init__(loop, sock, peer, send_timeout)
        self.tls = tls
        self.ssl = tls._ssl if DIRECT else None
        self.sessions = None
        self.truncated = False
        self.read_wants_write = False
        self.write_wants_read = False
        self.farewell = NOT_YET
        self.last_size = 0

    # -- the descriptor ---------------------------------------------------------------

    def _receive(self, size: int) -> bytes:
        try:
            data = self._decrypt()
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

    def _decrypt(self) -> bytes:
        if self.ssl is None:
            plain: bytes = self.tls.recv(RECORD)
            return plain
        size: int = SSL_READ(self.ssl, SCRATCH, RECORD)
        if size <= 0:
            self.tls._raise_ssl_error(self.ssl, size)
            return b""
        data: bytes = SCRATCH_VIEW[:size]
        return data

    def _encrypt(self, piece: Any, size: int) -> int:
        if self.ssl is None:
            sent: int = self.tls.send(piece)
            return sent
        taken: int = SSL_WRITE(self.ssl, piece if isinstance(piece, bytes) else FFI.from_buffer(piece), size)
        if taken <= 0:
            self.tls._raise_ssl_error(self.ssl, taken)
        return taken

    def _transmit(self, data: bytes) -> int:
        size = len(data)
        sent = 0
        piece: Any = data
        while True:
            try:
                taken = self._encrypt(piece, size - sent)
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
            if not self.broken:
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
        self.ssl = None

    def is_truncated(self) -> bool:
        return self.truncated


def reason_of(why: BaseException) -> str:
    """What OpenSSL says, in its words; "" if it says nothing (a connection that was dead before)."""
    try:
        return "; ".join(str(entry[2]) for entry in why.args[0])
    except (IndexError, TypeError):
        return str(why)
