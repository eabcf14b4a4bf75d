"""`txlb.net.link`: messages, answers and descriptors between two ends, and what ends a link."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from support.processes import pause
from twisted.internet.defer import Deferred, gatherResults

from txlb.net.link import (
    MAX_MESSAGE,
    Fields,
    Handler,
    Link,
    LinkClosed,
    LinkError,
    LinkFactory,
    LinkTimeout,
    close_descriptors,
)


class Pair:
    """Two ends; ``b`` handles. ``raw`` ends instead of ``a`` where a test speaks by itself."""

    def __init__(self, reactor: Any, handlers: dict[str, Handler]) -> None:
        ours, theirs = socket.socketpair()
        self.closed: list[str] = []
        self.gone: Deferred[None] = Deferred()
        self.a = Link(reactor, {}, self._gone)
        self.b = Link(reactor, handlers, lambda: self.closed.append("b"))
        for sock, link in ((ours, self.a), (theirs, self.b)):
            sock.setblocking(False)
            reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, LinkFactory(link))
            sock.close()

    def _gone(self) -> None:
        self.closed.append("a")
        self.gone.callback(None)


@pytest.fixture
def pair_of(running_reactor: Any, nothing_left: None) -> Iterator[Any]:
    pairs: list[Pair] = []

    def build(**handlers: Handler) -> Pair:
        pairs.append(Pair(running_reactor, handlers))
        return pairs[-1]

    yield build
    for pair in pairs:
        for link in (pair.a, pair.b):
            if link.open:
                link.close()
    pytest_twisted.blockon(Deferred.fromCoroutine(pause(0.05)))


def double(fields: Fields, descriptors: list[int]) -> Fields:
    return {"result": fields["n"] * 2}


@pytest_twisted.ensureDeferred
async def test_requests_are_answered_each_with_its_own(pair_of: Any):
    pair = pair_of(double=double)
    answers = await gatherResults([pair.a.request("double", {"n": n}) for n in range(50)])
    assert [answer["result"] for answer in answers] == [n * 2 for n in range(50)]


@pytest_twisted.ensureDeferred
async def test_answers_may_come_in_another_order(pair_of: Any):
    slow: Deferred[Fields | None] = Deferred()
    pair = pair_of(slow=lambda fields, fds: slow, double=double)
    first = pair.a.request("slow")
    assert (await pair.a.request("double", {"n": 1}))["result"] == 2
    slow.callback({"late": True})
    assert (await first)["late"]


@pytest_twisted.ensureDeferred
async def test_descriptors_arrive_with_their_message_and_belong_to_the_handler(pair_of: Any):
    got: list[list[bytes]] = []

    def take(fields: Fields, descriptors: list[int]) -> None:
        assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
        got.append([os.pread(descriptor, 100, 0) for descriptor in descriptors])
        close_descriptors(descriptors)

    pair = pair_of(take=take)
    requests = []
    for count in (1, 0, 40, 3):
        memfds = [os.memfd_create(f"{count}-{n}") for n in range(count)]
        for n, descriptor in enumerate(memfds):
            os.write(descriptor, b"%d-%d" % (count, n))
        requests.append(pair.a.request("take", {"padding": "x" * 100_000}, memfds))
        close_descriptors(memfds)  # the link has copies of its own
    await gatherResults(requests)
    assert got == [[b"%d-%d" % (count, n) for n in range(count)] for count in (1, 0, 40, 3)]


@pytest_twisted.ensureDeferred
async def test_descriptors_nobody_handles_are_closed(pair_of: Any, logged_failures: list[Any]):
    pair = pair_of()
    reading, writing = os.pipe()
    with pytest.raises(LinkError, match="unknown kind"):
        await pair.a.request("what", {}, [writing])
    os.close(writing)
    assert os.read(reading, 1) == b""  # the copy that travelled is closed, too
    os.close(reading)
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_handler_that_raises_answers_with_an_error_and_the_link_goes_on(
    pair_of: Any, logged_failures: list[Any]
):
    def fail(fields: Fields, descriptors: list[int]) -> None:
        raise ValueError("no good")

    pair = pair_of(fail=fail, double=double)
    with pytest.raises(LinkError, match="no good"):
        await pair.a.request("fail")
    assert (await pair.a.request("double", {"n": 2}))["result"] == 4
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_a_request_expires_and_its_late_answer_is_ignored(pair_of: Any):
    slow: Deferred[Fields | None] = Deferred()
    pair = pair_of(slow=lambda fields, fds: slow, double=double)
    with pytest.raises(LinkTimeout):
        await pair.a.request("slow", timeout=0.01)
    slow.callback(None)
    assert (await pair.a.request("double", {"n": 3}))["result"] == 6


@pytest_twisted.ensureDeferred
async def test_requests_in_flight_fail_when_the_other_side_goes(pair_of: Any):
    pair = pair_of(never=lambda fields, fds: Deferred())
    waiting = pair.a.request("never")
    await pause(0.02)
    pair.b.close()
    with pytest.raises(LinkClosed):
        await waiting
    await pair.gone
    with pytest.raises(LinkClosed):
        await pair.a.request("never")
    pair.a.notify("anything")  # nothing happens
    assert sorted(pair.closed) == ["a", "b"]


@pytest.mark.parametrize(
    "junk",
    [
        (MAX_MESSAGE + 1).to_bytes(4, "big"),
        (3).to_bytes(4, "big") + b"{{{",
        (2).to_bytes(4, "big") + b"[]",
        (9).to_bytes(4, "big") + b'{"fds":1}',
        (10).to_bytes(4, "big") + b'{"fds":-1}',
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_message_ends_the_link(pair_of: Any, junk: bytes):
    pair = pair_of(double=double)
    pair.a.transport.write(junk)
    await pair.gone


@pytest_twisted.ensureDeferred
async def test_messages_may_arrive_octet_by_octet(pair_of: Any):
    seen: list[Any] = []
    pair = pair_of(note=lambda fields, fds: seen.append(fields["n"]))
    body = b'{"kind":"note","n":5}'
    for octet in len(body).to_bytes(4, "big") + body:
        pair.a.transport.write(bytes([octet]))
        await pause(0)
    await pause(0.05)
    assert seen == [5]


def test_a_message_that_is_too_large_is_refused_here(running_reactor: Any, pair_of: Any):
    pair = pair_of()
    with pytest.raises(ValueError, match="too large"):
        pair.a.notify("big", text="x" * MAX_MESSAGE)
