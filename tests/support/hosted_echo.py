"""A program: an echo server on a `HostedLoop`, under the reactor and in the way its arguments name.

``python -m support.hosted_echo REACTOR nested|fallback``: serves a client (a thread of its own) half a
mebibyte and a half-close, sees a deadline pass, a call from a thread, a stock Twisted port beside it and a
signal; prints "fine".
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from twisted.internet import defer, protocol, threads
from twisted.internet.task import deferLater

from txlb.net.hosting import HostedLoop
from txlb.net.listener import Acceptor, Gate, ListeningSocket
from txlb.net.stream import StreamTransport
from txlb.net.timers import Timed
from txlb.net.transport import StreamProtocol

SIZE = 1 << 19


class Echo(StreamProtocol):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.transport.registerProducer(transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason: Any) -> None:
        self.gate.closed()


class Echoing(Acceptor):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def accepted(self, sock: Any, peer: Any) -> None:
        StreamTransport(self.gate.loop, sock, peer, 10.0).start(Echo(self.gate))


class Late(Timed):
    def __init__(self) -> None:
        super().__init__()
        self.fired: defer.Deferred[None] = defer.Deferred()

    def timed_out(self, now: float) -> None:
        self.fired.callback(None)


class StockEcho(protocol.Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


def call(port: int) -> int:
    """In a thread: how many bytes came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        back = 0
        for _ in range(SIZE // 8192):
            sock.sendall(bytes(8192))
            back += len(sock.recv(1 << 16))
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(1 << 16):
            back += len(data)
        return back


async def run(reactor: Any, use_epoll: bool) -> None:
    hosted = HostedLoop(reactor, use_epoll)
    ticks: list[int] = []
    hosted.start(lambda: ticks.append(1))
    gate = Gate(hosted.loop, 100)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listening = ListeningSocket(gate, Echoing(gate), sock)
    listening.start()

    stock = reactor.listenTCP(0, protocol.Factory.forProtocol(StockEcho), interface="127.0.0.1")
    calls = [
        threads.deferToThreadPool(reactor, reactor.getThreadPool(), call, sock.getsockname()[1])
        for _ in "123"
    ]
    calls.append(threads.deferToThreadPool(reactor, reactor.getThreadPool(), call, stock.getHost().port))
    assert await defer.gatherResults(calls) == [SIZE] * 4
    await stock.stopListening()

    late = Late()
    hosted.loop.arm(late, 0.2)
    await late.fired

    adopted: defer.Deferred[bytes] = defer.Deferred()

    class Adopted(protocol.Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.loseConnection()
            adopted.callback(data)

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, protocol.Factory.forProtocol(Adopted))
    ours.close()
    theirs.sendall(b"hello")
    assert await adopted == b"hello"
    theirs.close()

    heard: defer.Deferred[None] = defer.Deferred()
    signal.signal(signal.SIGUSR1, lambda *ignored: reactor.callFromThread(heard.callback, None))
    os.kill(os.getpid(), signal.SIGUSR1)
    await heard

    while gate.open:
        await deferLater(reactor, 0.01)
    assert ticks
    assert hosted.loop.failures == hosted.loop.wheel.failures == 0, hosted.loop.last_failure
    watched = len(reactor.getReaders())
    listening.stop()
    hosted.stop()
    await deferLater(reactor, 0)
    seen = len(ticks)
    await deferLater(reactor, 0.3)
    assert len(ticks) == seen, "it ticks on"
    assert len(reactor.getReaders()) <= watched
    print("fine")


def main(name: str, way: str) -> None:
    if name == "loop":
        from txlb.net.loop_reactor import install

        install()
    elif name == "asyncio":
        import asyncio

        from twisted.internet import asyncioreactor

        asyncioreactor.install(asyncio.new_event_loop())
    elif name == "poll":
        from twisted.internet import pollreactor

        pollreactor.install()
    elif name == "select":
        from twisted.internet import selectreactor

        selectreactor.install()
    else:
        from twisted.internet import epollreactor

        epollreactor.install()
    from twisted.internet import reactor

    failures: list[Any] = []

    def ended(failure: Any = None) -> None:
        if failure is not None:
            failures.append(failure)
        reactor.stop()  # type: ignore[attr-defined]

    def begin() -> None:
        running = defer.Deferred.fromCoroutine(run(reactor, way == "nested"))
        running.addTimeout(30, reactor)  # type: ignore[arg-type]
        running.addCallbacks(ended, ended)

    reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    for failure in failures:
        failure.printTraceback(sys.stderr)
    sys.exit(len(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
