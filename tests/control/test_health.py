"""`txlb.control.health`: probes when they are due, verdicts when they change, health across reloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from support.ports import free_port
from support.processes import pause
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from txlb.control.health import HealthChecks
from txlb.core import health_counts as results
from txlb.core.model import BackendSpec, ListenerSpec, OwnCheckSpec, RuleSpec, Snapshot

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
QUICKLY = OwnCheckSpec("http", "/health", 0.1, 0.2, 2, 2)
RARELY = replace(QUICKLY, interval=3600.0)


class Endpoint(Protocol):
    """One connection of a `Backend`."""

    factory: Backend  # type: ignore[assignment]

    def connectionMade(self) -> None:
        self.factory.open.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.factory.requests += 1
        self.factory.behave(self.transport)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.open.remove(self)


class Backend(Factory):
    """A backend on a port of its own that does what ``behave`` does with each request."""

    noisy = False
    protocol = Endpoint

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.number = free_port()
        self.open: list[Endpoint] = []
        self.requests = 0
        self.behave: Callable[[Any], None] = answer
        self.listening: Any = None
        self.listen()

    def listen(self) -> None:
        self.listening = self._reactor.listenTCP(self.number, self, interface="127.0.0.1")

    async def refuse(self) -> None:
        if self.listening is not None:
            await self.listening.stopListening()
            self.listening = None

    async def close(self) -> None:
        await self.refuse()
        while self.open:
            for one in list(self.open):
                one.transport.abortConnection()  # type: ignore[union-attr]
            await pause(0.01)


def answer(transport: Any) -> None:
    transport.write(OK)
    transport.loseConnection()


class Checks:
    """Health checks on a real reactor, and what they said."""

    def __init__(self, reactor: Any) -> None:
        self.verdicts: list[tuple[str, bool]] = []
        self.checks = HealthChecks(reactor, lambda *verdict: self.verdicts.append(verdict))
        self.checks.start()

    def apply(self, *backends: BackendSpec, **settings: Any) -> None:
        self.checks.apply(Snapshot(backends=backends, **settings))

    def passed(self) -> int:
        return sum(self.checks.counts.results)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await pause(0.01)


def spec(port: int, check: OwnCheckSpec = QUICKLY, id: str = "b") -> BackendSpec:
    return BackendSpec(id, "127.0.0.1", port, address="127.0.0.1", health_check=check)


@pytest.fixture
def here(running_reactor: Any, nothing_left: None) -> Iterator[Checks]:
    one = Checks(running_reactor)
    yield one
    one.checks.stop()
    assert one.checks.sockets == 0


@pytest.fixture
def backend(running_reactor: Any, nothing_left: None) -> Iterator[Backend]:
    one = Backend(running_reactor)
    yield one
    pytest_twisted.blockon(Deferred.fromCoroutine(one.close()))


@pytest_twisted.ensureDeferred
async def test_moments_that_are_equal_are_equal_dates(
    here: Checks, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.apply(spec(backend.number, QUICKLY))
    await until(lambda: here.checks.counts.results[results.SUCCESS] >= 1)
    reads = count(1_800_000_000.0, 0.7)
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: next(reads))
        view = here.checks.view("b")
    assert view.last_health_check_at == view.last_successful_check_at is not None


@pytest.mark.parametrize("check", [QUICKLY, replace(QUICKLY, type="tcp", path=None)])
@pytest_twisted.ensureDeferred
async def test_one_that_is_well_stays_healthy(here: Checks, backend: Backend, check: OwnCheckSpec) -> None:
    here.apply(spec(backend.number, check))
    view = here.checks.view("b")
    assert view.healthy and view.last_health_check_at is None and view.last_reason is None
    await until(lambda: here.checks.counts.results[results.SUCCESS] >= 3)
    view = here.checks.view("b")
    assert (view.healthy, view.consecutive_failures, view.last_reason) == (True, 0, None)
    assert view.last_health_check_at == view.last_successful_check_at
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", view.last_health_check_at or "")
    assert here.verdicts == []
    assert sum(here.checks.counts.lateness) >= 3


@pytest_twisted.ensureDeferred
async def test_one_that_refuses_is_out_and_comes_back(
    here: Checks, backend: Backend, lines: list[str]
) -> None:
    here.apply(spec(backend.number))
    await until(lambda: backend.requests >= 1)
    await backend.refuse()
    await until(lambda: here.verdicts == [("b", False)])
    view = here.checks.view("b")
    assert (view.healthy, view.last_reason) == (False, "connection refused")
    assert view.max_consecutive_failures >= view.consecutive_failures >= 2
    assert not here.checks.is_healthy("b")
    assert here.checks.down() == {"b"}
    backend.listen()
    await until(lambda: here.verdicts == [("b", False), ("b", True)])
    assert here.checks.view("b").consecutive_failures == 0
    await until(lambda: "backend b is HEALTHY" in lines)
    assert "backend b is UNHEALTHY: connection refused" in lines


def stream(transport: Any) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000)


BAD = {
    "no answer within 200 ms": lambda transport: None,
    "closed before its answer was whole": lambda transport: transport.loseConnection(),
    "status 503": lambda transport: transport.write(OK.replace(b"200", b"503")),
    "no HTTP answer": lambda transport: transport.write(b"hello\nhello\n"),
    "its head never ends": lambda transport: transport.write(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 9999),
}


@pytest.mark.parametrize("reason", BAD)
@pytest_twisted.ensureDeferred
async def test_what_takes_a_backend_out(here: Checks, backend: Backend, reason: str) -> None:
    backend.behave = BAD[reason]
    here.apply(spec(backend.number))
    await until(lambda: here.verdicts == [("b", False)])
    assert here.checks.view("b").last_reason == reason
    backend.behave = answer
    await until(lambda: here.checks.is_healthy("b"))


@pytest_twisted.ensureDeferred
async def test_one_that_streams_for_ever_is_well(here: Checks, backend: Backend) -> None:
    backend.behave = stream
    here.apply(spec(backend.number))
    await until(lambda: here.passed() >= 3)
    assert here.verdicts == []


@pytest_twisted.ensureDeferred
async def test_a_suspicion_causes_a_probe_at_once_and_only_that_decides(
    here: Checks, backend: Backend
) -> None:
    here.apply(spec(backend.number, RARELY))
    await until(lambda: backend.requests == 1 and here.passed() == 1)
    here.checks.suspect(["b", "b", "unknown"])
    await until(lambda: here.passed() == 2)
    assert here.verdicts == []
    backend.behave = lambda transport: None
    here.checks.suspect(["b"])
    await until(lambda: here.verdicts == [("b", False)])


WEB: dict[str, Any] = {
    "listeners": (ListenerSpec("web", ("x",)), ListenerSpec("tcp", ("y",), "tcp")),
    "rules": (RuleSpec("web", ("b", "both")), RuleSpec("tcp", ("both", "tcp"), ("tcp",))),
}


@pytest_twisted.ensureDeferred
async def test_a_hang_behind_a_tcp_check_is_found_on_suspicion(here: Checks, backend: Backend) -> None:
    """The kernel accepts, and nobody answers; a connect alone would do for a check."""
    backend.behave = lambda transport: None
    here.apply(spec(backend.number, OwnCheckSpec(interval=1.0, timeout=0.2)), **WEB)
    await until(lambda: here.passed() >= 2)
    assert here.verdicts == []
    here.checks.suspect(["b"])
    await until(lambda: here.verdicts == [("b", False)])
    assert here.checks.view("b").last_reason == "no answer within 200 ms"
    passed = here.passed()
    await until(lambda: here.passed() >= passed + 3)
    assert here.verdicts == [("b", False)]  # that it can be connected to does not bring it back
    backend.behave = lambda transport: transport.loseConnection()  # it need not understand us
    await until(lambda: here.verdicts == [("b", False), ("b", True)])


@pytest.mark.parametrize(
    ("id", "check"),
    [("b", OwnCheckSpec("tcp", interval=3600.0)), ("tcp", OwnCheckSpec(interval=3600.0))],
    ids=["said so", "not of http"],
)
@pytest_twisted.ensureDeferred
async def test_who_is_only_connected_to(here: Checks, backend: Backend, id: str, check: OwnCheckSpec) -> None:
    backend.behave = lambda transport: None
    here.apply(spec(backend.number, check, id), **WEB)
    await until(lambda: here.passed() == 1)
    here.checks.suspect([id])
    await until(lambda: here.passed() == 2)
    assert (here.verdicts, backend.requests) == ([], 0)


@pytest_twisted.ensureDeferred
async def test_a_storm_of_suspicions_is_no_storm_of_probes(here: Checks, backend: Backend) -> None:
    here.apply(spec(backend.number, RARELY))
    await until(lambda: here.passed() == 1)
    for _ in range(50):
        here.checks.suspect(["b"] * 100)
        await pause(0.005)
    assert 2 <= here.passed() <= 10
    assert here.verdicts == []


@pytest_twisted.ensureDeferred
async def test_the_same_place_keeps_its_health(here: Checks, backend: Backend) -> None:
    await backend.refuse()
    here.apply(spec(backend.number))
    await until(lambda: not here.checks.is_healthy("b"))
    failures = here.checks.view("b").max_consecutive_failures
    other = replace(spec(backend.number, replace(QUICKLY, interval=0.3)), weight=7)
    here.apply(other, spec(1, replace(QUICKLY, type="off"), "other"))
    assert here.checks.view("b").max_consecutive_failures >= failures
    assert not here.checks.is_healthy("b")
    backend.listen()
    await until(lambda: here.checks.is_healthy("b"))
    assert here.verdicts == [("b", False), ("b", True)]


@pytest_twisted.ensureDeferred
async def test_another_place_starts_afresh(here: Checks, backend: Backend) -> None:
    here.apply(spec(free_port()))
    await until(lambda: not here.checks.is_healthy("b"))
    here.apply(spec(backend.number))
    assert here.verdicts == [("b", False), ("b", True)]
    assert here.checks.view("b").max_consecutive_failures == 0
    await until(lambda: backend.requests >= 2)
    assert len(here.verdicts) == 2


@pytest_twisted.ensureDeferred
async def test_off_is_healthy_and_not_probed(here: Checks, backend: Backend) -> None:
    await backend.refuse()
    here.apply(spec(backend.number))
    await until(lambda: not here.checks.is_healthy("b"))
    here.apply(spec(backend.number, replace(QUICKLY, type="off")))
    assert here.verdicts == [("b", False), ("b", True)]
    here.checks.suspect(["b"])
    probes = here.passed()
    await pause(0.3)
    assert here.passed() == probes
    assert here.checks.is_healthy("b")


@pytest_twisted.ensureDeferred
async def test_a_backend_of_udp_listeners_is_probed_only_if_it_says_how(here: Checks) -> None:
    quickly = OwnCheckSpec(interval=0.05)
    here.apply(
        spec(free_port(), quickly, "plain"),
        spec(free_port(), replace(quickly, type="tcp"), "asked"),
        listeners=(ListenerSpec("dns", ("x",), "udp"),),
        rules=(RuleSpec("dns", ("plain", "asked"), ("dns",)),),
    )
    await until(lambda: not here.checks.is_healthy("asked"))
    await pause(0.2)
    assert here.checks.is_healthy("plain")
    assert here.checks.view("plain").last_health_check_at is None


@pytest_twisted.ensureDeferred
async def test_one_that_left_is_not_probed(here: Checks, backend: Backend) -> None:
    backend.behave = lambda transport: None
    here.apply(spec(backend.number))
    await until(lambda: backend.requests)
    here.apply()
    assert here.checks.sockets == 0
    await pause(0.3)
    assert (here.passed(), here.verdicts) == (0, [])


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_resolve_is_not_probed_and_says_why(
    here: Checks, backend: Backend
) -> None:
    nameless = replace(spec(backend.number), host="b.example", address="")
    here.apply(nameless)
    view = here.checks.view("b")
    assert (view.healthy, view.last_reason) == (False, "b.example does not resolve")
    await pause(0.2)
    assert here.passed() == 0
    here.apply(replace(nameless, address="127.0.0.1"))
    assert here.checks.is_healthy("b")
    assert here.verdicts == [("b", False), ("b", True)]
    await until(lambda: backend.requests)
    here.apply(nameless)
    assert here.checks.view("b").last_reason == "b.example does not resolve"


@pytest_twisted.ensureDeferred
async def test_no_more_probes_at_a_time_than_allowed(here: Checks, backend: Backend) -> None:
    backend.behave = lambda transport: None
    most = 0
    here.apply(*(spec(backend.number, QUICKLY, f"b{n}") for n in range(30)), health_check_concurrency=3)
    while here.passed() < 60:
        most = max(most, here.checks.sockets)
        await pause(0.005)
    assert most == 3
