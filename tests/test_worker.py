"""`txlb.worker` inside the test's process: what the messages of control do to the plane."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from support.ports import listening_socket
from support.processes import pause
from twisted.internet.defer import Deferred, succeed

from txlb.core.delta import encode_delta
from txlb.core.model import BackendSpec, ListenerSpec, Snapshot, TimeoutsSpec
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import encode
from txlb.net.link import Link, LinkError, LinkFactory, close_descriptors
from txlb.net.shared_memory import SharedMemory, write_blob
from txlb.worker import Worker

SNAPSHOT = Snapshot(
    1,
    listeners=(ListenerSpec("web", ()), ListenerSpec("two", ())),
    backends=tuple(BackendSpec(f"b{number}", "h", 1) for number in range(1000)),
    timeouts=TimeoutsSpec(shutdown=7.0),
)


class Plane:
    """Writes down what it is told."""

    def __init__(self, reactor: Any, row: memoryview, identity: str) -> None:
        self.row = row
        self.told: list[Any] = [identity]
        self.snapshot = Snapshot()
        self.sockets: dict[str, list[socket.socket]] = {}

    def watch_siblings(self, rows: Sequence[memoryview]) -> None:
        self.siblings = list(rows)

    def start(self) -> None:
        self.told.append("start")

    def apply(self, snapshot: Snapshot, columns: Columns) -> None:
        if snapshot.node_id == "poison":
            raise ValueError("poison")
        self.snapshot = snapshot
        self.columns = columns

    def listen(self, listener_id: str, sockets: list[socket.socket]) -> None:
        self.sockets[listener_id] = sockets

    def stop_listening(self, listener_id: str | None = None) -> None:
        for key in [listener_id] if listener_id else list(self.sockets):
            for one in self.sockets.pop(key):
                one.close()

    def shutdown(self, timeout: float) -> Deferred[None]:
        self.told.append(timeout)
        self.stop_listening()
        return succeed(None)

    def reopen_logs(self) -> None:
        self.told.append("reopen")

    def connections(self, after: int, limit: int) -> list[dict[str, object]]:
        return [{"after": after, "limit": limit}]


class Reactor:
    """The test's reactor, but stopping it is only written down."""

    def __init__(self, reactor: Any) -> None:
        self.seconds = reactor.seconds
        self.callLater = reactor.callLater
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


class Control:
    """Control's end of the link, and the worker at the other."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = Reactor(reactor)
        self.planes: list[Plane] = []
        self.worker = Worker(self.reactor, self._plane)
        self.link = Link(reactor, {}, lambda: None)
        self.memory = SharedMemory.create(2, 1024)
        self.state = (SNAPSHOT, Columns.for_snapshot(SNAPSHOT))
        ours, theirs = socket.socketpair()
        for sock, link in ((ours, self.link), (theirs, self.worker.link)):
            sock.setblocking(False)
            reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, LinkFactory(link))
            sock.close()

    def _plane(self, reactor: Any, row: memoryview, identity: str, report: Any) -> Plane:
        self.planes.append(Plane(reactor, row, identity))
        return self.planes[-1]

    @property
    def plane(self) -> Plane:
        return self.planes[0]

    async def ask(self, kind: str, descriptors: list[int] | None = None, **fields: Any) -> dict[str, Any]:
        return await self.link.request(kind, fields, descriptors or ())

    async def blob(self, kind: str, data: bytes) -> dict[str, Any]:
        descriptor = write_blob(data)
        try:
            return await self.ask(kind, [descriptor])
        finally:
            close_descriptors([descriptor])

    async def welcome(self) -> None:
        fields = {"identity": "worker-2", "index": 1, "rows": 2, "width": 1024, "shutdown": 3.0}
        assert self.memory.descriptor is not None
        await self.ask("welcome", [self.memory.descriptor], **fields)
        await self.blob("snapshot", b"".join(encode(*self.state)))

    async def serve(self, stop: tuple[str, ...] = (), **counts: int) -> None:
        sockets = [listening_socket() for _ in range(sum(counts.values()))]
        await self.ask("sockets", [one.fileno() for one in sockets], listeners=counts, stop=stop)
        for one in sockets:
            one.close()


@pytest.fixture
def control(running_reactor: Any, nothing_left: None) -> Iterator[Control]:
    one = Control(running_reactor)
    yield one
    one.link.close()
    pytest_twisted.blockon(Deferred.fromCoroutine(pause(0.05)))
    if one.worker._memory is not None:
        one.worker._memory.close()
    one.memory.close()


@pytest_twisted.ensureDeferred
async def test_welcome_builds_the_plane_on_its_row(control: Control):
    await control.welcome()
    assert control.plane.told == ["worker-2", "start"]
    control.plane.row[5] = 9
    assert control.memory.row(1)[5] == 9
    control.memory.row(0)[7] = 5
    assert [row[7] for row in control.plane.siblings] == [5], "the other worker's"
    assert control.plane.snapshot == SNAPSHOT


@pytest_twisted.ensureDeferred
async def test_sockets_replace_those_of_their_listener_and_leave_others(control: Control):
    await control.welcome()
    await control.serve(web=2, two=1)
    two = control.plane.sockets["two"]
    old = control.plane.sockets["web"]
    await control.serve(web=3)
    assert {key: len(group) for key, group in control.plane.sockets.items()} == {"web": 3, "two": 1}
    assert control.plane.sockets["two"] is two
    assert all(one.fileno() == -1 for one in old)
    await control.serve(stop=("two",))
    assert set(control.plane.sockets) == {"web"}


@pytest_twisted.ensureDeferred
async def test_later_snapshots_and_deltas_are_applied_in_order_and_gone_listeners_stop(control: Control):
    await control.welcome()
    await control.serve(web=1, two=1)
    snapshot = replace(
        SNAPSHOT, generation=2, listeners=SNAPSHOT.listeners[:1], backends=SNAPSHOT.backends[1:]
    )
    state = (snapshot, Columns.for_snapshot(snapshot, control.state[1]))
    answers = [control.blob("delta", b"".join(encode_delta(control.state, state)))]
    third = replace(SNAPSHOT, generation=3, listeners=SNAPSHOT.listeners[:1])
    answers.append(control.blob("snapshot", b"".join(encode(third, Columns.for_snapshot(third, state[1])))))
    generations = [(await answer)["generation"] for answer in answers]
    assert generations == [2, 3]
    assert control.plane.snapshot == third
    assert set(control.plane.sockets) == {"web"}


@pytest_twisted.ensureDeferred
async def test_a_delta_for_another_generation_or_a_refused_one_changes_nothing(
    control: Control, logged_failures: list[Any]
):
    await control.welcome()
    await control.serve(web=1)
    other = (replace(SNAPSHOT, generation=8), control.state[1])
    newer = (replace(SNAPSHOT, generation=9), control.state[1])
    with pytest.raises(LinkError, match="generation 8 is needed, not 1"):
        await control.blob("delta", b"".join(encode_delta(other, newer)))
    poison = (replace(SNAPSHOT, generation=2, node_id="poison"), control.state[1])
    with pytest.raises(LinkError, match="poison"):
        await control.blob("delta", b"".join(encode_delta(control.state, poison)))
    fine = (replace(SNAPSHOT, generation=2), control.state[1])
    assert (await control.blob("delta", b"".join(encode_delta(control.state, fine))))["generation"] == 2
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_shutdown_ends_once_and_takes_no_more_sockets(control: Control):
    await control.welcome()
    await control.serve(web=1)
    await control.ask("shutdown", timeout=2.5)
    assert control.plane.told[-1] == 2.5
    await control.serve(web=1)
    assert control.plane.sockets == {}
    await control.ask("shutdown", timeout=1.0)
    assert control.reactor.stopped == 1


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_link_is_a_shutdown_with_the_configured_time(control: Control):
    await control.welcome()
    control.link.close()
    await pause(0.05)
    assert control.plane.told[-1] == 7.0
    assert control.reactor.stopped == 1


@pytest_twisted.ensureDeferred
async def test_a_link_that_ends_before_anything_came_ends_the_worker(control: Control):
    control.link.close()
    await pause(0.05)
    assert control.reactor.stopped == 1


@pytest_twisted.ensureDeferred
async def test_logs_and_connections_are_the_planes(control: Control):
    await control.welcome()
    assert (await control.ask("connections", after=3, limit=4))["connections"] == [{"after": 3, "limit": 4}]
    control.link.notify("reopen")
    await pause(0.05)
    assert control.plane.told[-1] == "reopen"
