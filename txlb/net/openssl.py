"""OpenSSL's own calls, where pyOpenSSL's methods cost too much or do not exist.

Rules:

* What pyOpenSSL does not promise (`_lib`, `_ffi`, `_ssl`, `_context`, `_raise_ssl_error`) is used here and
  nowhere else. A version of it that lacks what the fast calls need (`DIRECT`) is used by its methods.
* Its ``recv``, ``send`` and ``do_handshake`` are interpreted, and raise whenever they have to wait: of a
  small request and its answer they took 2 of 7 microseconds.
* Errors are told by its exceptions (`OpenSSL.SSL.Error` and its children), whichever way was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from OpenSSL import SSL

LIB: Final[Any] = getattr(SSL, "_lib", None)
FFI: Final[Any] = getattr(SSL, "_ffi", None)
NEEDED: Final = ("SSL_read", "SSL_write", "SSL_do_handshake", "SSL_get_error")
DIRECT: Final = (
    FFI is not None
    and hasattr(SSL.Connection, "_raise_ssl_error")
    and all(hasattr(LIB, name) for name in NEEDED)
)
SSL_READ: Final[Any] = LIB.SSL_read if DIRECT else None
SSL_WRITE: Final[Any] = LIB.SSL_write if DIRECT else None
SSL_DO_HANDSHAKE: Final[Any] = LIB.SSL_do_handshake if DIRECT else None
SSL_GET_ERROR: Final[Any] = LIB.SSL_get_error if DIRECT else None
SSL_ERROR_WANT_READ: Final = 2
SSL_ERROR_WANT_WRITE: Final = 3

RECORD: Final = 16384  # bytes of the largest record
# Where a record is decrypted to, and copied out of at once.
SCRATCH: Final[Any] = FFI.new("char[]", RECORD) if DIRECT else None
SCRATCH_VIEW: Final[Any] = FFI.buffer(SCRATCH) if DIRECT else None

# What a step of a handshake answers
DONE: Final = 0
WANTS_READ: Final = 1
WANTS_WRITE: Final = 2
FAILED: Final = 3


def engine_of(tls: Any) -> Any:
    """What the calls below are made on; None: they go by the methods of ``tls``, a pyOpenSSL Connection."""
    return getattr(tls, "_ssl", None) if DIRECT else None


def handshake(tls: Any, engine: Any) -> int:
    """Go on as far as the peer lets us: `DONE`, or what it waits for. Raises `SSL.Error`."""
    if engine is None:
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            return WANTS_READ
        except SSL.WantWriteError:
            return WANTS_WRITE
        return DONE
    code: int = SSL_DO_HANDSHAKE(engine)
    if code > 0:
        return DONE
    why: int = SSL_GET_ERROR(engine, code)
    if why == SSL_ERROR_WANT_READ:
        return WANTS_READ
    if why == SSL_ERROR_WANT_WRITE:
        return WANTS_WRITE
    tls._raise_ssl_error(engine, code)
    return FAILED


def decrypt(tls: Any, engine: Any) -> bytes:
    """The bytes of a record, or what is left of it. Raises `SSL.Error`, also where it has to wait."""
    if engine is None:
        plain: bytes = tls.recv(RECORD)
        return plain
    size: int = SSL_READ(engine, SCRATCH, RECORD)
    if size <= 0:
        tls._raise_ssl_error(engine, size)
        return b""
    data: bytes = SCRATCH_VIEW[:size]
    return data


def encrypt(tls: Any, engine: Any, piece: Any, size: int) -> int:
    """How many of the ``size`` bytes of ``piece`` were taken. Raises `SSL.Error`, also where it must wait."""
    if engine is None:
        sent: int = tls.send(piece)
        return sent
    taken: int = SSL_WRITE(engine, piece if isinstance(piece, bytes) else FFI.from_buffer(piece), size)
    if taken <= 0:
        tls._raise_ssl_error(engine, taken)
    return taken


def restrict_groups(context: Any, choices: Sequence[bytes]) -> bool:
    """Agree on keys by the first of ``choices`` (lists of groups) that OpenSSL knows; False: by none."""
    pointer: Any = getattr(context, "_context", None)
    choose: Callable[[Any, bytes], int] | None = getattr(LIB, "SSL_CTX_set1_curves_list", None)
    if choose is not None and pointer is not None:
        for groups in choices:
            if choose(pointer, groups) == 1:
                return True
            LIB.ERR_clear_error()
    return False


def was_resumed(tls: Any) -> bool:
    """The handshake that just ended took up an earlier session; where nobody can tell, it did not."""
    ask: Callable[[Any], int] | None = getattr(LIB, "SSL_session_reused", None)
    return ask is not None and bool(ask(tls._ssl))
