from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.dataplane import Net, Recorder
from twisted.internet.testing import StringTransport

from txlb.errors import SendStalled
from txlb.net.splice import PIPE_SIZE, UNBOUNDED
from txlb.net.splicing import SplicingTransport
from txlb.net.stream import READ_MAX, READ_MIN, StreamTransport
from txlb.net.transport import ForeignTransport

BODY = bytes(range(256)) * 8192  # 2 MiB: more than tight buffers and a pipe take


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net(tight=True)
    net.kind = SplicingTransport
    yield net
    net.assert_no_failure()
    net.close()


class Route:
    """Bytes from ``sender`` by the kernel to ``receiver``."""

    def __init__(self, net: Net, send_timeout: float = 60.0) -> None:
        self.source_heard, self.sink_heard = Recorder(), Recorder()
        source, self.sender = net.connect(self.source_heard)
        sink, self.receiver = net.connect(self.sink_heard, send_timeout)
        assert isinstance(source, SplicingTransport) and isinstance(sink, SplicingTransport)
        self.source, self.sink = source, sink

    def splice(self, size: int) -> bool:
        return self.source.splice_to(self.sink, size, self.source_heard)


def test_exactly_so_many_bytes_are_moved_and_the_rest_is_heard(net: Net) -> None:
    route = Route(net)
    assert route.splice(len(BODY))
    route.sender.send(BODY + b"and more")
    net.run_until(lambda: "spliced" in route.source_heard.heard)
    net.settle()
    assert route.receiver.data == BODY
    assert route.source_heard.data == b"and more"
    assert route.source_heard.spliced_bytes == len(BODY)
    assert route.source_heard.heard == ["made", "spliced"]


@pytest.mark.parametrize("size", [6, UNBOUNDED])
def test_the_read_behind_a_run_of_known_length_is_a_small_one(net: Net, size: int) -> None:
    route = Route(net)
    route.source.read_size = READ_MAX  # as it is after much data
    assert route.splice(size)
    assert route.source.read_size == (READ_MAX if size == UNBOUNDED else READ_MIN)


def test_they_come_between_what_is_written_before_and_after(net: Net) -> None:
    route = Route(net)
    route.sink.write(b"head ")
    assert route.splice(6)
    route.sender.send(b"middle")
    net.settle()
    route.sink.write(b" tail")
    net.settle()
    assert route.receiver.data == b"head middle tail"


def test_it_moves_nothing_while_something_waits(net: Net) -> None:
    route = Route(net)
    route.receiver.reading = False
    route.sink.write(BODY)
    assert route.sink.pending_size
    assert route.splice(6)
    route.sender.send(b"middle")
    net.settle()
    assert route.source_heard.spliced_bytes == 0
    assert not net.turn(), "nothing spins"
    route.receiver.reading = True
    net.run_until(lambda: "spliced" in route.source_heard.heard)
    net.settle()
    assert route.receiver.data == BODY + b"middle"


def test_an_unbounded_run_goes_on_until_it_is_thin(net: Net) -> None:
    route = Route(net)
    assert route.splice(UNBOUNDED)
    route.sender.send(BODY)
    net.run_until(lambda: len(route.receiver.data) == len(BODY))
    net.settle()
    route.sender.send(b"thin")
    net.settle()
    assert route.source.outgoing is None and len(net.loop.pipes.kept) == 1, "its pipe is free again"
    route.sender.send(b"heard")
    net.settle()
    assert route.receiver.data + route.source_heard.data == BODY + b"thinheard"
    assert route.source_heard.data.endswith(b"heard")
    assert route.source_heard.heard == ["made", "spliced"]


def test_one_at_a_time_on_either_side(net: Net) -> None:
    route, other = Route(net), Route(net)
    assert route.splice(10)
    assert not route.splice(10)
    assert not route.source.splice_to(other.sink, 10, route.source_heard)
    assert not other.source.splice_to(route.sink, 10, other.source_heard)


def test_not_to_or_from_what_is_closing(net: Net) -> None:
    for close in (StreamTransport.loseConnection, StreamTransport.loseWriteConnection):
        route = Route(net)
        close(route.sink)
        assert not route.splice(10)
    route = Route(net)
    route.source.loseConnection()
    assert not route.splice(10)


def test_a_slow_sink_stops_the_source_at_one_pipe_full(net: Net) -> None:
    route = Route(net)
    route.receiver.reading = False
    assert route.splice(len(BODY))
    route.sender.send(BODY)
    net.settle()
    assert route.source_heard.spliced_bytes < len(BODY)
    splice = route.source.outgoing
    assert splice is not None and splice.held <= PIPE_SIZE
    assert len(route.sender.unsent) > 0
    assert route.sink.is_backed_up()
    assert not net.turn(), "nothing spins"
    route.receiver.reading = True
    net.run_until(lambda: "spliced" in route.source_heard.heard)
    net.settle()
    assert route.receiver.data == BODY and not route.sink.is_backed_up()


def test_a_sink_that_takes_nothing_is_cut_off_in_time(net: Net) -> None:
    route = Route(net, send_timeout=5.0)
    route.receiver.reading = False
    assert route.splice(len(BODY))
    route.sender.send(BODY)
    net.elapse(6.0)
    assert route.sink_heard.losses == 1
    assert isinstance(route.sink_heard.reasons[0], SendStalled)
    assert route.source.outgoing is None and route.source_heard.losses == 0


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_source_that_ends_early_is_told_as_ever(net: Net, how: str) -> None:
    route = Route(net)
    assert route.splice(len(BODY))
    route.sender.send(b"only this")
    net.settle()
    (route.sender.finish if how == "fin" else route.sender.reset)()
    net.settle()
    assert route.source_heard.heard == ["made", "end" if how == "fin" else "lost"]
    assert route.receiver.data == b"only this"
    assert route.sink.incoming is None and route.sink_heard.losses == 0


class Passing(Recorder):
    """Has the kernel move what follows the first bytes."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.sink, self.receiver = net.connect(Recorder())

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.splice_to(self.sink, 1000, self)

    def readConnectionLost(self) -> None:
        assert isinstance(self.sink, SplicingTransport)
        assert self.sink.incoming is None, "the splice has ended by then"
        super().readConnectionLost()


def test_a_run_that_ends_before_it_begins_is_over_when_the_end_is_heard(net: Net) -> None:
    protocol = Passing(net)
    _, sender = net.connect(protocol)
    sender.send(b"too little")
    sender.finish()
    net.settle()
    assert protocol.heard == ["made", "end"] and protocol.data == b"too little"


def test_a_sink_that_is_lost_ends_it_and_is_told(net: Net) -> None:
    route = Route(net)
    route.receiver.reading = False
    assert route.splice(len(BODY))
    route.sender.send(BODY)
    net.settle()
    route.receiver.reset()
    net.settle()
    assert route.sink_heard.losses == 1
    assert route.source.outgoing is None and route.source_heard.losses == 0
    route.source.abortConnection()
    net.settle()
    assert route.source_heard.losses == 1


def test_a_paused_source_is_not_moved_from(net: Net) -> None:
    route = Route(net)
    assert route.splice(len(BODY))
    route.source.pauseProducing()
    route.sender.send(b"hello")
    net.settle()
    assert route.receiver.data == b""
    route.source.resumeProducing()
    net.settle()
    assert route.receiver.data == b"hello"


def test_closing_the_source_ends_it(net: Net) -> None:
    route = Route(net)
    assert route.splice(len(BODY))
    route.source.abortConnection()
    net.settle()
    assert route.sink.incoming is None
    route.sink.write(b"usable")
    net.settle()
    assert route.receiver.data == b"usable"


def test_a_pipe_with_bytes_in_it_is_never_used_again(net: Net) -> None:
    route = Route(net)
    route.receiver.reading = False
    assert route.splice(len(BODY))
    route.sender.send(BODY)
    net.settle()
    assert route.source.outgoing is not None and route.source.outgoing.held
    route.receiver.reset()
    net.settle()
    assert net.loop.pipes.kept == []
    fresh = Route(net)
    assert fresh.splice(5)
    fresh.sender.send(b"clean")
    net.settle()
    assert fresh.receiver.data == b"clean"
    assert len(net.loop.pipes.kept) == 1


def test_where_it_cannot_be_it_says_so(net: Net) -> None:
    net.loop.pipes.enabled = False
    assert not Route(net).splice(10)


def test_only_between_transports_of_ours(net: Net) -> None:
    route = Route(net)
    stream = StreamTransport(net.loop, net.pair()[0], ("127.0.0.1", 1), 60.0)
    net.transports.append(stream)
    assert not route.source.splice_to(stream, 10, route.source_heard)
    assert not route.source.splice_to(ForeignTransport(StringTransport()), 10, route.source_heard)
