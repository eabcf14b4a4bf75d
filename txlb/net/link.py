"""The link between control and a child: messages over an AF_UNIX stream pair.

Rules:

* A message is four bytes of length (big-endian) and one JSON object of at most
  `MAX_MESSAGE` bytes. What is larger travels as a memfd (`txlb.net.shared_memory`).
* ``kind`` says what it is. One with an ``id`` is a request and is answered by exactly one
  message with ``answer`` set to that id, in any order; without one it is a notice.
* ``fds`` is how many descriptors belong to the message. They ride on the bytes in order;
  each has arrived before the message is complete. Whoever handles the message owns them.
* A message with descriptors is always a request: the sender's copies (`request` makes
  its own, so callers may close theirs at once) stay open until it is answered, for the
  transport sends them some time later.
* What is not such a message ends the link. A handler that raises is answered with an
  error. When the link ends every request in flight fails with `LinkClosed`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IFileDescriptorReceiver,
    IReactorTime,
    IUNIXTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

MAX_MESSAGE = 4 * 1024 * 1024

Fields = dict[str, Any]
Handler = Callable[[Fields, list[int]], "Deferred[Fields | None] | Fields | None"]


class LinkClosed(Exception):
    """The other side is gone; the request may or may not have been carried out."""


class LinkTimeout(Exception):
    """No answer in time."""


class LinkError(Exception):
    """The other side answered that it failed."""


class _Pending:
    __slots__ = ("answer", "descriptors", "timer")

    def __init__(self, descriptors: list[int]) -> None:
        self.answer: Deferred[Fields] = Deferred()
        self.descriptors = descriptors
        self.timer: IDelayedCall | None = None


@implementer(IFileDescriptorReceiver)
class Link(Protocol):
    """One end. ``handlers`` maps a kind to what handles it; ``closed`` is called once, at the end."""

    log = Logger()

    def __init__(
        self, clock: IReactorTime, handlers: Mapping[str, Handler], closed: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._handlers = handlers
        self._closed = closed
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._pending: dict[int, _Pending] = {}
        self._late: list[
            int
        ] = []  # descriptors of expired requests: they may still be in the transport's queue
        self._next = 1
        self.open = True

    def notify(self, kind: str, **fields: Any) -> None:
        """Send without expecting an answer; nothing happens on a link that has ended."""
        if self.open:
            self._send({**fields, "kind": kind})

    def request(
        self, kind: str, fields: Fields | None = None, descriptors: Sequence[int] = (), timeout: float = 30.0
    ) -> Deferred[Fields]:
        """Send and fire with the answer, or fail with `LinkClosed`, `LinkTimeout` or `LinkError`."""
        pending = _Pending([])
        if not self.open:
            pending.answer.errback(LinkClosed(f"no link for {kind}"))
            return pending.answer
        pending.descriptors = [os.dup(descriptor) for descriptor in descriptors]
        number = self._next
        self._next += 1
        self._pending[number] = pending
        pending.timer = self._clock.callLater(timeout, self._expire, number, kind)
        transport = cast(IUNIXTransport, self.transport)
        for descriptor in pending.descriptors:
            transport.sendFileDescriptor(descriptor)
        self._send({**(fields or {}), "kind": kind, "id": number, "fds": len(descriptors)})
        return pending.answer

    def close(self) -> None:
        """End the link once what was sent is out."""
        if self.transport is not None:
            self.transport.loseConnection()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptors.append(descriptor)

    def dataReceived(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while self.open and len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > MAX_MESSAGE:
                self._refuse(f"a message of {size} bytes")
                return
            if len(buffer) - start - 4 < size:
                break
            body = bytes(buffer[start + 4 : start + 4 + size])
            start += 4 + size
            self._received(body)
        del buffer[:start]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        close_descriptors(self._descriptors)
        close_descriptors(self._late)
        pending, self._pending = self._pending, {}
        for request in pending.values():
            self._settle(request)
            request.answer.errback(LinkClosed("the other side is gone"))
        if not reason.check(ConnectionDone):
            self.log.debug("link lost: {reason}", reason=reason.getErrorMessage())
        self._closed()

    def _send(self, message: Fields) -> None:
        body = json.dumps(message, separators=(",", ":")).encode("ascii")
        if len(body) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(body)} bytes is too large for the link")
        assert self.transport is not None
        self.transport.write(len(body).to_bytes(4, "big") + body)

    def _received(self, body: bytes) -> None:
        try:
            message = json.loads(body)
            descriptors = self._take(message.get("fds", 0))
        except (ValueError, AttributeError, TypeError):
            self._refuse("something that is no message")
            return
        if "answer" in message:
            close_descriptors(descriptors)
            self._answered(message)
            return
        kind = str(message.get("kind"))
        handler = self._handlers.get(kind)
        if handler is None:
            close_descriptors(descriptors)
            self._failed(Failure(LinkError(f"unknown kind of message: {kind}")), message)
            return
        done = maybeDeferred(handler, message, descriptors)
        done.addCallbacks(self._reply, self._failed, callbackArgs=(message,), errbackArgs=(message,))
        done.addErrback(lambda failure: self.log.failure("link: handling {kind}", failure, kind=kind))

    def _take(self, count: int) -> list[int]:
        if count > len(self._descriptors) or count < 0:
            raise ValueError("descriptors are missing")
        taken = self._descriptors[:count]
        del self._descriptors[:count]
        return taken

    def _reply(self, fields: Fields | None, message: Fields) -> None:
        if self.open and "id" in message:
            self._send({**(fields or {}), "answer": message["id"]})

    def _failed(self, failure: Failure, message: Fields) -> None:
        self.log.failure("link: {kind} failed", failure, kind=message.get("kind"))
        self._reply({"error": failure.getErrorMessage()[:1000]}, message)

    def _answered(self, message: Fields) -> None:
        request = self._pending.pop(message["answer"], None)
        if request is None:
            return  # it expired
        self._settle(request)
        if "error" in message:
            request.answer.errback(LinkError(message["error"]))
        else:
            request.answer.callback(message)

    def _expire(self, number: int, kind: str) -> None:
        request = self._pending.pop(number)
        request.timer = None
        self._late += request.descriptors
        request.answer.errback(LinkTimeout(f"no answer to {kind}"))

    def _settle(self, request: _Pending) -> None:
        close_descriptors(request.descriptors)
        if request.timer is not None:
            request.timer.cancel()
            request.timer = None

    def _refuse(self, what: str) -> None:
        self.log.error("link: received {what}; closing", what=what)
        self.open = False
        assert self.transport is not None
        cast(Any, self.transport).abortConnection()


class LinkFactory(Factory):
    """Builds the one `Link` of an adopted connection."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> Link:
        return self._link


def close_descriptors(descriptors: list[int]) -> None:
    """Close and forget them."""
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
