"""`txlb.control.supervisor`: real worker processes with a stand-in plane, killed in every way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from support import plane
from support.http import get, get_now
from support.processes import child_environment, pause
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from txlb.control.fleet import Publication
from txlb.control.listening import ListeningSockets, binds_of
from txlb.control.scoreboard import Scoreboard
from txlb.control.supervisor import CALM, LONGEST_PAUSE, Restarts, Supervisor, served_by
from txlb.core.model import BackendSpec, ListenerSpec, Snapshot, TimeoutsSpec
from txlb.core.scoreboard import LISTENER, WORKER, Columns
from txlb.core.standing import Standing

COMMAND = [sys.executable, plane.__file__]
PATIENCE = 5.0  # seconds; a worker is back in a fraction of one


class Running:
    """A supervisor, its scoreboard and sockets, one listener on a free port."""

    def __init__(self, reactor: Any, workers: int, command: Sequence[str] = COMMAND) -> None:
        self.snapshot = Snapshot(
            generation=1,
            listeners=(ListenerSpec("web", ("127.0.0.1:0",)),),
            backends=(BackendSpec("b", "127.0.0.1", 80),),
            timeouts=TimeoutsSpec(shutdown=3.0),
        )
        self.published: Publication | None = None
        self.reports: list[tuple[str, str]] = []
        self.sockets = ListeningSockets(workers)
        self.sockets.open(binds_of(self.snapshot))
        self.port = int(self.sockets.addresses("127.0.0.1:0").rpartition(":")[2])
        self.scoreboard = Scoreboard(self.snapshot, workers)
        path = os.pathsep.join(sys.path)
        self.supervisor = Supervisor(
            reactor,
            self.scoreboard,
            self.sockets,
            command,
            child_environment(PYTHONPATH=path),
            self.reports.extend,
        )

    async def start(self) -> None:
        self.supervisor.start()
        await self.publish()
        await self.until(lambda: all(self.supervisor.up()))

    async def publish(self, **changes: Any) -> None:
        self.snapshot = replace(self.snapshot, **changes)
        self.sockets.open(binds_of(self.snapshot))
        self.scoreboard.columns = Columns.for_snapshot(self.snapshot, self.scoreboard.columns)
        self.published = Publication.of(self.snapshot, self.scoreboard.columns, self.published)
        await self.supervisor.publish(self.published)

    async def until(self, true: Callable[[], bool], within: float = 10.0) -> None:
        deadline = time.monotonic() + within
        while not true():
            assert time.monotonic() < deadline, f"not within {within} s"
            await pause(0.01)

    async def stop(self) -> None:
        self.supervisor.kill()
        await self.supervisor.shutdown(0)
        self.sockets.close()
        self.scoreboard.close()

    def kill(self, index: int) -> None:
        pid = self.supervisor.pids()[index]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def total(self, name: str) -> int:
        return self.scoreboard.total(self.scoreboard.columns.listeners["web"] + LISTENER.index(name))


@pytest.fixture
def running(running_reactor: Any, nothing_left: None) -> Iterator[Callable[..., Running]]:
    everything: list[Running] = []

    def build(workers: int, command: Sequence[str] = COMMAND) -> Running:
        everything.append(Running(running_reactor, workers, command))
        return everything[-1]

    yield build
    for one in everything:
        pytest_twisted.blockon(Deferred.fromCoroutine(one.stop()))


def test_the_first_crash_restarts_at_once_and_only_crashes_in_a_row_wait():
    restarts = Restarts()
    assert restarts.pause(100.0) == 0.0
    pauses, now = [], 100.0
    for _ in range(8):
        now += 0.5
        pauses.append(restarts.pause(now))
        now += pauses[-1]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restarts.pause(now + CALM + 0.1) == 0.0
    assert restarts.pause(now + CALM + 0.2) == 0.1
    for _ in range(2000):
        assert restarts.pause(now) <= LONGEST_PAUSE


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_every_socket_is_served_exactly_once_if_anybody_is_ready(ready: list[bool]):
    serving = served_by(ready)
    served = [index for indexes in serving.values() for index in indexes]
    assert sorted(served) == (list(range(len(ready))) if any(ready) else [])
    assert all(ready[index] and index in indexes for index, indexes in serving.items())


@pytest_twisted.ensureDeferred
async def test_all_workers_serve(running: Callable[..., Running]):
    one = running(3)
    await one.start()
    answers = await gatherResults([Deferred.fromCoroutine(get(one.port)) for _ in range(60)])
    assert {answer.words[0] for answer in answers} == {"worker-1", "worker-2", "worker-3"}
    assert {int(answer.words[1]) for answer in answers} == set(one.supervisor.pids())
    assert one.total("requests") == 60
    await one.until(lambda: one.total("connections") == 0)


@pytest_twisted.ensureDeferred
async def test_new_connections_go_on_while_a_worker_is_killed_and_comes_back(running: Callable[..., Running]):
    one = running(2)
    await one.start()
    before = one.supervisor.pids()
    stop = time.monotonic() + 2.0

    def client() -> float:
        """Connect again and again; the longest wait."""
        longest = 0.0
        while (start := time.monotonic()) < stop:
            try:
                get_now(one.port)
            except (ConnectionResetError, IndexError):  # was open on the killed worker
                pass
            longest = max(longest, time.monotonic() - start)
        return longest

    clients = [deferToThread(client) for _ in range(4)]
    await pause(0.3)
    one.kill(0)
    longest = max(await gatherResults(clients))
    print(f"the longest wait of a new connection: {longest * 1000:.0f} ms")
    assert longest < PATIENCE, "somebody waited for the one that was killed"
    await one.until(lambda: one.supervisor.up() == [True, True])
    assert one.supervisor.restarts == 1
    after = one.supervisor.pids()
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    answers = await gatherResults([Deferred.fromCoroutine(get(one.port)) for _ in range(40)])
    assert {int(answer.words[1]) for answer in answers} == set(after)
    await one.until(lambda: one.total("connections") == 0)


@pytest_twisted.ensureDeferred
async def test_sockets_of_the_dead_are_served_by_a_sibling_until_the_successor_is_ready(
    running: Callable[..., Running],
):
    one = running(2)
    await one.start()
    for _ in range(2):  # the second crash in a row waits before its restart
        one.kill(0)
        await one.until(lambda: one.supervisor.up()[0] is False)
        answers = await gatherResults([Deferred.fromCoroutine(get(one.port)) for _ in range(20)])
        assert {answer.words[0] for answer in answers} == {"worker-2"}
        await one.until(lambda: all(one.supervisor.up()))


@pytest_twisted.ensureDeferred
async def test_connections_wait_for_the_successor_of_the_only_worker(running: Callable[..., Running]):
    one = running(1)
    await one.start()
    one.kill(0)
    await one.until(lambda: one.supervisor.up() == [False])
    assert (await get(one.port)).words[0] == "worker-1"


@pytest_twisted.ensureDeferred
async def test_gauges_of_the_dead_are_zeroed_and_counters_go_on(running: Callable[..., Running]):
    one = running(1)
    await one.start()
    await get(one.port)
    import socket

    with socket.create_connection(("127.0.0.1", one.port)):
        await one.until(lambda: one.total("connections_total") == 2)
        one.kill(0)
        await one.until(lambda: one.total("connections") == 0)
    assert one.total("connections_total") == 2
    await get(one.port)
    assert one.total("connections_total") == 3


@pytest_twisted.ensureDeferred
async def test_twelve_kills_leave_no_descriptor_behind(running: Callable[..., Running]):
    one = running(2)
    await one.start()
    await pause(0.1)
    descriptors = len(os.listdir("/proc/self/fd"))
    for index in range(12):
        victim = index % 2
        pid = one.supervisor.pids()[victim]
        one.supervisor._restarts[victim] = Restarts()  # without the growing pauses
        one.kill(victim)
        await one.until(lambda: all(one.supervisor.up()) and one.supervisor.pids()[victim] != pid)  # noqa: B023
    await pause(0.1)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert one.supervisor.restarts == 12
    workers = [len(os.listdir(f"/proc/{pid}/fd")) for pid in one.supervisor.pids()]
    assert workers[0] == workers[1]


@pytest_twisted.ensureDeferred
async def test_a_worker_inherits_nothing_but_its_link(running: Callable[..., Running]):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    one = running(1)
    await one.start()
    pid = one.supervisor.pids()[0]
    theirs = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    assert os.readlink(f"/proc/self/fd/{writing}") not in theirs
    os.close(reading)
    os.close(writing)


@pytest_twisted.ensureDeferred
async def test_publishing_moves_every_worker_and_their_sockets(running: Callable[..., Running]):
    one = running(2)
    await one.start()
    assert one.supervisor.acknowledged() == 1
    await one.publish(
        generation=2, listeners=(*one.snapshot.listeners, ListenerSpec("two", ("127.0.0.2:0",)))
    )
    await one.until(lambda: one.supervisor.acknowledged() == 2)
    address = one.sockets.addresses("127.0.0.2:0").split(":")
    await one.until(lambda: len({get_now((address[0], int(address[1]))).words[1] for _ in range(20)}) == 2)
    assert (await get(one.port)).words[2:] == ["2", "web"]
    await one.publish(generation=3, listeners=one.snapshot.listeners[1:])
    await one.until(lambda: one.supervisor.acknowledged() == 3)
    one.sockets.close(one.sockets.surplus(one.snapshot))
    with pytest.raises(ConnectionError):
        await get(one.port)


@pytest_twisted.ensureDeferred
async def test_a_worker_that_refuses_a_generation_goes_on_with_the_old_one(running: Callable[..., Running]):
    one = running(1)
    await one.start()
    pids = one.supervisor.pids()
    await one.publish(generation=2, backends=(BackendSpec("poison", "127.0.0.1", 1),))
    assert (await get(one.port)).words[2] == "1"
    assert one.supervisor.pids() == pids
    assert one.supervisor.acknowledged() == 1


@pytest_twisted.ensureDeferred
async def test_a_small_change_goes_as_a_delta_to_those_it_fits_and_whole_to_the_others(
    running: Callable[..., Running],
):
    one = running(2)
    await one.start()
    many = tuple(BackendSpec(f"b{number}", "127.0.0.1", 80) for number in range(100))
    for generation, backends in enumerate(
        (many, many[1:], (*many, BackendSpec("poison", "127.0.0.1", 1)), many), 2
    ):
        await one.publish(generation=generation, backends=backends)
        assert one.published is not None
        assert bool(one.published.delta) == (generation > 2)
        assert bool(one.published._encoded) == (generation in (2, 5))  # whoever refused 4 needs it whole
        assert one.supervisor.acknowledged() == (3 if generation == 4 else generation)
    one.kill(0)  # its successor gets it whole
    await one.until(lambda: one.supervisor.restarts == 1 and all(one.supervisor.up()))
    assert {get_now(one.port).words[2] for _ in range(20)} == {"5"}


@pytest_twisted.ensureDeferred
async def test_shutdown_finishes_requests_and_nobody_is_left(running: Callable[..., Running]):
    one = running(2)
    await one.start()
    slow = [Deferred.fromCoroutine(get(one.port, "/slow")) for _ in range(8)]
    await one.until(lambda: one.total("connections") == 8)
    done = one.supervisor.shutdown(3.0)
    one.sockets.close()
    answers = await gatherResults(slow)
    assert {answer.fields["connection"] for answer in answers} == {"close"}
    await done
    assert one.supervisor.pids() == [None, None]


@pytest_twisted.ensureDeferred
async def test_shutdown_kills_what_does_not_end_by_its_deadline(
    running: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("txlb.control.worker_process.KILL_GRACE", 0.1)
    one = running(1)
    await one.start()
    pid = one.supervisor.pids()[0]
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await one.supervisor.shutdown(0.2)
    assert one.supervisor.pids() == [None]


@pytest_twisted.ensureDeferred
async def test_workers_ignore_the_signals_that_reach_the_whole_group(running: Callable[..., Running]):
    one = running(1)
    await one.start()
    pid = one.supervisor.pids()[0]
    assert pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    await pause(0.1)
    assert int((await get(one.port)).words[1]) == pid


@pytest_twisted.ensureDeferred
async def test_a_worker_that_cannot_start_is_tried_again_with_growing_pauses(running: Callable[..., Running]):
    one = running(1, [sys.executable, "-c", "raise SystemExit('no such thing')"])
    one.supervisor.start()
    await one.publish()
    await one.until(lambda: one.supervisor.restarts >= 2)
    assert one.supervisor.up() == [False]


@pytest_twisted.ensureDeferred
async def test_connections_and_logs_reach_the_workers(running: Callable[..., Running]):
    import socket

    one = running(2)
    await one.start()
    with socket.create_connection(("127.0.0.1", one.port)):
        await one.until(lambda: one.total("connections") == 1)
        assert [
            row["listener"] for index in range(2) for row in await one.supervisor.connections(index, 0, 10)
        ] == ["web"]
    one.supervisor.reopen_logs()
    reopened = WORKER.index("log_dropped")  # the stand-in counts there
    await one.until(lambda: [one.scoreboard.row(index)[reopened] for index in range(2)] == [1, 1])


@pytest_twisted.ensureDeferred
async def test_a_worker_that_does_not_move_is_reported(
    running: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("txlb.control.supervisor.STUCK_AFTER", 0.3)
    one = running(1)
    await one.start()
    pid = one.supervisor.pids()[0]
    assert pid is not None
    await one.until(lambda: one.scoreboard.worker(0, "heartbeat_ms") != 0)
    os.kill(pid, signal.SIGSTOP)
    await one.until(lambda: one.supervisor._stuck == {0})
    os.kill(pid, signal.SIGCONT)
    await one.until(lambda: not one.supervisor._stuck)
    assert one.supervisor.pids() == [pid]


@pytest_twisted.ensureDeferred
async def test_standings_reach_every_worker_and_its_successor(running: Callable[..., Running]):
    here = running(2)
    await here.start()
    here.supervisor.set_standings([Standing("b", healthy=False)])
    await here.until(lambda: len(here.reports) == 2)
    assert set(here.reports) == {("b", "heard: False False None")}
    here.reports.clear()
    here.kill(0)
    await here.until(lambda: here.reports == [("b", "heard: False False None")])


@pytest_twisted.ensureDeferred
async def test_a_successor_hears_nothing_of_standings_that_are_over(running: Callable[..., Running]):
    here = running(1)
    await here.start()
    here.supervisor.set_standings([Standing("b", drained=True, drain_until=5.0)])
    here.supervisor.set_standings([Standing("b")])
    await here.until(lambda: len(here.reports) == 2)
    here.reports.clear()
    pid = here.supervisor.pids()[0]
    here.kill(0)
    await here.until(lambda: here.supervisor.pids()[0] not in (pid, None) and here.supervisor.up()[0])
    assert here.reports == []
