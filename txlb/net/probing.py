"""One probe of a backend: a non-blocking connect, at most one write, the head of an answer, close.

Rules:

* The receiver hears of the result once, never from inside `Probing.begin`; after `cancel` it hears nothing.
* A shortage of our own (no descriptor, no port) is `VOID`: it says nothing about the backend.
* Where ``anything`` is good, only silence and what keeps from connecting are not.
* Where no status is wanted, to be connected (and to have sent) is good. Else it is a well-formed final head
  with a status that is wanted; interim answers are passed over. The body is of no interest.
* No more than `MOST` bytes are read: of a head, and of what follows until the other side closes. It gets
  `LINGER` seconds for that, so that it need not log a reset. Who never ends an answer costs no more.
* Backends of one kind answer alike: an answer of the same bytes as the last good one, to whom wants the same
  statuses, is good without being parsed again.
* How long an attempt may take is the receiver's business (`expire`).
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.core import health_counts as results
from txlb.core.http.collect import MORE, WHOLE, HeadCollector
from txlb.core.http.head import parse_response
from txlb.net.connector import INET, INET6, OURS, SOCKET, STREAM, TCP
from txlb.net.loop import ENDED, ERROR, READ, WRITE, Handler, Loop

# Once: enumerations are slow.
QUICKACK: Final = int(getattr(socket, "TCP_QUICKACK", 0))

MOST: Final = 16384
LINGER: Final = 1.0
FIELDS: Final = 256
PENDING: Final = -1
EARLY: Final = "closed before its answer was whole"

# Phases
IDLE: Final = 0
CONNECTING: Final = 1
ANSWERING: Final = 2
CLOSING: Final = 3
OVER: Final = 4


class Expected:
    """What is sent once connected, and which statuses are good; none: no answer is waited for."""

    request: bytes
    statuses: frozenset[int]
    anything: bool  # whatever comes of the request is good: a close, an odd answer; silence is not

    def __init__(self, request: bytes, statuses: frozenset[int], anything: bool = False) -> None:
        self.request = request
        self.statuses = statuses
        self.anything = anything


class Answer:
    """The head of an answer as it comes in, and what it means."""

    expected: Expected
    collector: HeadCollector | None
    read: int
    reason: str  # why it is not good

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.collector = None
        self.read = 0
        self.reason = ""

    def feed(self, piece: bytes) -> int:
        """`PENDING`, or the result."""
        self.read += len(piece)
        collector = self.collector
        if collector is None:
            end = piece.find(b"\r\n\r\n")
            if end >= 0 and not is_interim(piece):
                return self._judge(piece, end)
            collector = self.collector = HeadCollector()
        state = collector.add(piece, MOST, MOST)
        while state == WHOLE:
            data = bytes(collector.data)
            end = data.find(b"\r\n\r\n")
            if not is_interim(data):
                return self._judge(data, end)
            collector = self.collector = HeadCollector()
            state = collector.add(data[end + 4 :], MOST, MOST)
        if state != MORE:
            self.reason = "no HTTP answer" if state == 400 else "its head never ends"
        elif self.read > MOST:
            self.reason = f"no whole head within {MOST} bytes"
        return results.MALFORMED if self.reason else PENDING

    def _judge(self, data: bytes, end: int) -> int:
        head = parse_response(data, end, None, FIELDS, False)
        if head.refusal:
            self.reason = f"malformed answer: {head.refusal}"
            return results.MALFORMED
        if head.status not in self.expected.statuses:
            self.reason = f"status {head.status}"
            return results.STATUS
        return results.SUCCESS


def is_interim(data: bytes) -> bool:
    """An answer 1xx that another follows."""
    return data[:10] == b"HTTP/1.1 1" and data[9:12] != b"101"


@mypyc_attr(allow_interpreted_subclasses=True)
class ProbeReceiver:
    """Who asked for probes; ``sockets`` counts their descriptors that are open."""

    sockets: int
    good: bytes  # the last whole answer that was good, for whom wants these statuses
    good_for: frozenset[int] | None

    def __init__(self) -> None:
        self.sockets = 0
        self.good = b""
        self.good_for = None

    def probed(self, key: Any, result: int, reason: str) -> None:
        """The probe for ``key`` ended: a code of `txlb.core.health_counts`, and why if it is not good."""
        raise NotImplementedError


class Probing(Handler):
    """One attempt."""

    loop: Loop
    receiver: ProbeReceiver
    key: Any
    expected: Expected
    sock: Any
    fd: int
    phase: int
    code: int
    answer: Answer

    def __init__(self, loop: Loop, receiver: ProbeReceiver, key: Any, expected: Expected) -> None:
        super().__init__()
        self.loop = loop
        self.receiver = receiver
        self.key = key
        self.expected = expected
        self.sock = None
        self.fd = -1
        self.phase = IDLE
        self.code = 0
        self.answer = Answer(expected)

    def begin(self, address: str, port: int) -> None:
        """Connect to an IP address."""
        self.phase = CONNECTING
        try:
            self.sock = SOCKET(INET6 if ":" in address else INET, STREAM, 0)
            self.fd = self.sock.fileno()
            self.receiver.sockets += 1
            if QUICKACK and self.expected.request:
                self.sock.setsockopt(TCP, QUICKACK, 0)  # the request acknowledges: a packet less for both
            code: int = self.sock.connect_ex((address, port))
        except OSError as why:
            code = why.errno or errno.EIO
        if code == errno.EINPROGRESS or code == 0:
            self.loop.add(self.fd, self, WRITE)
        else:
            self.code = code
            self.loop.defer(self)

    def ready(self, events: int) -> None:
        if self.phase == CONNECTING:
            self._connected(events)
        elif self.phase == ANSWERING:
            self._read_answer(events)
        elif self.phase == CLOSING:
            self._discard()

    def later(self) -> None:
        if self.code and self.phase == CONNECTING:
            self._connect_failed(self.code)

    def timed_out(self, now: float) -> None:
        self._close()  # the other side did not, within LINGER

    def failed(self, why: BaseException) -> None:
        self._end(results.VOID, f"a fault of our own: {why!r}")

    def expire(self, seconds: float) -> None:
        """Its time, ``seconds``, is over."""
        waited_for = "connection" if self.phase == CONNECTING else "answer"
        self._end(results.TIMEOUT, f"no {waited_for} within {round(seconds * 1000)} ms")

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self.key = None
        self._close()

    def _connected(self, events: int) -> None:
        request = self.expected.request
        if not request or events & ERROR:
            code: int = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._connect_failed(code)
                return
            if not request:
                self._end(results.SUCCESS, "")
                return
        try:
            sent: int = self.sock.send(request)
        except BlockingIOError:
            return
        except OSError as why:
            self._connect_failed(why.errno or errno.EIO)
            return
        if sent < len(request):  # a fresh connection takes a whole head, or something is very odd
            self._end(results.CLOSED, "took no whole request")
            return
        if not self.expected.statuses and not self.expected.anything:
            self._end(results.SUCCESS, "")
            return
        self.phase = ANSWERING
        self.loop.modify(self.fd, READ | ENDED)

    def _connect_failed(self, code: int) -> None:
        if code == errno.ECONNREFUSED:
            self._end(results.REFUSED, "connection refused")
        elif code in OURS:
            self._end(results.VOID, f"cannot probe: {errno.errorcode.get(code, str(code))}")
        elif code == errno.ETIMEDOUT:
            self._end(results.TIMEOUT, "no connection")
        else:
            self._end(results.UNREACHABLE, f"cannot connect: {errno.errorcode.get(code, str(code))}")

    def _read_answer(self, events: int) -> None:
        try:
            piece: bytes = self.sock.recv(MOST)
        except BlockingIOError:
            return
        except OSError as why:
            if self.expected.anything:
                self._end(results.SUCCESS, "")
                return
            self._end(results.CLOSED, f"no whole answer: {errno.errorcode.get(why.errno or 0, 'error')}")
            return
        if self.expected.anything:
            self._end(results.SUCCESS, "")
            return
        if not piece:
            self._end(results.CLOSED, EARLY)
            return
        receiver, wanted = self.receiver, self.expected.statuses
        if piece == receiver.good and wanted is receiver.good_for and not self.answer.read:
            result = results.SUCCESS
        else:
            result = self.answer.feed(piece)
        if result == results.SUCCESS:
            if self.answer.read == len(piece):
                receiver.good, receiver.good_for = piece, wanted
            if events & ENDED and len(piece) < MOST:  # nothing comes any more, and all was read
                self._end(result, "")
                return
            self._tell(result, "")
            if self.phase == ANSWERING:
                self.phase = CLOSING
                self.answer.read = 0
                self.loop.arm(self, LINGER)
        elif result != PENDING:
            self._end(result, self.answer.reason)

    def _discard(self) -> None:
        try:
            piece: bytes = self.sock.recv(MOST)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self.answer.read += len(piece)
        if not piece or self.answer.read > MOST:
            self._close()

    def _end(self, result: int, reason: str) -> None:
        self._close()
        self._tell(result, reason)

    def _tell(self, result: int, reason: str) -> None:
        key = self.key
        if key is not None:
            self.key = None
            self.receiver.probed(key, result, reason)

    def _close(self) -> None:
        self.phase = OVER
        self.loop.cancel(self)
        sock = self.sock
        if sock is not None:
            self.sock = None
            self.loop.remove(self.fd, True)
            sock.close()
            self.receiver.sockets -= 1
