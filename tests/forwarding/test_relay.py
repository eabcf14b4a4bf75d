from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.dataplane import Lines, Net, Peer, network, segments_in
from twisted.internet.error import ConnectionLost

from txlb.core import outcome as outcomes
from txlb.core import termination as ends
from txlb.core.backend import Backend
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.listener import Listener
from txlb.forwarding.relay import Relay, RelayOwner
from txlb.net.stream import HIGH_WATER, READ_MAX, StreamTransport
from txlb.net.transport import StreamProtocol

BIG = b"0123456789abcdef" * 65536 * 2  # 2 MiB: more than tight buffers take


class Side(StreamProtocol):
    """One side's protocol: tells the relay what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Any = None  # (data, finished, lost)

    def dataReceived(self, data: bytes) -> None:
        self.heard[0](data)

    def readConnectionLost(self) -> None:
        self.heard[1]()

    def connectionLost(self, reason: Any) -> None:
        self.heard[2](reason.value)


class Tunnel(RelayOwner):
    """A relay between two peers of the test's."""

    def __init__(self, net: Net, idle_timeout: float = 60.0) -> None:
        self.net = net
        self.endings: list[int] = []
        self.listener = Listener("db", net.loop, AccessLog(Lines(), "json", "worker-1", time.time))
        self.server = Backend("b", "127.0.0.1", "127.0.0.1", 1)
        client, backend = Side(), Side()
        self.near_client, self.client = net.connect(client)
        self.near_backend, self.backend = net.connect(backend)
        self.relay = Relay(
            self, self.listener, self.server, self.near_client, self.near_backend, idle_timeout
        )
        relay = self.relay
        client.heard = (relay.from_client, relay.client_finished, relay.client_lost)
        backend.heard = (relay.from_backend, relay.backend_finished, relay.backend_lost)
        relay.start()

    def relay_ended(self) -> None:
        self.endings.append(self.relay.termination)

    def sides(self, from_client: bool) -> tuple[Peer, Peer, StreamTransport]:
        """Who sends, who receives, and our transport to the latter."""
        if from_client:
            return self.client, self.backend, self.near_backend
        return self.backend, self.client, self.near_client

    def is_gone(self) -> bool:
        return not self.near_client.connected and not self.near_backend.connected


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net(tight=True)
    yield net
    net.close()


both_ways = pytest.mark.parametrize("from_client", [True, False])


@both_ways
def test_what_one_side_sends_the_other_gets(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net)
    sender, receiver, _ = tunnel.sides(from_client)
    sender.send(BIG)
    net.run_until(lambda: len(receiver.data) == len(BIG))
    assert receiver.data == BIG
    relay = tunnel.relay
    moved = (len(BIG), 0) if from_client else (0, len(BIG))
    assert (relay.bytes_in, relay.bytes_out) == moved
    assert (tunnel.listener.bytes_in, tunnel.listener.bytes_out) == moved, "counted while it runs"
    assert tunnel.server.bytes_out == moved[0]


@both_ways
def test_a_side_is_paused_while_the_other_does_not_take_it(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net)
    sender, receiver, sink = tunnel.sides(from_client)
    receiver.reading = False
    sender.send(BIG)
    for _ in range(200):
        net.turn()
        assert sink.pending_size <= HIGH_WATER + READ_MAX
    assert len(sender.unsent) > 0
    receiver.send(b"the other direction goes on")
    net.settle()
    assert sender.data == b"the other direction goes on"
    receiver.reading = True
    net.run_until(lambda: len(receiver.data) == len(BIG))


@both_ways
def test_fin_becomes_fin_behind_what_was_sent_and_the_other_direction_goes_on(
    net: Net, from_client: bool
) -> None:
    tunnel = Tunnel(net)
    sender, receiver, _ = tunnel.sides(from_client)
    receiver.reading = False
    sender.send(BIG)
    net.settle()
    receiver.reading = True
    net.run_until(lambda: not sender.unsent)
    sender.finish()
    net.run_until(lambda: receiver.ending)
    assert receiver.ending == "fin" and receiver.data == BIG
    assert sender.ending == "" and tunnel.endings == []
    receiver.send(b"still here")
    net.settle()
    assert sender.data == b"still here"


@both_ways
def test_the_last_bytes_and_fin_go_on_as_one_packet(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net)
    sender, receiver, _ = tunnel.sides(from_client)
    before = segments_in(receiver)
    sender.send(b"the last")
    sender.finish()
    net.settle()
    assert (receiver.data, receiver.ending) == (b"the last", "fin")
    assert segments_in(receiver) == before + 1


@both_ways
def test_both_fins_close_both_in_order(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net)
    sender, receiver, _ = tunnel.sides(from_client)
    sender.send(b"one")
    sender.finish()
    net.settle()
    receiver.send(b"two")
    receiver.finish()
    net.settle()
    assert (sender.data, receiver.data) == (b"two", b"one")
    assert sender.ending == receiver.ending == "fin"
    assert tunnel.is_gone() and tunnel.endings == [ends.NORMAL]


@both_ways
def test_a_reset_resets_the_other(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net)
    sender, receiver, _ = tunnel.sides(from_client)
    sender.send(b"before")
    net.settle()
    sender.reset()
    net.settle()
    assert receiver.data == b"before" and receiver.ending == "reset"
    assert tunnel.is_gone()
    assert tunnel.endings == [ends.CLIENT_ABORT_TUNNEL if from_client else ends.BACKEND_RESET_TUNNEL]
    assert tunnel.relay.outcome == (outcomes.OK if from_client else outcomes.RESET)


@both_ways
def test_a_side_lost_after_its_fin_has_what_it_sent_delivered(net: Net, from_client: bool) -> None:
    """It sent everything and closed; what the other sends then comes back as a reset."""
    tunnel = Tunnel(net)
    sender, receiver, sink = tunnel.sides(from_client)
    receiver.reading = False
    sent = b""
    while not sink.pending_size:  # not so much that the sender is paused
        sent += BIG[: 1 << 14]
        sender.send(BIG[: 1 << 14])
        net.settle()
    sender.finish()
    net.settle()
    assert tunnel.relay.client_done if from_client else tunnel.relay.backend_done
    assert sink.pending_size
    sender.close()
    receiver.send(b"an answer that nobody waits for")
    net.settle()
    receiver.reading = True
    net.run_until(lambda: receiver.ending)
    assert (len(receiver.data), receiver.ending) == (len(sent), "fin")
    assert receiver.data == sent
    assert not sink.paused and tunnel.endings == []
    receiver.finish()
    net.run_until(tunnel.is_gone)
    assert tunnel.endings == [ends.CLIENT_ABORT_TUNNEL if from_client else ends.BACKEND_RESET_TUNNEL]
    assert tunnel.relay.outcome == outcomes.OK


@both_ways
def test_who_is_closed_in_order_gets_fin_even_with_its_bytes_unread(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net)
    sender, receiver, _ = tunnel.sides(from_client)
    sender.send(b"all")
    sender.finish()
    net.settle()
    receiver.sock.send(b"unread")  # and in the same batch the sender is lost
    (tunnel.relay.client_lost if from_client else tunnel.relay.backend_lost)(ConnectionLost())
    net.loop.run_deferred()
    net.settle()
    assert (receiver.data, receiver.ending) == (b"all", "fin")


@both_ways
def test_silence_ends_it_with_resets(net: Net, from_client: bool) -> None:
    tunnel = Tunnel(net, idle_timeout=10.0)
    sender, receiver, _ = tunnel.sides(from_client)
    for _ in range(4):
        net.elapse(8.0)
        sender.send(b"x")
        net.settle()
    assert tunnel.endings == []
    net.elapse(11.0)
    assert tunnel.endings == [ends.TUNNEL_IDLE]
    assert sender.ending == receiver.ending == "reset" and tunnel.is_gone()


def test_abort_ends_both_and_is_told_once(net: Net) -> None:
    tunnel = Tunnel(net)
    tunnel.relay.abort(ends.SHUTDOWN)
    tunnel.relay.abort(ends.TUNNEL_IDLE)
    net.settle()
    assert tunnel.client.ending == tunnel.backend.ending == "reset"
    assert tunnel.is_gone() and tunnel.endings == [ends.SHUTDOWN]
    net.elapse(100.0)
    assert tunnel.endings == [ends.SHUTDOWN]


def test_the_end_while_one_is_paused() -> None:
    with network() as net:
        tunnel = Tunnel(net)
        tunnel.backend.reading = False
        tunnel.client.send(BIG * 8)
        net.settle()
        assert tunnel.near_client.paused
        tunnel.backend.reset()
        net.settle()
        assert tunnel.is_gone() and tunnel.endings == [ends.BACKEND_RESET_TUNNEL]
        net.settle()


@both_ways
def test_what_nobody_takes_any_more_is_read_and_dropped(net: Net, from_client: bool) -> None:
    """Else one that writes before it reads would wait, and so would we, until the send deadline."""
    tunnel = Tunnel(net)
    sender, receiver, sink = tunnel.sides(from_client)
    sender.reading = receiver.reading = False
    receiver.send(BIG)
    net.settle()
    assert sink.paused and receiver.unsent, "one way is backed up"
    sent = b""
    while not sink.pending_size:
        sent += BIG[: 1 << 14]
        sender.send(BIG[: 1 << 14])
        net.settle()
    sender.finish()
    net.settle()
    counted = (tunnel.relay.bytes_in, tunnel.relay.bytes_out)
    assert sink.pending_size
    sender.reset()
    net.run_until(lambda: not sink.paused)
    net.run_until(lambda: not receiver.unsent)
    assert (tunnel.relay.bytes_in, tunnel.relay.bytes_out) == counted, "what is dropped has not moved"
    receiver.reading = True
    net.run_until(lambda: receiver.ending)
    assert (receiver.data, receiver.ending) == (sent, "fin")
    receiver.finish()
    net.run_until(lambda: tunnel.endings)
