from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.dataplane import Net, Recorder, network, segments_in
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.protocols.basic import LineReceiver

from txlb.errors import SendStalled
from txlb.net.loop import ENDED, READ, WRITE
from txlb.net.splicing import SplicingTransport
from txlb.net.stream import HIGH_WATER, READ_MAX, READ_MIN, SEND_PROGRESS, StreamTransport
from txlb.net.transport import StreamProtocol

BIG = b"0123456789abcdef" * 65536 * 8  # 8 MiB: more than any socket buffer here takes


@pytest.fixture(params=[StreamTransport, SplicingTransport])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with network() as net:
        net.kind = request.param
        yield net


def filled(net: Net, protocol: StreamProtocol, size: int = len(BIG), **options: Any) -> tuple[Any, Any]:
    """A transport whose peer does not read, with more written than the kernel takes."""
    transport, peer = net.connect(protocol, send_buffer=16384, receive_buffer=16384, **options)
    peer.reading = False
    transport.write(BIG[:size])
    assert transport.pending_size
    return transport, peer


class Noting(Recorder):
    """Notes what it is told with each piece, and pauses then if it shall."""

    def __init__(self, pausing: bool = False) -> None:
        super().__init__()
        self.pausing = pausing
        self.at_end: list[bool] = []

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.at_end.append(self.transport.at_end)
        if self.pausing:
            self.transport.pauseProducing()


# -- reading ----------------------------------------------------------------


def test_what_the_peer_sends_is_received_in_order(net: Net) -> None:
    protocol = Recorder()
    _, peer = net.connect(protocol)
    peer.send(BIG)
    net.run_until(lambda: len(protocol.data) == len(BIG))
    assert protocol.data == BIG
    assert protocol.heard == ["made"]


def test_one_read_a_wake_up(net: Net) -> None:
    protocol = Recorder()
    _, peer = net.connect(protocol)
    peer.send(bytes(READ_MIN * 3))
    net.loop.dispatch(net.epoll.poll(1.0))
    assert len(protocol.reads) == 1


def test_the_read_size_follows_the_traffic_within_its_bounds(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol, receive_buffer=1 << 22)
    assert transport.read_size == READ_MIN
    peer.send(BIG)
    net.run_until(lambda: len(protocol.data) == len(BIG))
    assert max(protocol.reads) > READ_MIN
    assert max(protocol.reads) <= READ_MAX
    peer.send(b"little")
    net.settle()
    assert transport.read_size == READ_MIN


def test_a_paused_transport_does_not_read_until_it_is_resumed(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    transport.pauseProducing()
    peer.send(b"hello")
    net.settle()
    assert protocol.data == b""
    transport.resumeProducing()
    net.settle()
    assert protocol.data == b"hello"


# -- writing ----------------------------------------------------------------


def test_write_sends_at_once_and_asks_for_nothing(net: Net) -> None:
    transport, peer = net.connect(Recorder())
    transport.write(b"hello")
    peer.poll()  # no turn of the loop in between
    assert peer.data == b"hello"
    assert transport.interest == READ | ENDED
    assert transport.pending_size == 0


def test_a_short_write_asks_for_writability_until_all_is_sent(net: Net) -> None:
    transport, peer = filled(net, Recorder())
    assert transport.interest == READ | ENDED | WRITE
    transport.write(b"the end")
    peer.reading = True
    net.run_until(lambda: len(peer.data) == len(BIG) + 7)
    assert peer.data == BIG + b"the end"
    assert transport.pending_size == 0
    assert transport.interest == READ | ENDED


def test_write_sequence_is_one_write(net: Net) -> None:
    transport, peer = net.connect(Recorder())
    transport.writeSequence([b"a", b"", b"bc"])
    peer.poll()
    assert peer.data == b"abc"


def test_writing_nothing_does_nothing(net: Net) -> None:
    transport, peer = net.connect(Recorder())
    transport.write(b"")
    net.settle()
    assert peer.data == b"" and peer.ending == ""


# -- producers ----------------------------------------------------------------


def test_past_the_high_water_mark_the_producer_is_paused_and_resumed_when_all_is_sent(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol, send_buffer=16384, receive_buffer=16384)
    peer.reading = False
    transport.registerProducer(protocol, True)
    while transport.pending_size <= HIGH_WATER:
        assert "pause" not in protocol.heard
        transport.write(bytes(4096))
    transport.write(bytes(4096))
    assert protocol.heard == ["made", "pause"]
    peer.reading = True
    net.run_until(lambda: "resume" in protocol.heard)
    assert protocol.heard == ["made", "pause", "resume"]
    assert transport.pending_size == 0


def test_a_producer_is_paused_when_it_registers_too_late(net: Net) -> None:
    protocol = Recorder()
    transport, _ = filled(net, protocol)
    transport.registerProducer(protocol, True)
    assert protocol.heard == ["made", "pause"]


def test_unregistering_resumes_a_paused_producer(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol)
    transport.registerProducer(protocol, True)
    transport.unregisterProducer()
    assert protocol.heard == ["made", "pause", "resume"]
    peer.reading = True
    net.run_until(lambda: transport.pending_size == 0)
    assert protocol.heard == ["made", "pause", "resume"]
    transport.unregisterProducer()


def test_unregistering_from_a_lost_transport_does_nothing(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol)
    transport.registerProducer(protocol, True)
    peer.reset()
    net.settle()
    transport.unregisterProducer()
    assert protocol.heard == ["made", "pause", "lost"]


def test_a_pipe_of_two_transports_holds_a_bounded_number_of_bytes(net: Net) -> None:
    """A fast sender is not read while the receiver does not take what it sent."""

    class Forwarding(StreamProtocol):
        def dataReceived(self, data: bytes) -> None:
            sink.write(data)
            worst.append(sink.pending_size)

    worst: list[int] = []
    sink, receiver = net.connect(Recorder(), send_buffer=16384, receive_buffer=16384)
    source, sender = net.connect(Forwarding())
    sink.registerProducer(source, True)
    receiver.reading = False
    sender.send(BIG)
    net.settle()
    assert source.paused
    assert max(worst) <= HIGH_WATER + READ_MAX
    receiver.reading = True
    net.run_until(lambda: len(receiver.data) == len(BIG))
    assert receiver.data == BIG
    assert max(worst) <= HIGH_WATER + READ_MAX


# -- the send deadline ----------------------------------------------------------------


def test_a_peer_that_takes_nothing_is_cut_off_after_the_send_time_out(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol, send_timeout=5.0)
    net.elapse(4.5)
    assert protocol.losses == 0
    net.elapse(1.0)
    assert protocol.losses == 1
    assert isinstance(protocol.reasons[0], SendStalled)
    assert not transport.connected
    peer.reading = True
    net.settle()
    assert peer.ending == "reset"


def test_a_peer_that_takes_too_little_within_the_window_is_cut_off(net: Net) -> None:
    protocol = Recorder()
    filled(net, protocol, send_timeout=5.0)
    peer = net.peers[0]
    for _ in range(60):  # a few bytes at a time: progress, but too little
        if protocol.losses:
            break
        peer.sock.recv(64)
        net.elapse(0.5)
    assert protocol.losses == 1
    assert isinstance(protocol.reasons[0], SendStalled)


def test_a_peer_that_takes_enough_in_every_window_is_not(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol, send_timeout=5.0)
    taken = 0
    for _ in range(8):
        while taken < 4 * SEND_PROGRESS and transport.pending_size:
            try:
                taken += len(peer.sock.recv(8192))
            except BlockingIOError:
                pass
            net.turn(0.005)
        taken = 0
        net.elapse(4.0)
    assert protocol.losses == 0


def test_nothing_waits_nothing_is_timed(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol, size=1 << 20, send_timeout=5.0)
    assert transport.deadline > 0.0
    peer.reading = True
    net.run_until(lambda: transport.pending_size == 0)
    assert transport.deadline == 0.0
    net.elapse(10.0)
    assert protocol.losses == 0


# -- half-close ----------------------------------------------------------------


def test_end_of_input_is_a_half_close_and_writing_goes_on(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    peer.send(b"last words")
    peer.finish()
    net.settle()
    assert protocol.data == b"last words"
    assert protocol.heard == ["made", "end"]
    transport.write(b"answer")
    net.settle()
    assert peer.data == b"answer" and peer.ending == ""
    transport.loseConnection()
    net.settle()
    assert peer.ending == "fin"
    assert protocol.heard == ["made", "end", "lost"]
    assert isinstance(protocol.reasons[0], ConnectionDone)


def test_our_fin_goes_out_behind_what_was_written_and_reading_goes_on(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol)
    transport.loseWriteConnection()
    transport.write(b"too late")
    peer.reading = True
    net.run_until(lambda: peer.ending)
    assert peer.ending == "fin"
    assert peer.data == BIG
    peer.send(b"but you")
    net.settle()
    assert protocol.data == b"but you"
    assert protocol.losses == 0
    peer.finish()
    net.settle()
    assert protocol.heard == ["made", "end", "lost"]


def test_our_fin_waits_for_the_end_of_the_batch(net: Net) -> None:
    transport, peer = net.connect(Recorder())
    transport.loseWriteConnection()
    with pytest.raises(BlockingIOError):
        peer.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    net.loop.run_deferred()
    assert peer.sock.recv(1, socket.MSG_PEEK) == b""
    transport.loseConnection()
    net.settle()
    assert peer.ending == "fin"


@pytest.mark.parametrize("end", [StreamTransport.loseConnection, StreamTransport.loseWriteConnection])
def test_what_is_written_last_leaves_with_our_fin(net: Net, end: Callable[[StreamTransport], None]) -> None:
    transport, peer = net.connect(Recorder())
    peer.send(b"unread: a close would be a reset")
    before = segments_in(peer)
    transport.write_last(b"goodbye")
    assert segments_in(peer) == before, "the kernel waits for more"
    end(transport)
    assert segments_in(peer) == before + 1, "at once, and together"
    assert peer.sock.recv(100) == b"goodbye" and peer.sock.recv(1) == b""
    peer.finish()
    net.settle()
    assert not transport.connected


def test_what_is_written_last_and_does_not_fit_is_sent_before_our_fin(net: Net) -> None:
    transport, peer = net.connect(Recorder(), send_buffer=16384, receive_buffer=16384)
    peer.reading = False
    transport.write_last(BIG)
    transport.loseConnection()
    assert transport.pending_size
    peer.reading = True
    net.run_until(lambda: peer.ending)
    assert (peer.ending, peer.data) == ("fin", BIG)


def test_our_fin_waits_for_being_asked_for_even_behind_what_is_written_last(net: Net) -> None:
    transport, peer = net.connect(Recorder(), send_buffer=16384, receive_buffer=16384)
    peer.reading = False
    transport.write_last(BIG)
    assert transport.pending_size
    peer.reading = True
    net.run_until(lambda: len(peer.data) == len(BIG))
    net.settle()
    assert peer.ending == ""
    transport.loseWriteConnection()
    net.settle()
    assert peer.ending == "fin"


def test_the_end_of_input_behind_the_last_bytes_is_heard_in_the_same_wake_up(net: Net) -> None:
    protocol = Noting()
    transport, peer = net.connect(protocol)
    peer.send(b"more is to come")
    net.settle()
    peer.send(b"the last")
    peer.finish()
    net.loop.dispatch(net.epoll.poll(1.0))
    assert protocol.heard == ["made", "end"]
    assert protocol.at_end == [False, True]
    transport.loseConnection()
    net.settle()


def test_the_end_of_input_waits_for_a_protocol_that_pauses_at_the_last_bytes(net: Net) -> None:
    protocol = Noting(pausing=True)
    transport, peer = net.connect(protocol)
    peer.send(b"the last")
    peer.finish()
    net.settle()
    assert (protocol.data, protocol.heard) == (b"the last", ["made"])
    transport.resumeProducing()
    net.settle()
    assert protocol.heard == ["made", "end"]
    transport.loseConnection()
    net.settle()


def test_more_than_one_read_before_the_end_of_input(net: Net) -> None:
    protocol = Noting()
    transport, peer = net.connect(protocol)
    peer.send(bytes(READ_MIN * 2))
    peer.finish()
    net.settle()
    assert len(protocol.data) == READ_MIN * 2 and protocol.heard == ["made", "end"]
    assert not protocol.at_end[0], "a read that is full tells nothing of the end"
    transport.loseConnection()
    net.settle()


def test_both_fins_end_the_connection_without_anybody_asking(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    transport.loseWriteConnection()
    net.settle()
    assert peer.ending == "fin"
    peer.send(b"bye")
    peer.finish()
    net.settle()
    assert protocol.data == b"bye"
    assert protocol.heard == ["made", "end", "lost"]
    assert isinstance(protocol.reasons[0], ConnectionDone)


def test_a_protocol_without_half_close_is_closed_at_the_end_of_input(net: Net) -> None:
    protocol = Recorder(half_close=False)
    _, peer = net.connect(protocol)
    peer.finish()
    net.settle()
    assert protocol.heard == ["made", "end", "lost"]
    assert peer.ending == "fin"


# -- resets, in every state ----------------------------------------------------------------


def idle(net: Net, transport: StreamTransport, peer: Any) -> None:
    pass


def paused(net: Net, transport: StreamTransport, peer: Any) -> None:
    transport.pauseProducing()


def after_their_fin(net: Net, transport: StreamTransport, peer: Any) -> None:
    peer.finish()
    net.settle()


def after_our_fin(net: Net, transport: StreamTransport, peer: Any) -> None:
    transport.loseWriteConnection()
    net.settle()


def paused_after_our_fin(net: Net, transport: StreamTransport, peer: Any) -> None:
    transport.pauseProducing()
    transport.loseWriteConnection()
    net.settle()


def backed_up(net: Net, transport: StreamTransport, peer: Any) -> None:
    peer.reading = False
    transport.write(BIG)


def backed_up_and_paused(net: Net, transport: StreamTransport, peer: Any) -> None:
    backed_up(net, transport, peer)
    transport.pauseProducing()


def backed_up_after_their_fin(net: Net, transport: StreamTransport, peer: Any) -> None:
    after_their_fin(net, transport, peer)
    backed_up(net, transport, peer)


def backed_up_and_closing(net: Net, transport: StreamTransport, peer: Any) -> None:
    backed_up(net, transport, peer)
    transport.loseConnection()


def backed_up_before_our_fin(net: Net, transport: StreamTransport, peer: Any) -> None:
    backed_up(net, transport, peer)
    transport.loseWriteConnection()


STATES = [
    idle,
    paused,
    after_their_fin,
    after_our_fin,
    paused_after_our_fin,
    backed_up,
    backed_up_and_paused,
    backed_up_after_their_fin,
    backed_up_and_closing,
    backed_up_before_our_fin,
]


@pytest.mark.parametrize("state", STATES)
def test_a_reset_is_heard_exactly_once(net: Net, state: Callable[..., None]) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    state(net, transport, peer)
    peer.reset()
    net.settle()
    assert protocol.losses == 1
    assert protocol.heard[-1] == "lost"
    assert not transport.connected
    assert net.loop.handlers == {}
    net.elapse(100.0)
    assert protocol.losses == 1


@pytest.mark.parametrize("unread", [b"", b"not read yet"])
@pytest.mark.parametrize("state", STATES)
def test_a_reset_that_a_write_meets_first_is_heard_though_reading_is_paused(
    net: Net, state: Callable[..., None], unread: bytes
) -> None:
    """The write takes the error off the socket; waiting for a reader would be waiting for ever."""
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    state(net, transport, peer)
    if not transport.read_closed:
        peer.sock.send(unread)
    peer.reset()
    transport.write(b"into the void")
    transport.pauseProducing()
    net.settle()
    assert protocol.losses == 1
    assert net.loop.handlers == {}


def test_a_reset_that_a_flush_meets_while_reading_makes_the_protocol_pause(net: Net) -> None:
    class Pausing(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.pauseProducing()

    protocol = Pausing()
    _, peer = filled(net, protocol)
    peer.sock.send(b"data")
    peer.reset()
    net.settle()
    assert protocol.losses == 1
    assert net.loop.handlers == {}


@pytest.mark.parametrize("state", STATES)
def test_a_reset_that_a_write_meets_first_is_heard_exactly_once(net: Net, state: Callable[..., None]) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    state(net, transport, peer)
    peer.reset()
    transport.write(b"into the void")
    transport.write(b"and again")
    transport.resumeProducing()
    net.settle()
    assert protocol.losses == 1
    assert not transport.connected
    assert net.loop.handlers == {}


def test_a_reset_is_a_loss_not_an_end(net: Net) -> None:
    protocol = Recorder()
    _, peer = net.connect(protocol)
    peer.reset()
    net.settle()
    assert protocol.heard == ["made", "lost"]
    assert isinstance(protocol.reasons[0], ConnectionLost)


def test_what_the_peer_sent_before_it_was_reset_is_delivered(net: Net) -> None:
    """A peer that closes with unread data resets; its last words arrived before."""
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    peer.reading = False
    transport.write(b"never read")
    peer.sock.send(b"last words")
    peer.close()
    net.settle()
    assert protocol.data == b"last words"
    assert protocol.losses == 1


def test_what_the_peer_sent_is_delivered_when_a_write_finds_out_first(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    peer.sock.send(b"last words")
    peer.reset()
    transport.write(b"into the void")
    assert protocol.heard == ["made"]
    net.settle()
    assert protocol.data == b"last words"
    assert protocol.losses == 1


def test_what_the_peer_sent_before_its_fin_waits_for_a_paused_reader(net: Net) -> None:
    """Both directions are shut, which cannot be masked: the descriptor leaves the set meanwhile."""
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    transport.pauseProducing()
    transport.loseWriteConnection()
    peer.send(b"last words")
    peer.finish()
    net.settle()
    assert transport.parked
    assert not net.turn(), "nothing spins"
    assert protocol.heard == ["made"]
    transport.resumeProducing()
    net.settle()
    assert protocol.data == b"last words"
    assert protocol.heard == ["made", "end", "lost"]


def test_a_parked_transport_can_be_closed(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    transport.pauseProducing()
    transport.loseWriteConnection()
    peer.finish()
    net.settle()
    assert transport.parked
    assert transport in net.loop.handlers.values(), "who looks for connections finds it"
    transport.loseConnection()
    net.settle()
    assert protocol.losses == 1
    assert transport not in net.loop.handlers.values()


def test_a_reset_behind_the_end_of_input_waits_until_what_came_before_is_read(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    transport.pauseProducing()
    peer.send(b"all there is")
    peer.close()
    transport.write(b"nobody reads this")  # and the peer says so
    net.settle()
    assert transport.parked
    assert protocol.heard == ["made"]
    transport.resumeProducing()
    net.settle()
    assert protocol.data == b"all there is"
    assert protocol.heard == ["made", "end", "lost"]
    assert isinstance(protocol.reasons[0], ConnectionLost)
    assert not isinstance(protocol.reasons[0], ConnectionDone)


# -- closing ----------------------------------------------------------------


def test_lose_connection_sends_everything_first(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol)
    transport.loseConnection()
    transport.write(b"too late")
    net.settle()
    assert protocol.losses == 0
    peer.reading = True
    net.run_until(lambda: peer.ending)
    assert peer.data == BIG
    assert peer.ending == "fin"
    assert protocol.heard == ["made", "lost"]
    assert isinstance(protocol.reasons[0], ConnectionDone)


def test_abort_resets_and_drops_what_waits(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol)
    transport.abortConnection()
    net.settle()
    assert protocol.heard == ["made", "lost"]
    assert isinstance(protocol.reasons[0], ConnectionAborted)
    peer.reading = True
    net.settle()
    assert peer.ending == "reset"
    assert len(peer.data) < len(BIG)


def test_abort_overtakes_a_close_that_waits(net: Net) -> None:
    protocol = Recorder()
    transport, _ = filled(net, protocol)
    transport.loseConnection()
    transport.abortConnection()
    net.settle()
    assert protocol.losses == 1
    assert isinstance(protocol.reasons[0], ConnectionAborted)


@pytest.mark.parametrize("name", ["loseConnection", "abortConnection"])
def test_the_loss_is_never_heard_from_inside_a_call_of_ones_own(net: Net, name: str) -> None:
    class Closing(Recorder):
        def makeConnection(self, transport: Any) -> None:
            super().makeConnection(transport)
            self.close()

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.close()

        def close(self) -> None:
            self.inside += 1
            getattr(self.transport, name)()
            self.transport.write(b"after")
            self.inside -= 1

    closing = Closing()
    net.connect(closing)
    assert closing.losses == 0  # outside a batch: when the next one is over
    net.settle()
    assert closing.losses == 1


def test_nothing_is_received_after_closing(net: Net) -> None:
    protocol = Recorder()
    transport, peer = net.connect(protocol)
    peer.send(b"hello")
    transport.loseConnection()
    net.settle()
    assert protocol.data == b""
    assert protocol.heard == ["made", "lost"]


def test_a_lost_transport_is_deaf_and_mute(net: Net) -> None:
    protocol = Recorder()
    transport, _ = net.connect(protocol)
    transport.abortConnection()
    net.settle()
    transport.write(b"x")
    transport.writeSequence([b"x"])
    transport.loseConnection()
    transport.loseWriteConnection()
    transport.abortConnection()
    transport.pauseProducing()
    transport.resumeProducing()
    transport.stopProducing()
    net.settle()
    assert protocol.heard == ["made", "lost"]


def test_a_failed_write_while_closing_ends_the_connection(net: Net) -> None:
    protocol = Recorder()
    transport, peer = filled(net, protocol)
    transport.pauseProducing()
    transport.loseConnection()
    peer.reset()
    net.settle()
    assert protocol.losses == 1


def test_an_exception_of_the_protocol_ends_its_connection_only() -> None:
    class Broken(Recorder):
        def dataReceived(self, data: bytes) -> None:
            raise ValueError("broken")

    net = Net()
    broken, sound = Broken(), Recorder()
    _, bad = net.connect(broken)
    _, good = net.connect(sound)
    bad.send(b"x")
    good.send(b"x")
    net.settle()
    assert broken.heard == ["made", "lost"]
    assert isinstance(broken.reasons[0], ValueError)
    assert sound.data == b"x" and sound.losses == 0
    assert net.loop.failures == 1
    net.close()


# -- Twisted's protocols, unchanged ----------------------------------------------------------------


class Echo(LineReceiver):
    delimiter = b"\n"

    def __init__(self) -> None:
        self.events: list[str] = []

    def connectionMade(self) -> None:
        self.events.append("made")
        self.sendLine(b"welcome")

    def lineReceived(self, line: bytes) -> None:
        if line == b"quit":
            self.sendLine(b"bye")
            self.transport.loseConnection()
        else:
            self.sendLine(line)

    def connectionLost(self, reason: Any = None) -> None:
        self.events.append(reason.value.__class__.__name__)


def test_a_line_receiver_runs_unchanged(net: Net) -> None:
    protocol = Echo()
    _, peer = net.connect(protocol)
    for piece in (b"hel", b"lo\nwor", b"ld\n", b"quit\nignored\n"):
        peer.send(piece)
        net.settle()
    assert peer.data == b"welcome\nhello\nworld\nbye\n"
    assert peer.ending in ("fin", "reset")
    assert protocol.events == ["made", "ConnectionDone"]


def test_a_line_receiver_pauses_itself(net: Net) -> None:
    protocol = Echo()
    _, peer = net.connect(protocol)
    protocol.pauseProducing()
    peer.send(b"one\ntwo\n")
    net.settle()
    assert peer.take() == b"welcome\n"
    protocol.resumeProducing()
    net.settle()
    assert peer.take() == b"one\ntwo\n"


def test_a_twisted_protocol_without_half_close_is_closed_at_the_end_of_input(net: Net) -> None:
    protocol = Echo()
    _, peer = net.connect(protocol)
    peer.send(b"question\n")
    peer.finish()
    net.settle()
    assert peer.data == b"welcome\nquestion\n"
    assert peer.ending == "fin"
    assert protocol.events == ["made", "ConnectionDone"]


def test_a_twisted_protocol_with_half_close_goes_on(net: Net) -> None:
    class Half(Protocol):
        ended = False

        def readConnectionLost(self) -> None:
            self.ended = True

    protocol = Half()
    _, peer = net.connect(protocol)
    peer.finish()
    net.settle()
    assert protocol.ended
    protocol.transport.write(b"still here")
    net.settle()
    assert peer.data == b"still here" and peer.ending == ""


# -- the rest of ITCPTransport ----------------------------------------------------------------


def test_addresses_and_options(net: Net) -> None:
    transport, peer = net.connect(Recorder())
    assert transport.getPeer() == IPv4Address("TCP", *peer.sock.getsockname())
    assert transport.getHost() == IPv4Address("TCP", *peer.sock.getpeername())
    for enabled in (True, False):
        transport.setTcpNoDelay(enabled)
        transport.setTcpKeepAlive(enabled)
        assert bool(transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is enabled
        assert bool(transport.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is enabled


def test_an_ipv6_peer(net: Net) -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listening,
        socket.create_connection(listening.getsockname()[:2]) as far,
    ):
        near, address = listening.accept()
        transport = StreamTransport(net.loop, near, address, 60.0)
        transport.start(Recorder())
        assert transport.getPeer() == IPv6Address("TCP", "::1", far.getsockname()[1])
        assert isinstance(transport.getHost(), IPv6Address)
        transport.abortConnection()
        net.settle()


def test_a_blocking_socket_does_not_block(net: Net) -> None:
    """What a listening socket accepts is left blocking."""
    near, peer = net.pair()
    near.setblocking(True)
    assert os.get_blocking(near.fileno())
    protocol = Recorder()
    transport = StreamTransport(net.loop, near, near.getpeername(), 60.0)
    transport.start(protocol)
    peer.reading = False
    transport.write(BIG)
    transport.ready(READ)  # nothing there
    assert transport.pending_size
    assert protocol.losses == 0
    transport.abortConnection()
    net.settle()


def test_an_idle_connection_is_stale_once_the_peer_spoke_or_left(net: Net) -> None:
    fresh, _ = net.connect(Recorder())
    assert not fresh.is_stale()
    spoke, peer = net.connect(Recorder())
    peer.sock.send(b"x")
    assert spoke.is_stale()
    finished, peer = net.connect(Recorder())
    peer.finish()
    assert finished.is_stale()
    left, peer = net.connect(Recorder())
    peer.reset()
    assert left.is_stale()


def test_a_transport_is_backed_up_while_something_waits(net: Net) -> None:
    transport, peer = filled(net, Recorder())
    assert transport.is_backed_up()
    peer.reading = True
    net.run_until(lambda: not transport.is_backed_up())
    assert peer.data == BIG
