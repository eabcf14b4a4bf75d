"""Datagram transports: bound sockets that clients send to, connected ones towards backends.

Rules:

* Every datagram is passed on whole, from nothing to `LARGEST` bytes; none is ever made here.
* Bounded work: at most `BATCH` datagrams a wake-up. How many are asked for follows what came: a socket with
  one datagram at a time is not asked in vain for a second, a busy one is read in batches.
* A socket bound to a wildcard tells which of our addresses was asked (``local``), so that `reply` leaves from
  there; any other is spared that (it costs a microsecond).
* What the kernel does not take at once is lost, as UDP may, and `send` and `reply` say so: nothing is queued
  here.
* A connected socket hears of refusals (ICMP) as errors: `broken`, once.
* Bound sockets are closed, never shut down: other processes hold copies.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.net.listener import Serving
from txlb.net.loop import READ, Handler, Loop

LARGEST: Final = 65_535
BATCH: Final = 64
FULL_TURNS: Final = 8  # wake-ups that found all they asked for, until more is asked for
SOCKET: Final[Any] = socket.SocketType
DATAGRAM: Final[Any] = int(socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
LOST: Final = errno.EAGAIN  # the kernel has no room

IP_PKTINFO: Final = 8  # the standard library has no name for it
ANCILLARY: Final = 64
SO_MEMINFO: Final = 55
DROPS_OFFSET: Final = 32  # SK_MEMINFO_DROPS, the ninth of nine 32-bit numbers


class Pace:
    """How many datagrams to ask for at a wake-up."""

    quota: int
    full: int

    def __init__(self) -> None:
        self.quota = 1
        self.full = 0

    def met(self) -> None:
        """There were as many as asked for; there may be more."""
        self.full += 1
        if self.full >= FULL_TURNS and self.quota < BATCH:
            self.quota *= 2
            self.full = 0

    def fell_short(self, found: int) -> None:
        """There were only so many."""
        self.quota = found if found > 0 else 1
        self.full = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class BoundDatagrams(Serving):
    """One bound UDP socket of a listener."""

    loop: Loop
    sock: Any
    fd: int
    wildcard: bool
    reading: bool
    pace: Pace
    level: Any
    kind: Any
    _recvfrom: Any
    _recvmsg: Any
    _sendto: Any
    _sendmsg: Any
    _drops: int

    def __init__(self, loop: Loop, sock: Any) -> None:
        super().__init__()
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.reading = False
        self.pace = Pace()
        self._recvfrom = sock.recvfrom
        self._recvmsg = sock.recvmsg
        self._sendto = sock.sendto
        self._sendmsg = sock.sendmsg
        six = sock.family == socket.AF_INET6
        self.level = int(socket.IPPROTO_IPV6) if six else int(socket.IPPROTO_IP)
        self.kind = int(socket.IPV6_PKTINFO) if six else IP_PKTINFO
        self.wildcard = sock.getsockname()[0] in ("0.0.0.0", "::")
        if self.wildcard:
            sock.setsockopt(self.level, int(socket.IPV6_RECVPKTINFO) if six else IP_PKTINFO, 1)
        self._drops = self._kernel_drops()

    # What subclasses do

    def received(self, data: bytes, peer: Any, local: bytes) -> None:
        """A datagram from ``peer``; ``local``: which address of ours was asked, b"" if there is but one."""
        raise NotImplementedError

    # Reading

    def start(self) -> None:
        if not self.reading and self.sock is not None:
            self.reading = True
            self.loop.add(self.fd, self, READ)

    def pause(self) -> None:
        """Read no more; replies still go out."""
        if self.reading:
            self.reading = False
            self.loop.remove(self.fd, False)

    def stop(self) -> None:
        self.close()

    def close(self) -> None:
        """Close our copy."""
        if self.sock is not None:
            self.pause()
            self.sock.close()
            self.sock = None

    def failed(self, why: BaseException) -> None:
        """One datagram failed; the others are served."""

    def ready(self, events: int) -> None:
        pace = self.pace
        quota = pace.quota
        for count in range(quota):
            if not self.reading:
                return
            try:
                if self.wildcard:
                    data, ancillary, _, peer = self._recvmsg(LARGEST, ANCILLARY)
                    local = self._asked(ancillary)
                else:
                    data, peer = self._recvfrom(LARGEST)
                    local = b""
            except BlockingIOError:
                pace.fell_short(count)
                return
            except OSError:
                return  # a passing shortage; level-triggered: it will be reported again
            self.received(data, peer, local)
        pace.met()

    def _asked(self, ancillary: Any) -> bytes:
        for level, kind, data in ancillary:
            if level == self.level and kind == self.kind:
                packed: bytes = data
                # in_pktinfo has our address for answers in the middle, in6_pktinfo at the start
                return packed[4:8] if len(packed) == 12 else packed[:16]
        return b""

    def source(self, local: bytes) -> Any:
        """What `reply` needs to answer from ``local``."""
        if not local:
            return None
        packed = struct.pack("=I4sI", 0, local, 0) if len(local) == 4 else local + b"\0\0\0\0"
        return [(self.level, self.kind, packed)]

    def reply(self, data: bytes, peer: Any, source: Any) -> int:
        """Send to ``peer``; 0, or the errno of what became of it."""
        try:
            if source is None:
                self._sendto(data, peer)
            else:
                self._sendmsg([data], source, 0, peer)
        except BlockingIOError:
            return LOST
        except OSError as why:
            return why.errno or errno.EIO
        return 0

    # Books

    def identity(self) -> int:
        """The same for all copies of one socket, in whatever process."""
        return os.fstat(self.fd).st_ino

    def take_drops(self) -> int:
        """Datagrams that came since the last call, or since we have it, and found the queue full."""
        if self.sock is None:
            return 0
        now = self._kernel_drops()
        new = now - self._drops
        self._drops = now
        return max(new, 0)

    def _kernel_drops(self) -> int:
        try:
            packed: bytes = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        except OSError:
            return 0  # Linux before 4.12
        return int.from_bytes(packed[DROPS_OFFSET : DROPS_OFFSET + 4], "little") if len(packed) == 36 else 0


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectedDatagrams(Handler):
    """One UDP socket connected to a backend."""

    loop: Loop
    sock: Any
    fd: int
    pace: Pace
    _recv: Any
    _send: Any

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop
        self.sock = None
        self.fd = -1
        self.pace = Pace()
        self._recv = None
        self._send = None

    # What subclasses do

    def received(self, data: bytes) -> None:
        """A datagram from the backend."""
        raise NotImplementedError

    def broken(self, code: int) -> None:
        """The socket is closed: the errno of why (ECONNREFUSED: nobody listens there)."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """txlb ends: give up."""
        self.close()

    # What others do

    def open(self, address: str, port: int) -> int:
        """Connect (nothing is sent); 0, or the errno of what prevents it."""
        sock: Any = None
        try:
            sock = SOCKET(socket.AF_INET6 if ":" in address else socket.AF_INET, DATAGRAM)
            sock.connect((address, port))
        except OSError as why:
            if sock is not None:
                sock.close()
            return why.errno or errno.EIO
        self.sock = sock
        self.fd = sock.fileno()
        self._recv = sock.recv
        self._send = sock.send
        self.loop.add(self.fd, self, READ)
        return 0

    def send(self, data: bytes) -> int:
        """0, or the errno of what became of it; a refusal may be that of an earlier datagram."""
        try:
            self._send(data)
        except BlockingIOError:
            return LOST
        except OSError as why:
            return why.errno or errno.EIO
        return 0

    def close(self) -> None:
        if self.sock is not None:
            self.loop.remove(self.fd, True)
            self.sock.close()
            self.sock = None
            self._recv = None
            self._send = None

    def failed(self, why: BaseException) -> None:
        self.cut_off()

    def ready(self, events: int) -> None:
        pace = self.pace
        quota = pace.quota
        for count in range(quota):
            try:
                data = self._recv(LARGEST)
            except BlockingIOError:
                pace.fell_short(count)
                return
            except OSError as why:
                self.close()
                self.broken(why.errno or errno.EIO)
                return
            self.received(data)
            if self.sock is None:
                return
        pace.met()
