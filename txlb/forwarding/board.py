"""Writes one worker's counters to its scoreboard row.

Rules:

* Plain item stores only: a reader in another process never sees half a number.
* Only what was touched since the last tick is written: a tick costs by traffic, not by the
  number of backends. At most `MOST` things a tick, those first that wait longest: with 10,000 busy
  backends each has its turn once a second, and no tick holds up the loop.
* Gauges of backends do not wait for their turn where somebody decides by them: drains, and siblings that
  weigh load. With 10,000 busy backends it is 4 ms to write all of them.
* A count that is still zero is not written: its column is zero, too (`txlb.core.scoreboard`).
* A worker that takes over a row goes on with its counters; its gauges start at zero.
"""

from __future__ import annotations

from typing import Final

from txlb.core.answers import Answers
from txlb.core.backend import Backend
from txlb.core.latency import BUCKETS
from txlb.core.pool import Pool
from txlb.core.scoreboard import BACKEND, CELL, DATAGRAMS, LATENCY, LISTENER, RULE, WORKER, Columns
from txlb.forwarding.listener import Listener
from txlb.forwarding.udp.settings import UdpSettings
from txlb.net.listener import Gate

RULE_CODES: Final = RULE.index("code_1xx")
RULE_LATENCY: Final = RULE.index("latency_0")
BACKEND_CODES: Final = BACKEND.index("code_1xx")
BACKEND_FAILURES: Final = BACKEND.index("connect_failures")
BACKEND_BYTES: Final = BACKEND.index("bytes_in")
BACKEND_LATENCY: Final = BACKEND.index("latency_0")
MOST: Final = 1000  # backends, rules and cells; about a millisecond
LAG_WINDOW: Final = 100  # ticks: the worst lag of about 10 s is shown
OWN = {400, 404, 408, 413, 414, 417, 421, 431, 501, 502, 503, 504, 505}


class Board:
    """One row; ``row`` is a memoryview of 64-bit integers."""

    def __init__(self, row: memoryview) -> None:
        self._row = row
        self._listeners: list[Listener] = []
        self._known: list[Answers] = []
        self._changed: list[Answers] = []
        self._lags: list[int] = [0] * LAG_WINDOW
        self._ticks = row[WORKER.index("ticks")]
        self._lag_total = row[WORKER.index("loop_lag_total_us")]
        self._dropped_before = row[WORKER.index("log_dropped")]
        self._pauses_before = row[WORKER.index("accept_pauses")]

    # -- the worker itself ------------------------------------------------------------------

    def generation(self, generation: int) -> None:
        self._row[WORKER.index("generation")] = generation

    def gate(self, gate: Gate) -> None:
        self._row[WORKER.index("connections")] = gate.open + gate.flows
        self._row[WORKER.index("accept_pauses")] = self._pauses_before + gate.pauses

    def lag(self, now: float, late: float) -> None:
        """A tick came ``late`` seconds after its time."""
        us = int(late * 1e6)
        self._lags[self._ticks % LAG_WINDOW] = us
        self._ticks += 1
        self._lag_total += us
        row = self._row
        row[WORKER.index("ticks")] = self._ticks
        row[WORKER.index("loop_lag_total_us")] = self._lag_total
        row[WORKER.index("loop_lag_max_us")] = max(self._lags)
        row[WORKER.index("heartbeat_ms")] = int(now * 1000)

    def dropped(self, lines: int) -> None:
        self._row[WORKER.index("log_dropped")] = self._dropped_before + lines

    # -- things with a block of their own -----------------------------------------------------

    def assign(
        self,
        columns: Columns,
        listeners: dict[str, Listener],
        pools: dict[str, Pool],
        backends: dict[str, Backend],
    ) -> None:
        """Columns of a new snapshot; what is new here goes on from what its block holds."""
        self.flush_all()
        row = self._row
        stays = set(self._known)
        for gone in self._known:
            gone.ledger = None  # its columns may be another's before long
        self._changed.clear()
        self._known = [*pools.values(), *backends.values()]
        self._listeners = list(listeners.values())
        for settings in self._listeners:
            fresh = settings.column < 0
            settings.column = columns.listeners[settings.id]
            if fresh:
                self._restore_listener(settings)
            self._assign_cells(columns, settings)
        for pool in pools.values():
            fresh = pool.column < 0
            pool.column = columns.rules[pool.rule_id]
            if fresh:
                pool.retries = row[pool.column + RULE.index("retries")]
                pool.panic_picks = row[pool.column + RULE.index("panic_picks")]
                pool.algorithm_errors += row[pool.column + RULE.index("algorithm_errors")]
                self._restore(pool, pool.column, RULE)
        for backend in backends.values():
            fresh = backend.column < 0
            backend.column = columns.backends[backend.id]
            if fresh:
                for name in ("errors", "connect_failures", "timeouts", "resets", "bad_responses"):
                    setattr(backend, name, row[backend.column + BACKEND.index(name)])
                backend.bytes_in = row[backend.column + BACKEND.index("bytes_in")]
                backend.bytes_out = row[backend.column + BACKEND.index("bytes_out")]
                self._restore(backend, backend.column, BACKEND)
        for answers in self._known:
            answers.ledger = self._changed
            if answers not in stays:  # those are written already, in the same columns
                answers.touched = True
                self._changed.append(answers)

    def _assign_cells(self, columns: Columns, settings: Listener) -> None:
        cells: dict[str, dict[str, Answers]] = {}
        for (listener, rule, backend), base in columns.cells.items():
            if listener == settings.id:
                cell = settings.cells.get(rule, {}).get(backend)
                if cell is None:
                    cell = Answers()
                    codes = [self._row[base + offset] for offset in range(len(CELL))]
                    cell.restore(0, codes, cell.latency, 0)
                cell.column = base
                cells.setdefault(rule, {})[backend] = cell
        settings.cells = cells
        for by_backend in cells.values():
            self._known.extend(by_backend.values())

    def _restore(self, answers: Answers, base: int, fields: tuple[str, ...]) -> None:
        row = self._row
        code = base + fields.index("code_1xx")
        latency = base + fields.index("latency_0")
        buckets = len(LATENCY) - 1
        answers.restore(
            row[base + fields.index("requests")],
            [row[code + offset] for offset in range(5)],
            [row[latency + offset] for offset in range(buckets)],
            row[latency + buckets],
        )

    def _restore_listener(self, settings: Listener) -> None:
        row = self._row
        base = settings.column
        for offset, name in enumerate(LISTENER):
            value = row[base + offset]
            if name == "connections" or (name in DATAGRAMS and not isinstance(settings, UdpSettings)):
                continue  # a gauge; not ours
            if name == "errors_5xx":
                if value:
                    settings.errors[500] = value  # for all without a column of their own
                continue
            status = name.removeprefix("errors_")
            if status.isdigit():
                if value:
                    settings.errors[int(status)] = value
            else:
                setattr(settings, name, value)

    def flush(self, awaited: list[Backend] | None = None) -> None:
        """A tick: write of what changed as much as is due, and the gauges of ``awaited``; None = of all."""
        self._flush(MOST)
        if awaited is None:
            for answers in self._changed:
                if isinstance(answers, Backend):
                    self._write_gauges(answers)
        else:
            for backend in awaited:
                self._write_gauges(backend)

    def flush_all(self) -> None:
        """Write all that changed."""
        self._flush(len(self._changed))

    def _flush(self, most: int) -> None:
        for settings in self._listeners:
            if settings.touched:
                settings.touched = False
                self._write_listener(settings)
        changed = self._changed
        if changed:
            batch = changed[:most]
            del changed[:most]
            for answers in batch:
                self._write(answers)

    def _write(self, answers: Answers) -> None:
        answers.touched = False
        if isinstance(answers, Backend):
            self._write_backend(answers)
        elif isinstance(answers, Pool):
            row = self._row
            base = answers.column
            row[base] = answers.requests
            row[base + 1] = answers.retries
            row[base + 2] = answers.panic_picks
            row[base + 3] = answers.algorithm_errors
            self._write_codes(answers, base + RULE_CODES)
            self._write_latency(answers, base + RULE_LATENCY)
        else:
            self._write_codes(answers, answers.column)

    def _write_codes(self, answers: Answers, at: int) -> None:
        row = self._row
        row[at + 1] = answers.code_2xx
        if answers.code_1xx:
            row[at] = answers.code_1xx
        if answers.code_3xx:
            row[at + 2] = answers.code_3xx
        if answers.code_4xx:
            row[at + 3] = answers.code_4xx
        if answers.code_5xx:
            row[at + 4] = answers.code_5xx

    def _write_latency(self, answers: Answers, at: int) -> None:
        row = self._row
        if answers.latency_0:
            row[at] = answers.latency_0
        if answers.latency_1:
            row[at + 1] = answers.latency_1
        if answers.latency_2:
            row[at + 2] = answers.latency_2
        slow = answers.slow
        if slow is not None:
            for bucket in range(3, BUCKETS):
                count = slow[bucket]
                if count:
                    row[at + bucket] = count
        row[at + BUCKETS] = answers.latency_sum_us

    def _write_gauges(self, backend: Backend) -> None:
        row = self._row
        base = backend.column
        row[base] = backend.active_connections
        row[base + 1] = backend.connections
        row[base + 2] = backend.idle

    def _write_backend(self, backend: Backend) -> None:
        row = self._row
        base = backend.column
        self._write_gauges(backend)
        row[base + 3] = backend.requests
        if backend.errors:
            row[base + 4] = backend.errors
            at = base + BACKEND_FAILURES
            row[at] = backend.connect_failures
            row[at + 1] = backend.timeouts
            row[at + 2] = backend.resets
            row[at + 3] = backend.bad_responses
        self._write_codes(backend, base + BACKEND_CODES)
        row[base + BACKEND_BYTES] = backend.bytes_in
        row[base + BACKEND_BYTES + 1] = backend.bytes_out
        self._write_latency(backend, base + BACKEND_LATENCY)

    def _write_listener(self, settings: Listener) -> None:
        row = self._row
        base = settings.column
        others = 0
        for status, count in settings.errors.items():
            if status in OWN:
                row[base + LISTENER.index(f"errors_{status}")] = count
            elif status >= 500:
                others += count
        row[base + LISTENER.index("errors_5xx")] = others
        for name in (
            "connections",
            "connections_total",
            "bytes_in",
            "bytes_out",
            "requests",
            "errors_client_abort",
            "errors_client_timeout",
            "errors_send_timeout",
            "errors_internal",
            "errors_proxy_protocol",
            "errors_tls_handshake",
            "errors_tls_timeout",
            "errors_tls_client_certificate",
            "errors_tls_crowded",
            "errors_tls_plain_http",
            "tls_full",
            "tls_resumed",
            "errors_client_hello",
            "errors_unrecognized_name",
        ):
            row[base + LISTENER.index(name)] = getattr(settings, name)
        if isinstance(settings, UdpSettings):
            for name in DATAGRAMS:
                row[base + LISTENER.index(name)] = getattr(settings, name)
