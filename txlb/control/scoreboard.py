"""Reading the scoreboard: sums over workers, gauges of the dead, columns handed out and taken back."""

from __future__ import annotations

from collections.abc import Sequence

from txlb.core.model import Snapshot
from txlb.core.scoreboard import WORKER, Columns
from txlb.net.shared_memory import SharedMemory


class Scoreboard:
    """The segment, and the columns of the generation in force. One row per worker."""

    def __init__(self, snapshot: Snapshot, rows: int) -> None:
        self.columns = Columns.for_snapshot(snapshot)
        self.memory = SharedMemory.create(rows, self.columns.width)
        self._rows = [self.memory.row(index) for index in range(rows)]

    def reclaim(self, acknowledged: int) -> None:
        """Zero the columns retired by this generation, which every worker runs, and free them."""
        self.columns, freed = self.columns.reclaim(acknowledged)
        for base, size in freed:
            for row in self._rows:
                for column in range(base, base + size):
                    row[column] = 0

    def row(self, index: int) -> memoryview:
        """One worker's row."""
        return self._rows[index]

    def worker(self, index: int, name: str) -> int:
        """A field of one worker's own block."""
        return int(self._rows[index][self.columns.worker + WORKER.index(name)])

    def total(self, column: int) -> int:
        """The sum of a column over all workers."""
        return sum(row[column] for row in self._rows)

    def copy(self) -> list[bytes]:
        """The used columns of each row, quickly: `sums` of them may be taken in a thread."""
        return [row[: self.columns.used].tobytes() for row in self._rows]

    def zero_gauges(self, index: int) -> None:
        """After a worker died: what it had open is gone; what it counted stays."""
        row = self._rows[index]
        for column in self.columns.gauges():
            row[column] = 0

    def close(self) -> None:
        self.memory.close()


def sums(rows: Sequence[bytes]) -> list[int]:
    """Every column summed over the rows of a `Scoreboard.copy`."""
    return [sum(column) for column in zip(*(memoryview(row).cast("q") for row in rows), strict=True)]
