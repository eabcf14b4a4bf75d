"""Where every counter lives: the layout of the scoreboard.

The scoreboard is shared memory of 64-bit integers, one row per worker. A row has
exactly one writer, its worker; control and siblings only read. Rules:

* A thing (the worker itself, a listener, a rule, a backend, a cell) owns a *block* of
  consecutive columns, the same in every row. The field tuples below are the blocks:
  ``base + BACKEND.index("idle")`` is the column of a backend's idle connections.
* A *cell* counts answers by code for one (listener, rule, backend). Rule and backend
  are "" for an answer that no rule or no backend gave. Cells with a backend exist only while there
  are at most `MAX_CELLS` of them; beyond that `cell` answers -1 for those and only the
  backend's own block says what it answered.
* What stays from one snapshot to the next keeps its columns, and with them its counts.
* A column of something that is gone is reused only after every worker acknowledged a
  generation without it, and is zeroed before. So after ``apply`` of a snapshot a worker
  never writes to a column that the snapshot's columns do not name.
* A segment never grows. It is sparse memory, so its width is chosen far beyond the need
  (`width_for`); `ColumnsExhausted` says that only a restart helps.
* Gauges (`GAUGES`) describe this moment and are zeroed when their worker dies; everything
  else is a counter, which the successor continues.
* Latency buckets are those of `txlb.core.latency`; the count of a histogram is their sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from txlb.core.latency import BUCKETS
from txlb.core.model import Snapshot

LATENCY: tuple[str, ...] = (*(f"latency_{index}" for index in range(BUCKETS)), "latency_sum_us")
CODES: tuple[str, ...] = ("code_1xx", "code_2xx", "code_3xx", "code_4xx", "code_5xx")

WORKER: tuple[str, ...] = (
    "generation",
    "connections",
    "loop_lag_max_us",
    "loop_lag_total_us",
    "ticks",
    "log_dropped",
    "heartbeat_ms",  # time.monotonic() * 1000 of the last tick; 0 = not started
    "accept_pauses",
)
DATAGRAMS: tuple[str, ...] = (  # of UDP listeners; zero for others
    "datagrams_in",
    "datagrams_out",
    "flows_evicted",
    "dropped_source",
    "dropped_forbidden",
    "dropped_backend",
    "dropped_send",
    "dropped_resources",
    "dropped_queue",
)
LISTENER: tuple[str, ...] = (
    "connections",
    "connections_total",
    "bytes_in",
    "bytes_out",
    "requests",
    "errors_400",
    "errors_404",
    "errors_408",
    "errors_413",
    "errors_414",
    "errors_417",
    "errors_421",
    "errors_431",
    "errors_501",
    "errors_502",
    "errors_503",
    "errors_504",
    "errors_505",
    "errors_5xx",  # txlb's own answers of 500..599 without a column of their own
    "errors_client_abort",
    "errors_client_timeout",
    "errors_send_timeout",
    "errors_internal",
    "errors_proxy_protocol",
    "errors_tls_handshake",  # not TLS, nothing in common, cut off, an unknown name
    "errors_tls_timeout",
    "errors_tls_client_certificate",  # missing or not valid
    "errors_tls_crowded",  # gave way: too many under way
    "errors_tls_plain_http",
    "tls_full",  # handshakes that were completed
    "tls_resumed",
    *DATAGRAMS,
    "errors_client_hello",
    "errors_unrecognized_name",
)
RULE: tuple[str, ...] = ("requests", "retries", "panic_picks", "algorithm_errors", *CODES, *LATENCY)
BACKEND: tuple[str, ...] = (
    "active",
    "connections",
    "idle",
    "requests",
    "errors",
    *CODES,
    "connect_failures",
    "timeouts",
    "resets",
    "bad_responses",
    "bytes_in",
    "bytes_out",
    *LATENCY,
)
CELL: tuple[str, ...] = CODES

GAUGES: dict[str, frozenset[str]] = {
    "worker": frozenset({"generation", "connections", "loop_lag_max_us", "heartbeat_ms"}),
    "listener": frozenset({"connections"}),
    "rule": frozenset(),
    "backend": frozenset({"active", "connections", "idle"}),
    "cell": frozenset(),
}
MAX_CELLS = 20_000
MIN_WIDTH = 1 << 21  # 16 MiB of address space per worker; only touched pages cost memory

Cell = tuple[str, str, str]
_Key = TypeVar("_Key", str, Cell)


class ColumnsExhausted(Exception):
    """The segment has no room for another block."""


@dataclass(slots=True)
class Retired:
    """A block whose owner left with ``generation``; its workers may still write to it."""

    kind: str
    key: str | Cell
    base: int
    generation: int


_SIZES = {"listener": len(LISTENER), "rule": len(RULE), "backend": len(BACKEND), "cell": len(CELL)}
_FIELDS = {"worker": WORKER, "listener": LISTENER, "rule": RULE, "backend": BACKEND, "cell": CELL}


@dataclass(slots=True)
class Columns:
    """Which columns belong to whom, for one generation: a new one per snapshot, not changed after."""

    width: int
    used: int = len(WORKER)
    worker: int = 0
    listeners: dict[str, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    backends: dict[str, int] = field(default_factory=dict)
    cells: dict[Cell, int] = field(default_factory=dict)
    free: dict[int, list[int]] = field(default_factory=dict)  # size of block -> bases
    retired: list[Retired] = field(default_factory=list)

    def cell(self, listener: str, rule: str, backend: str) -> int:
        """Base of the code counters of this combination, -1 if they are not kept."""
        return self.cells.get((listener, rule, backend), -1)

    def gauges(self) -> Iterator[int]:
        """Every gauge column in use, the worker's own included."""
        yield from _gauges("worker", (self.worker,))
        yield from _gauges("listener", self.listeners.values())
        yield from _gauges("backend", self.backends.values())
        yield from (column for block in self.retired for column in _gauges(block.kind, (block.base,)))

    @classmethod
    def for_snapshot(cls, snapshot: Snapshot, previous: Columns | None = None) -> Columns:
        """Columns of this snapshot: what stays keeps its place, what is new gets one.

        Raises `ColumnsExhausted` when the segment of ``previous`` is too narrow.
        """
        wanted = {
            "listener": [listener.id for listener in snapshot.listeners],
            "rule": [rule.id for rule in snapshot.rules],
            "backend": [backend.id for backend in snapshot.backends],
        }
        cells = cells_of(snapshot)
        if previous is None:
            need = len(WORKER) + sum(_SIZES[kind] * len(keys) for kind, keys in wanted.items())
            previous = cls(width=width_for(need + _SIZES["cell"] * len(cells)))
        allocation = _Allocation(previous, snapshot.generation)
        return cls(
            width=previous.width,
            worker=previous.worker,
            listeners=allocation.place("listener", wanted["listener"], previous.listeners),
            rules=allocation.place("rule", wanted["rule"], previous.rules),
            backends=allocation.place("backend", wanted["backend"], previous.backends),
            cells=allocation.place("cell", cells, previous.cells),
            used=allocation.used,
            free=allocation.free,
            retired=allocation.retired,
        )

    def reclaim(self, acknowledged: int) -> tuple[Columns, list[tuple[int, int]]]:
        """These columns with the blocks freed that no worker writes any more.

        ``acknowledged`` is the lowest generation any worker runs. The second value is the
        (base, size) of each freed block: the caller zeroes them in every row before the
        columns returned are used for an allocation.
        """
        free = {size: list(bases) for size, bases in self.free.items()}
        kept: list[Retired] = []
        blocks: list[tuple[int, int]] = []
        for block in self.retired:
            if block.generation > acknowledged:
                kept.append(block)
                continue
            size = _SIZES[block.kind]
            free.setdefault(size, []).append(block.base)
            blocks.append((block.base, size))
        reclaimed = Columns(
            self.width,
            self.used,
            self.worker,
            self.listeners,
            self.rules,
            self.backends,
            self.cells,
            free,
            kept,
        )
        return reclaimed, blocks

    def to_json(self) -> dict[str, object]:
        """All that a worker needs to know; `txlb.core.snapshot` sends the long parts in slices."""
        return {
            "width": self.width,
            "used": self.used,
            "listeners": self.listeners,
            "rules": self.rules,
            "backends": self.backends,
            "cells": self.cell_items(),
        }

    def cell_items(self) -> list[list[str | int]]:
        """The cells as JSON rows: listener, rule, backend, base."""
        return [[listener, rule, backend, base] for (listener, rule, backend), base in self.cells.items()]

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Columns:
        """The reading side of `to_json`: nothing to allocate from."""
        return cls(
            width=row["width"],
            used=row["used"],
            listeners=row["listeners"],
            rules=row["rules"],
            backends=row["backends"],
            cells={(listener, rule, backend): base for listener, rule, backend, base in row["cells"]},
        )


def width_for(need: int) -> int:
    """Columns of a new segment: four times the need, in whole pages, at least `MIN_WIDTH`."""
    return max(MIN_WIDTH, (need * 4 + 511) // 512 * 512)


def cells_of(snapshot: Snapshot) -> list[Cell]:
    """Every (listener, rule, backend) that can be counted, the ones without backend first."""
    http = [listener.id for listener in snapshot.listeners if listener.protocol == "http"]
    cells: list[Cell] = [(listener, "", "") for listener in http]
    pairs = [(listener, rule) for rule in snapshot.rules for listener in (rule.listeners or http)]
    cells += [(listener, rule.id, "") for listener, rule in pairs]
    if sum(len(rule.backends) for _, rule in pairs) <= MAX_CELLS:
        cells += [(listener, rule.id, backend) for listener, rule in pairs for backend in rule.backends]
    return list(dict.fromkeys(cells))


def _gauges(kind: str, bases: Iterable[int]) -> Iterator[int]:
    offsets = [offset for offset, name in enumerate(_FIELDS[kind]) if name in GAUGES[kind]]
    for base in bases:
        for offset in offsets:
            yield base + offset


class _Allocation:
    """Working state of one `Columns.for_snapshot`."""

    def __init__(self, previous: Columns, generation: int) -> None:
        self.width = previous.width
        self.used = previous.used
        self.free = {size: list(bases) for size, bases in previous.free.items()}
        self.generation = generation
        self.retired: list[Retired] = list(previous.retired)

    def place(self, kind: str, keys: Collection[_Key], before: dict[_Key, int]) -> dict[_Key, int]:
        size = _SIZES[kind]
        returning: dict[str | Cell, Retired] = {
            block.key: block for block in self.retired if block.kind == kind
        }
        placed: dict[_Key, int] = {}
        for key in keys:
            base = before.get(key)
            if base is None:
                block = returning.pop(key, None)
                if block is not None:
                    self.retired.remove(block)
                    base = block.base
                else:
                    base = self._allocate(size)
            placed[key] = base
        for key, base in before.items():
            if key not in placed:
                self.retired.append(Retired(kind, key, base, self.generation))
        return placed

    def _allocate(self, size: int) -> int:
        spare = self.free.get(size)
        if spare:
            return spare.pop()
        base = self.used
        if base + size > self.width:
            raise ColumnsExhausted(
                f"the scoreboard of {self.width} columns is full; restart txlb to load this configuration"
            )
        self.used = base + size
        return base
