"""Reading the scoreboard: sums over workers, gauges of the dead, columns handed out and taken back."""

from __future__ import annotations

from txlb.core.model import Snapshot
from txlb.core.scoreboard import WORKER, Columns
from txlb.net.shared_memory import SharedMemory


class Scoreboard:
    """The segment, and the columns of the generation in force. One row per worker."""

    def __init__(self, snapshot: Snapshot, rows: int) -> None:
        self.columns = Columns.for_snapshot(snapshot)
        self.memory = SharedMemory.create(rows, self.columns.width)
        self._rows = [self.memory.row(index) for index in range(rows)]

    def allocate(self, snapshot: Snapshot, acknowledged: int) -> Columns:
        """Columns for the next snapshot; in force once `adopt` is called.

        ``acknowledged`` is the lowest generation any worker runs: columns retired by then
        are zeroed and used again. Raises `ColumnsExhausted`.
        """
        self.columns, freed = self.columns.reclaim(acknowledged)
        for base, size in freed:
            for row in self._rows:
                for column in range(base, base + size):
                    row[column] = 0
        return Columns.for_snapshot(snapshot, self.columns)

    def adopt(self, columns: Columns) -> None:
        """These columns are in force now."""
        self.columns = columns

    def row(self, index: int) -> memoryview:
        """One worker's row."""
        return self._rows[index]

    def worker(self, index: int, name: str) -> int:
        """A field of one worker's own block."""
        return int(self._rows[index][self.columns.worker + WORKER.index(name)])

    def total(self, column: int) -> int:
        """The sum of a column over all workers."""
        return sum(row[column] for row in self._rows)

    def totals(self) -> list[int]:
        """Every used column summed over the workers: one consistent enough picture for a scrape."""
        used = self.columns.used
        sums: list[int] = self._rows[0][:used].tolist()
        for row in self._rows[1:]:
            sums = [a + b for a, b in zip(sums, row[:used].tolist(), strict=True)]
        return sums

    def zero_gauges(self, index: int) -> None:
        """After a worker died: what it had open is gone; what it counted stays."""
        row = self._rows[index]
        for column in self.columns.gauges():
            row[column] = 0

    def close(self) -> None:
        self.memory.close()
