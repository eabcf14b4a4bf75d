from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.dataplane import Net, Peer, Recorder, network
from twisted.internet.error import ConnectionAborted, ConnectionDone

from txlb.net.lingering import (
    LINGER_PERIODS,
    LINGER_TIME,
    SEVER_TIME,
    Lingering,
    Severing,
    close_short,
)
from txlb.net.stream import StreamTransport

BIG = b"0123456789abcdef" * 65536 * 4  # 4 MiB


class Owner(Recorder):
    """Closes when the test says so, and passes on what it hears."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.closing: Lingering | None = None

    def close(self, kind: type[Lingering] = Lingering) -> None:
        self.closing = kind(self.net.loop, self.transport)
        self.closing.begin()

    def dataReceived(self, data: bytes) -> None:
        if self.closing is None:
            super().dataReceived(data)

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        if self.closing is not None:
            self.closing.finished()

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        if self.closing is not None:
            self.closing.end()


class Scene:
    """One connection of an `Owner`'s."""

    def __init__(self, net: Net, **more: Any) -> None:
        self.net = net
        self.owner = Owner(net)
        self.near: StreamTransport
        self.far: Peer
        self.near, self.far = net.connect(self.owner, **more)

    def fill(self) -> None:
        """What is written fits into the kernel's buffers, and does not reach the peer."""
        self.far.reading = False
        while not self.near.undelivered():
            self.near.write(BIG[: 1 << 16])
            self.net.settle()
        assert not self.near.pending_size


@pytest.fixture
def scene() -> Iterator[Scene]:
    with network() as net:
        yield Scene(net, send_buffer=1 << 20, receive_buffer=1 << 14)


def test_a_peer_that_is_still_sending_has_everything_and_no_reset(scene: Scene) -> None:
    scene.far.reading = False
    scene.near.write(b"all of it")
    scene.owner.close()
    for _ in range(16):  # with one close, the second would have been answered by RST
        scene.far.send(bytes(1000))
        scene.net.settle()
    scene.far.reading = True
    scene.net.settle()
    assert (scene.far.data, scene.far.ending) == (b"all of it", "fin")
    assert scene.near.connected and scene.owner.data == b""
    scene.far.finish()
    scene.net.settle()
    assert not scene.near.connected and isinstance(scene.owner.reasons[0], ConnectionDone)
    assert not scene.net.loop.handlers and not any(scene.net.loop.wheel.slots.values())


def test_who_does_not_finish_is_closed_in_time(scene: Scene) -> None:
    scene.owner.close()
    scene.net.settle()
    scene.net.run_until(lambda: scene.near.undelivered() == 0)  # FIN too
    scene.net.elapse(LINGER_TIME - 0.5)
    assert scene.near.connected
    scene.net.elapse(1.0)
    assert not scene.near.connected and isinstance(scene.owner.reasons[0], ConnectionDone)


def test_who_goes_on_sending_has_time_to_read_too(scene: Scene) -> None:
    scene.far.reading = False
    scene.near.write(b"all of it")
    scene.owner.close()
    scene.far.send(BIG * 4)
    scene.net.run_until(lambda: not scene.far.unsent)
    scene.far.reading = True
    scene.net.run_until(lambda: scene.far.ending)
    assert (scene.far.data, scene.far.ending) == (b"all of it", "fin")
    for _ in range(8):
        scene.far.send(bytes(1000))
        scene.net.elapse(LINGER_TIME / 2)
    assert not scene.near.connected, "but not for ever"


def test_who_was_paused_is_read_and_pauses_nobody(scene: Scene) -> None:
    scene.near.pauseProducing()
    scene.near.registerProducer(scene.owner, True)
    scene.owner.close()
    assert not scene.near.paused and scene.near.producer is None


def test_while_bytes_wait_here_the_send_deadline_rules() -> None:
    with network() as net:
        scene = Scene(net, send_timeout=20.0, send_buffer=1 << 14, receive_buffer=1 << 14)
        scene.far.reading = False
        scene.near.write(BIG)
        scene.owner.close()
        net.elapse(LINGER_TIME * 5)
        assert scene.near.connected and scene.near.pending_size
        net.elapse(20.0)
        assert not scene.near.connected


def test_a_slow_reader_has_time_as_long_as_its_kernel_takes_something(scene: Scene) -> None:
    scene.fill()
    scene.owner.close()
    for _ in range(3):
        scene.net.elapse(LINGER_TIME * 0.9)
        before = scene.near.undelivered()
        while scene.near.undelivered() == before:
            scene.far.sock.recv(1 << 14)
            scene.net.turn(0.01)
        assert before
    assert scene.near.connected
    scene.net.elapse(LINGER_TIME * 4)
    assert not scene.near.connected, "and no longer"


def test_not_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.owner.close()
    closing = scene.owner.closing
    assert closing is not None
    closing.periods = LINGER_PERIODS - 1
    closing.left = 1  # as if something had been taken
    scene.net.elapse(LINGER_TIME + 0.5)
    assert not scene.near.connected


def test_a_reset_ends_it(scene: Scene) -> None:
    scene.owner.close()
    scene.far.reset()
    scene.net.settle()
    assert not scene.near.connected and not any(scene.net.loop.wheel.slots.values())


# -- cut short ----------------------------------------------------------------------------


def test_what_is_cut_short_is_all_there_before_the_reset(scene: Scene) -> None:
    scene.fill()
    written = scene.near.given
    scene.owner.closing = close_short(scene.net.loop, scene.near)
    assert isinstance(scene.owner.closing, Severing)
    scene.far.finish()
    scene.far.send(b"what nobody wants")
    scene.net.settle()
    assert scene.near.connected, "not even its FIN makes an end in order of it"
    scene.far.reading = True
    scene.net.run_until(lambda: len(scene.far.data) == written)
    scene.net.elapse(SEVER_TIME * 3)
    scene.net.run_until(lambda: not scene.near.connected)
    error = scene.far.sock.getsockopt(1, 4)  # SOL_SOCKET, SO_ERROR
    assert scene.far.ending == "reset" or error
    assert isinstance(scene.owner.reasons[0], ConnectionAborted)


def test_with_nothing_on_its_way_the_reset_comes_at_once(scene: Scene) -> None:
    scene.near.write(b"some")
    scene.net.settle()
    scene.owner.close(Severing)
    scene.net.settle()
    assert (scene.far.data, scene.far.ending) == (b"some", "reset")


@pytest.mark.parametrize("waiting_here", [False, True])
def test_who_takes_nothing_is_reset_in_time(waiting_here: bool) -> None:
    with network() as net:
        scene = Scene(net, send_timeout=20.0, send_buffer=1 << 18, receive_buffer=1 << 14)
        scene.fill()
        if waiting_here:
            scene.near.write(BIG)
            net.settle()
            assert scene.near.pending_size
        scene.owner.close(Severing)
        net.elapse(SEVER_TIME * 5)
        assert scene.near.connected
        net.elapse(LINGER_TIME)
        assert scene.near.connected == waiting_here
        net.elapse(20.0)
        assert not scene.near.connected
