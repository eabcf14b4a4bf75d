from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from support.dataplane import Net, network

from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend
from txlb.core.latency import BUCKETS, bucket_of
from txlb.core.model import BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.core.pool import Pool
from txlb.core.scoreboard import BACKEND, CELL, CODES, DATAGRAMS, LATENCY, LISTENER, RULE, WORKER, Columns
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.board import LAG_WINDOW, MOST, Board
from txlb.forwarding.http.origins import Origins
from txlb.forwarding.http.settings import HttpSettings
from txlb.forwarding.udp.listener import UdpListener
from txlb.net.listener import Gate

SNAPSHOT = Snapshot(
    generation=3,
    listeners=(ListenerSpec("web", ("127.0.0.1:0",)),),
    backends=(BackendSpec("b0", "127.0.0.1", 80), BackendSpec("b1", "127.0.0.1", 81)),
    rules=(RuleSpec("rule", ("b0", "b1")),),
)


class Worker:
    """A board and the things of `SNAPSHOT`, on a given row."""

    def __init__(self, net: Net, row: memoryview, snapshot: Snapshot = SNAPSHOT) -> None:
        self.row = row
        self.loop = net.loop
        self.columns = Columns.for_snapshot(snapshot)
        self.board = Board(row)
        self.settings = HttpSettings(
            "web", net.loop, Origins(net.loop, 10), AccessLog(None, "off", "w", lambda: 0.0)
        )
        self.backends = {
            spec.id: Backend(spec.id, spec.host, spec.host, spec.port) for spec in snapshot.backends
        }
        self.pool = Pool("rule", lambda: RoundRobin(0.0), list(self.backends.values()))
        self.assign(self.columns)

    def assign(self, columns: Columns) -> None:
        self.columns = columns
        self.board.assign(columns, {"web": self.settings}, {"rule": self.pool}, self.backends)

    def worker(self, name: str) -> int:
        return self.row[WORKER.index(name)]

    def listener(self, name: str) -> int:
        return self.row[self.columns.listeners["web"] + LISTENER.index(name)]

    def rule(self, name: str) -> int:
        return self.row[self.columns.rules["rule"] + RULE.index(name)]

    def backend(self, id: str, name: str) -> int:
        return self.row[self.columns.backends[id] + BACKEND.index(name)]

    def cell(self, rule: str, backend: str, name: str) -> int:
        return self.row[self.columns.cells["web", rule, backend] + CELL.index(name)]

    def work(self) -> None:
        """One of everything."""
        settings = self.settings
        settings.touched = True
        settings.connections = 7
        settings.connections_total = 70
        settings.requests = 50
        settings.bytes_in, settings.bytes_out = 1000, 2000
        settings.errors = {404: 4, 502: 2, 500: 1, 507: 1, 417: 3}
        settings.errors_client_abort = 5
        settings.errors_client_timeout = 6
        settings.errors_send_timeout = 8
        settings.errors_internal = 9
        settings.errors_proxy_protocol = 10
        settings.errors_client_hello = 11
        settings.errors_unrecognized_name = 12
        self.pool.requests = 11
        self.pool.retries = 12
        self.pool.panic_picks = 16
        one = self.backends["b0"]
        one.touch()
        one.requests = 13
        one.active_connections, one.connections, one.idle = 1, 3, 2
        one.bytes_in, one.bytes_out = 14, 15
        one.errors, one.connect_failures, one.timeouts, one.resets, one.bad_responses = 10, 1, 2, 3, 4
        for status, us in ((101, 10), (200, 700), (200, 3_000_000), (302, 900), (404, 10_000), (502, 1)):
            for counted in (self.pool, one, settings.cells["rule"]["b0"]):
                counted.count_answer(status, us, bucket_of(us))


@contextmanager
def net() -> Iterator[Net]:
    net = Net()
    try:
        yield net
    finally:
        net.close()


def fresh_row() -> memoryview:
    return memoryview(bytearray(8 * Columns.for_snapshot(SNAPSHOT).used)).cast("q")


def test_counters_reach_their_columns() -> None:
    with net() as it:
        worker = Worker(it, fresh_row())
        worker.work()
        worker.board.flush()
        assert worker.listener("connections") == 7
        assert worker.listener("connections_total") == 70
        assert worker.listener("requests") == 50
        assert (worker.listener("bytes_in"), worker.listener("bytes_out")) == (1000, 2000)
        assert (worker.listener("errors_404"), worker.listener("errors_502")) == (4, 2)
        assert worker.listener("errors_417") == 3
        assert worker.listener("errors_5xx") == 2, "those without a column of their own"
        assert worker.listener("errors_client_abort") == 5
        assert worker.listener("errors_client_timeout") == 6
        assert worker.listener("errors_send_timeout") == 8
        assert worker.listener("errors_internal") == 9
        assert worker.listener("errors_proxy_protocol") == 10
        assert worker.listener("errors_client_hello") == 11
        assert worker.listener("errors_unrecognized_name") == 12
        assert (worker.rule("requests"), worker.rule("retries"), worker.rule("panic_picks")) == (11, 12, 16)
        names = ("active", "connections", "idle", "requests", "errors", "connect_failures", "timeouts")
        names += ("resets", "bad_responses", "bytes_in", "bytes_out")
        assert [worker.backend("b0", name) for name in names] == [1, 3, 2, 13, 10, 1, 2, 3, 4, 14, 15]
        for codes in ([worker.rule(name) for name in CELL], [worker.backend("b0", name) for name in CELL]):
            assert codes == [1, 2, 1, 1, 1]
        assert [worker.cell("rule", "b0", name) for name in CELL] == [1, 2, 1, 1, 1]
        assert worker.rule("latency_sum_us") == worker.backend("b0", "latency_sum_us") == 3_011_611
        buckets = [worker.backend("b0", name) for name in LATENCY[:-1]]
        assert sum(buckets) == 6 and len(buckets) == BUCKETS
        assert buckets[bucket_of(3_000_000)] == 1
        assert {worker.backend("b1", name) for name in BACKEND} == {0}


def test_only_what_was_touched_is_written() -> None:
    with net() as it:
        worker = Worker(it, fresh_row())
        worker.work()
        worker.board.flush()
        for column in range(len(worker.row)):
            worker.row[column] = -1
        worker.board.flush()
        assert set(worker.row.tolist()) == {-1}
        worker.backends["b1"].touch()
        worker.board.flush()
        assert worker.backend("b1", "requests") == 0
        assert (
            worker.backend("b0", "requests") == worker.rule("requests") == worker.listener("requests") == -1
        )
        worker.pool.touch()
        worker.board.flush()
        assert worker.rule("requests") == 11 and worker.listener("requests") == -1


@contextmanager
def many(count: int) -> Iterator[Worker]:
    """A worker with so many backends; everything is written."""
    snapshot = replace(
        SNAPSHOT, backends=tuple(BackendSpec(f"b{number}", "127.0.0.1", 80) for number in range(count))
    )
    with net() as it:
        row = memoryview(bytearray(8 * Columns.for_snapshot(snapshot).used)).cast("q")
        worker = Worker(it, row, snapshot)
        worker.board.flush_all()
        yield worker


def test_a_tick_writes_so_many_at_most_and_those_first_that_wait_longest() -> None:
    with many(MOST + 200) as worker:
        for backend in worker.backends.values():
            backend.requests = 1
            backend.touch()

        def written() -> list[str]:
            return [id for id in worker.backends if worker.backend(id, "requests")]

        worker.board.flush()
        assert written() == list(worker.backends)[:MOST]
        for id in ("b0", f"b{MOST + 100}"):
            worker.backends[id].requests = 2
            worker.backends[id].touch()
        worker.board.flush()
        assert written() == list(worker.backends)
        assert [worker.backend(id, "requests") for id in ("b0", f"b{MOST + 100}")] == [2, 2]


def test_nobody_waits_for_the_gauges_of_others() -> None:
    with many(2 * MOST) as worker:
        for backend in worker.backends.values():
            backend.active_connections = 1
            backend.touch()
        *_, other, last = worker.backends.values()
        worker.board.flush([last])
        assert [worker.backend(one.id, "active") for one in (other, last)] == [0, 1]
        worker.board.flush([])
        assert worker.backend(other.id, "active") == 1, "it has its turn"


def test_gauges_do_not_wait_for_their_turn() -> None:
    with many(2 * MOST) as worker:
        for backend in worker.backends.values():
            backend.requests = 1
            backend.touch()
        last = worker.backends[f"b{2 * MOST - 1}"]
        last.active_connections, last.connections, last.idle = 3, 5, 2
        worker.board.flush()
        assert [worker.backend(last.id, name) for name in ("active", "connections", "idle")] == [3, 5, 2]
        assert worker.backend(last.id, "requests") == 0


def test_a_count_that_is_zero_is_not_written() -> None:
    with net() as it:
        worker = Worker(it, fresh_row())
        worker.board.flush()
        columns = [worker.backends["b1"].column + BACKEND.index(name) for name in (*CODES, *LATENCY)]
        for column in columns:
            worker.row[column] = -1
        worker.backends["b1"].count_answer(200, 20_000, bucket_of(20_000))
        worker.board.flush()
        written = {
            name: worker.row[column]
            for name, column in zip((*CODES, *LATENCY), columns, strict=True)
            if worker.row[column] != -1
        }
        assert written == {"code_2xx": 1, f"latency_{bucket_of(20_000)}": 1, "latency_sum_us": 20_000}


def test_a_successor_goes_on_with_the_counters_and_its_gauges_are_zero() -> None:
    with net() as it:
        row = fresh_row()
        dead = Worker(it, row)
        dead.work()
        dead.board.gate(gate(it, 5, 2))
        for late in (0.001, 0.002):
            dead.board.lag(10.0, late)
        dead.board.dropped(17)
        dead.board.flush()
        before = row.tolist()
        worker = Worker(it, row)  # nobody zeroed the gauges for it
        worker.board.lag(11.0, 0.0)
        worker.board.gate(gate(it, 0, 1))
        worker.board.dropped(1)
        for settings in (worker.settings,):
            settings.touched = True
        worker.pool.touch()
        worker.board.flush()
        gauges = {
            worker.columns.listeners["web"] + LISTENER.index("connections"),
            *(
                worker.columns.backends["b0"] + BACKEND.index(name)
                for name in ("active", "connections", "idle")
            ),
            WORKER.index("connections"),
        }
        changed = {
            WORKER.index(name)
            for name in ("ticks", "heartbeat_ms", "accept_pauses", "log_dropped", "loop_lag_max_us")
        }
        for column, value in enumerate(before):
            if column in gauges:
                assert row[column] == 0, column
            elif column not in changed:
                assert row[column] == value, column
        assert worker.worker("ticks") == 3
        assert worker.worker("loop_lag_total_us") == 3000
        assert worker.worker("accept_pauses") == 3
        assert worker.worker("log_dropped") == 18
        worker.work()  # …and then they grow
        worker.backends["b0"].count_answer(200, 1, 0)
        worker.board.flush()
        assert worker.backend("b0", "code_2xx") == 5
        assert worker.cell("rule", "b0", "code_2xx") == 4


def gate(net: Net, open: int, pauses: int) -> Gate:
    it = Gate(net.loop, 10)
    it.open = open
    it.pauses = pauses
    return it


def test_what_stays_keeps_its_counts_when_columns_change() -> None:
    with net() as it:
        row = memoryview(bytearray(8 * 4096)).cast("q")
        worker = Worker(it, row)
        worker.work()
        more = replace(
            SNAPSHOT,
            backends=(*SNAPSHOT.backends, BackendSpec("b2", "127.0.0.1", 82)),
            rules=(RuleSpec("rule", ("b0", "b1", "b2")),),
        )
        worker.backends["b2"] = Backend("b2", "127.0.0.1", "127.0.0.1", 82)
        worker.assign(Columns.for_snapshot(more, worker.columns))
        assert worker.backends["b0"].requests == 13
        assert worker.settings.cells["rule"]["b0"].code_2xx == 2
        worker.settings.cells["rule"]["b2"].count_answer(200, 1, 0)
        worker.board.flush()
        assert worker.cell("rule", "b2", "code_2xx") == 1
        assert worker.backend("b0", "requests") == 13


def test_what_left_is_written_a_last_time_and_never_again() -> None:
    with net() as it:
        row = memoryview(bytearray(8 * 4096)).cast("q")
        worker = Worker(it, row)
        gone = worker.backends["b1"]
        gone.requests = 5
        gone.touch()
        column = worker.columns.backends["b1"] + BACKEND.index("requests")
        less = replace(SNAPSHOT, backends=SNAPSHOT.backends[:1], rules=(RuleSpec("rule", ("b0",)),))
        del worker.backends["b1"]
        worker.assign(Columns.for_snapshot(less, worker.columns))
        assert row[column] == 5
        row[column] = 0  # control frees it
        gone.requests = 6
        gone.touch()
        worker.board.flush()
        assert row[column] == 0


def test_the_workers_own_block() -> None:
    with net() as it:
        worker = Worker(it, fresh_row())
        worker.board.generation(42)
        worker.board.gate(gate(it, 9, 4))
        worker.board.dropped(3)
        worker.board.lag(12.345, 0.02)
        worker.board.lag(12.445, 0.005)
        assert worker.worker("generation") == 42
        assert worker.worker("connections") == 9 and worker.worker("accept_pauses") == 4
        assert worker.worker("log_dropped") == 3
        assert worker.worker("ticks") == 2
        assert worker.worker("heartbeat_ms") == 12445
        assert worker.worker("loop_lag_total_us") == 25000
        assert worker.worker("loop_lag_max_us") == 20000


def test_the_worst_lag_is_forgotten_after_its_window() -> None:
    with net() as it:
        worker = Worker(it, fresh_row())
        worker.board.lag(1.0, 0.5)
        for _ in range(LAG_WINDOW - 1):
            worker.board.lag(1.0, 0.001)
        assert worker.worker("loop_lag_max_us") == 500_000
        worker.board.lag(1.0, 0.002)
        assert worker.worker("loop_lag_max_us") == 2000


def test_datagrams_of_a_udp_listener_are_written_and_gone_on_with():
    snapshot = replace(SNAPSHOT, listeners=(ListenerSpec("web", ("127.0.0.1:0",), "udp"),))
    columns = Columns.for_snapshot(snapshot)
    row = memoryview(bytearray(columns.used * 8)).cast("q")
    with network() as net:
        log = AccessLog(None, "off", "w", lambda: 0.0)
        for life in (1, 2):
            board = Board(row)
            listener = UdpListener("web", net.loop, Origins(net.loop, 10), log)
            board.assign(columns, {"web": listener}, {}, {})
            for number, name in enumerate(DATAGRAMS):
                setattr(listener, name, getattr(listener, name) + number)
            listener.touched = True
            board.flush()
            base = columns.listeners["web"]
            found = [row[base + LISTENER.index(name)] for name in DATAGRAMS]
            assert found == [number * life for number in range(len(DATAGRAMS))]


def test_a_new_generation_writes_only_what_is_new() -> None:
    """A reload of 10,000 backends would otherwise stall the next tick."""
    with net() as it:
        row = fresh_row()
        worker = Worker(it, row)
        worker.work()
        worker.board.flush()
        row[worker.columns.backends["b0"] + BACKEND.index("requests")] = -1
        worker.assign(worker.columns)
        worker.board.flush()
        assert worker.backend("b0", "requests") == -1
        worker.backends["b0"].count_answer(200, 1, 0)
        worker.board.flush()
        assert worker.backend("b0", "requests") == 13
