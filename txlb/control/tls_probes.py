"""The ``https`` check: a probe over TLS.

Rules:

* The backend is verified as its traffic is (``backends[].tls``); with ``type: https`` and no such section, by
  its host against the system's CAs. A handshake that fails is a failure, with OpenSSL's reason.
* What counts as an answer is what counts over plain HTTP (`txlb.net.probing.Answer`); its end is not
  waited for.
"""

from __future__ import annotations

from typing import Any

from txlb.core import health_counts as results
from txlb.core import outcome as outcomes
from txlb.net.connector import Connecting, Receiver
from txlb.net.loop import Loop
from txlb.net.probing import EARLY, PENDING, Answer, Expected, ProbeReceiver
from txlb.net.rounds import Prober
from txlb.net.stream import StreamTransport
from txlb.net.tls_origin import TlsOrigin
from txlb.net.transport import StreamProtocol

FOREVER = 3600.0  # who asks ends it (`expire`) long before
RESULTS = {
    outcomes.CONNECT_REFUSED: (results.REFUSED, "connection refused"),
    outcomes.CONNECT_TIMEOUT: (results.TIMEOUT, "no connection"),
    outcomes.CONNECT_FAILED: (results.UNREACHABLE, "cannot connect"),
    outcomes.UNUSED: (results.VOID, "cannot probe"),
}


class TlsProbe(Prober):
    """Probes one backend."""

    def __init__(
        self,
        loop: Loop,
        receiver: ProbeReceiver,
        address: tuple[str, int],
        origin: TlsOrigin,
        expected: Expected,
        preface: bytes,
    ) -> None:
        self._loop = loop
        self._receiver = receiver
        self._address, self._port = address
        self._origin = origin
        self._expected = expected
        self._preface = preface

    def start(self, key: object) -> TlsAttempt:
        attempt = TlsAttempt(self._loop, self._receiver, key, self._origin, self._expected)
        attempt.begin(self._address, self._port, self._preface)
        return attempt


class TlsAttempt(Receiver):
    """One attempt."""

    def __init__(
        self, loop: Loop, receiver: ProbeReceiver, key: object, origin: TlsOrigin, expected: Expected
    ) -> None:
        self._receiver = receiver
        self._key: object = key
        self._origin = origin
        self._expected = expected
        self._connecting: Connecting | None = Connecting(loop, self, FOREVER, origin)
        self._reading: AnswerProtocol | None = None

    def begin(self, address: str, port: int, preface: bytes) -> None:
        assert self._connecting is not None
        self._receiver.sockets += 1
        self._connecting.begin(address, port, FOREVER, preface)

    def connected(self, transport: StreamTransport) -> None:
        self._connecting = None
        self._reading = AnswerProtocol(self, Answer(self._expected))
        transport.take_over(self._reading)
        transport.write(self._expected.request)

    def connect_failed(self, outcome: int) -> None:
        self._connecting = None
        if outcome == outcomes.CONNECT_TLS:
            self.end(results.FAILED, f"TLS: {self._origin.problem}")
        else:
            self.end(*RESULTS[outcome])

    def expire(self, seconds: float) -> None:
        waited_for = "TLS connection" if self._connecting is not None else "answer"
        self._stop()
        self.end(results.TIMEOUT, f"no {waited_for} within {round(seconds * 1000)} ms")

    def cancel(self) -> None:
        if self._key is not None:
            self._key = None
            self._receiver.sockets -= 1
        self._stop()

    def end(self, result: int, reason: str) -> None:
        """Say so, once."""
        key, self._key = self._key, None
        if key is not None:
            self._receiver.sockets -= 1
            self._receiver.probed(key, result, reason)

    def _stop(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._reading is not None:
            self._reading.transport.abortConnection()


class AnswerProtocol(StreamProtocol):
    """Reads the head of an answer."""

    def __init__(self, attempt: TlsAttempt, answer: Answer) -> None:
        super().__init__()
        self._attempt: Any = attempt
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        result = results.SUCCESS if self._answer.expected.anything else self._answer.feed(data)
        if result == PENDING:
            return
        if result == results.SUCCESS:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
        self._attempt.end(result, self._answer.reason)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Any) -> None:
        if self._answer.expected.anything:
            self._attempt.end(results.SUCCESS, "")
        self._attempt.end(results.CLOSED, EARLY)
