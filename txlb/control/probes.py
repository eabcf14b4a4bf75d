"""How each type of health check probes: what starts an attempt, and the attempt.

Rules:

* An attempt ends with one call of ``receiver.probed(key, result, reason)``, unless it is cancelled.
* ``http`` and ``tcp`` run on our own transports (`txlb.net.rounds.SocketProber`): no Deferred, no timer each.
* A probe of one's own (`IProbe`) cannot outlast its time, whatever it does but block.
* A backend that expects the PROXY protocol gets its header, saying that there is no client.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

import txlb
from txlb.core import health_counts as results
from txlb.core.model import BackendSpec, HealthCheckSpec
from txlb.core.proxy_announcement import announce_nobody
from txlb.net.probing import Expected, ProbeReceiver
from txlb.net.rounds import Prober

REASON = 200  # characters of an exception's text


def expected_of(spec: BackendSpec, check: HealthCheckSpec) -> Expected:
    """What is sent, and what is good."""
    ranges = () if check.type == "tcp" else check.statuses
    return Expected(request_to(spec, check), _statuses(ranges))


@lru_cache(maxsize=64)
def _statuses(ranges: tuple[tuple[int, int], ...]) -> frozenset[int]:
    """One set for all who want the same: 10,000 of their own took 80 MB."""
    return frozenset(status for low, high in ranges for status in range(low, high + 1))


def sign_of_life(spec: BackendSpec) -> Expected:
    """What a backend of HTTP rules is asked in doubt if it has no check of its own: it must react somehow."""
    request = _request("OPTIONS", "*", _host_of(spec))
    return Expected((b"" if spec.tls else preface_to(spec)) + request, frozenset(), True)


class OwnProbe(Prober):
    """A class of one's own."""

    def __init__(self, receiver: ProbeReceiver, probe: Any, spec: BackendSpec) -> None:
        self._receiver = receiver
        self._probe = probe
        self._spec = spec

    def start(self, key: object) -> OwnAttempt:
        return OwnAttempt(self._receiver, key, self._probe.check, self._spec)


class OwnAttempt:
    """One call of it."""

    log = Logger()

    def __init__(
        self, receiver: ProbeReceiver, key: object, check: Callable[[BackendSpec], Any], spec: BackendSpec
    ) -> None:
        self._receiver = receiver
        self._key: object = key
        self._spec = spec
        receiver.sockets += 1  # for the limit: it may well have one
        self._done: Deferred[object] = maybeDeferred(check, spec)
        self._done.addCallbacks(self._good, self._bad)
        self._done.addErrback(lambda failure: self.log.failure("fault in txlb: a probe's result", failure))

    def expire(self, seconds: float) -> None:
        self._end(results.TIMEOUT, f"not done within {round(seconds * 1000)} ms")
        self._done.cancel()

    def cancel(self) -> None:
        self._end(results.VOID, "", tell=False)
        self._done.cancel()

    def _good(self, _: object) -> None:
        self._end(results.SUCCESS, "")

    def _bad(self, failure: Failure) -> None:
        if self._key is None and failure.check(CancelledError):
            return
        text = " ".join(failure.getErrorMessage().split())[:REASON]
        self._end(results.FAILED, text or type(failure.value).__name__)

    def _end(self, result: int, reason: str, tell: bool = True) -> None:
        key, self._key = self._key, None
        if key is not None:
            self._receiver.sockets -= 1
            if tell:
                self._receiver.probed(key, result, reason)


def preface_to(spec: BackendSpec) -> bytes:
    """The PROXY header of a connection that is for nobody, if there has to be one."""
    return b"" if spec.proxy_protocol is None else announce_nobody(int(spec.proxy_protocol[1:]))


def request_to(spec: BackendSpec, check: HealthCheckSpec) -> bytes:
    """What a check sends, b"" for nothing."""
    start = preface_to(spec) if check.type != "https" else b""  # TLS begins behind it
    if check.type == "tcp":
        return start
    return start + _request("GET", check.path, check.host or _host_of(spec))


def _host_of(spec: BackendSpec) -> str:
    return f"{f'[{spec.host}]' if ':' in spec.host else spec.host}:{spec.port}"


def _request(method: str, target: str, host: str) -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
        f"User-Agent: txlb/{txlb.__version__} (health check)\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii")
