"""Anonymous memory shared between processes: the scoreboard, and snapshots on their way.

`SharedMemory` is a memfd mapped as 64-bit integers; pages nobody touched cost nothing,
so segments may be wide. The descriptor stays open in the process that created it (it is
sent to every later child); a process that adopted one closes it, for the mapping keeps
its own. A mapping can only be closed when no view of it is left, so views are handed out
by `row` and released by `close`.

A *blob* is a memfd read once: bytes too large for a message of the link.
"""

from __future__ import annotations

import mmap
import os

CELL = 8  # bytes of one column


class SharedMemory:
    """``rows`` rows of ``width`` 64-bit integers, zero at first."""

    def __init__(self, descriptor: int, rows: int, width: int) -> None:
        self.descriptor: int | None = descriptor
        self.rows = rows
        self.width = width
        self._map = mmap.mmap(descriptor, rows * width * CELL)
        self._bytes = memoryview(self._map)
        self._all = self._bytes.cast("q")
        self._views: list[memoryview] = []

    @classmethod
    def create(cls, rows: int, width: int) -> SharedMemory:
        """A new segment; its descriptor is ours until `close`."""
        descriptor = os.memfd_create("txlb-scoreboard", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, rows * width * CELL)
            return cls(descriptor, rows, width)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def adopt(cls, descriptor: int, rows: int, width: int) -> SharedMemory:
        """Map somebody else's segment; closes ``descriptor``."""
        try:
            memory = cls(descriptor, rows, width)
        finally:
            os.close(descriptor)
        memory.descriptor = None
        return memory

    def row(self, index: int) -> memoryview:
        """The row as items of 64 bits: store through items or slices, which are atomic per item."""
        view = self._all[index * self.width : (index + 1) * self.width]
        self._views.append(view)
        return view

    def close(self) -> None:
        """Release every row handed out, unmap, close. A row used after this raises ValueError."""
        for view in self._views:
            view.release()
        self._views.clear()
        self._all.release()
        self._bytes.release()
        self._map.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def write_blob(data: bytes) -> int:
    """A descriptor whose content is ``data``; the caller closes it."""
    descriptor = os.memfd_create("txlb-blob", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def read_blob(descriptor: int) -> bytes:
    """Everything in it, whatever its offset (all holders share one); closes the descriptor."""
    try:
        size = os.fstat(descriptor).st_size
        parts: list[bytes] = []
        offset = 0
        while offset < size:
            part = os.pread(descriptor, size - offset, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
