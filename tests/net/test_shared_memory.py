"""`txlb.net.shared_memory`: what one process writes the other reads; nothing stays open."""

from __future__ import annotations

import os

import pytest

from txlb.net.shared_memory import SharedMemory, read_blob, write_blob


def test_rows_are_zero_apart_and_shared_by_descriptor():
    memory = SharedMemory.create(2, 512)
    assert memory.descriptor is not None
    other = SharedMemory.adopt(os.dup(memory.descriptor), 2, 512)
    mine, theirs = memory.row(1), other.row(1)
    assert set(theirs) == {0}
    mine[511] = -(2**63)
    theirs[0] = 2**63 - 1
    assert (mine[0], theirs[511]) == (2**63 - 1, -(2**63))
    assert set(memory.row(0)) == {0}
    other.close()
    memory.close()


def test_close_releases_rows_that_are_still_held():
    memory = SharedMemory.create(1, 512)
    row = memory.row(0)
    memory.close()
    with pytest.raises(ValueError, match="released"):
        row[0] = 1


def test_adopting_what_is_too_small_fails_and_leaks_nothing():
    memory = SharedMemory.create(1, 512)
    assert memory.descriptor is not None
    with pytest.raises(ValueError, match="mmap"):
        SharedMemory.adopt(os.dup(memory.descriptor), 9, 512)
    memory.close()


def test_wide_rows_cost_only_what_is_touched():
    memory = SharedMemory.create(4, 1 << 21)
    assert memory.descriptor is not None
    memory.row(3)[1 << 20] = 1
    assert os.fstat(memory.descriptor).st_blocks * 512 < 1 << 20
    memory.close()


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a_blob_is_read_whole_by_several_readers(size: int):
    data = os.urandom(size)
    descriptor = write_blob(data)
    assert read_blob(os.dup(descriptor)) == data
    assert read_blob(descriptor) == data
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)
