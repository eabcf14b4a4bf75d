from __future__ import annotations

import os
import socket

import pytest

from txlb.net.splice import KEPT_PIPES, PipeStore, Splice
from txlb.net.transport import StreamProtocol


def test_empty_pipes_are_kept_for_reuse_within_bounds() -> None:
    store = PipeStore()
    store.set_limit(KEPT_PIPES + 10)
    pipe = store.take()
    assert pipe is not None
    store.give(pipe)
    assert store.take() is pipe
    store.give(pipe)
    pipes = [store.take() for _ in range(KEPT_PIPES + 3)]
    for one in pipes:
        assert one is not None
        store.give(one)
    assert len(store.kept) == KEPT_PIPES
    store.close()
    assert store.kept == []


def test_there_are_at_most_so_many() -> None:
    store = PipeStore()
    store.set_limit(2)
    one, two = store.take(), store.take()
    assert one is not None and two is not None and store.take() is None
    store.drop(one)
    three = store.take()
    assert three is not None, "a closed one makes room"
    store.give(three)
    assert (store.open, store.kept) == (2, [three]), "those that are kept count"
    store.set_limit(1)
    assert (store.open, store.kept) == (1, []), "and go first when there may be fewer"
    store.set_limit(0)
    store.give(two)
    assert (store.open, store.kept) == (0, [])


def test_no_pipe_is_better_than_a_small_one() -> None:
    store = PipeStore()
    store.pipe_size = 3 << 30  # more than anybody may have
    before = len(os.listdir("/proc/self/fd"))
    assert store.take() is None and store.open == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_pipes_do_not_block() -> None:
    store = PipeStore()
    pipe = store.take()
    assert pipe is not None
    with pytest.raises(BlockingIOError):
        os.read(pipe.reader, 1)
    pipe.close()


def test_a_splice_moves_so_much_and_no_more() -> None:
    store = PipeStore()
    pipe = store.take()
    assert pipe is not None
    here, there = socket.socketpair(), socket.socketpair()
    for sock in (*here, *there):
        sock.setblocking(False)
    splice = Splice(store, pipe, StreamProtocol(), here[1].fileno(), there[0].fileno(), 8)
    with pytest.raises(BlockingIOError):
        splice.pull()
    here[0].send(b"0123456789")
    assert splice.push() == 0
    assert splice.pull() == 8
    assert (splice.left, splice.held) == (0, 8)
    assert splice.push() == 8
    assert (splice.left, splice.held) == (0, 0)
    assert there[1].recv(100) == b"01234567" and here[1].recv(100) == b"89"
    splice.release()
    assert store.kept == [pipe]
    assert splice.pull() == splice.push() == 0, "it has no pipe any more"
    store.close()
    for sock in (*here, *there):
        sock.close()


def test_a_splice_tells_the_end_of_input() -> None:
    store = PipeStore()
    pipe = store.take()
    assert pipe is not None
    here, there = socket.socketpair(), socket.socketpair()
    splice = Splice(store, pipe, StreamProtocol(), here[1].fileno(), there[0].fileno(), 8)
    here[0].send(b"abc")
    assert splice.pull() == 3
    here[0].close()
    assert splice.pull() == 0
    splice.release()
    assert store.kept == [], "a pipe with bytes in it is never used again"
    here[1].close()
    for sock in there:
        sock.close()
