"""What clients see of backends that die, hang, break off, come back: nothing that another try could hide.

Real processes throughout: the backends of the benchmark ``failures`` and its clients, two workers, the
shipped defaults.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import eventually
from support.ports import free_port
from support.processes import Program, accepts, python

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT) not in sys.path:  # at its end: txlb itself is the installed one
    sys.path.append(str(CHECKOUT))

from benchmarks.steady import CUT, OK, SteadyClients  # noqa: E402

Start = Callable[..., Balancer]
CLIENTS = 64


class Backend:
    """One of four; `restart` on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.board = folder / f"last-{self.port}"
        self.start()

    def start(self) -> None:
        script = str(CHECKOUT / "benchmarks" / "failing_origin.py")
        self.program = Program(python(script, str(self.port), str(self.board)))
        eventually(lambda: accepts(self.port), "a backend accepts")

    def signal(self, number: int) -> None:
        os.kill(self.program.pid, number)

    def last_request(self) -> float:
        """When the last one came, /health aside."""
        return float(struct.unpack("d", self.board.read_bytes())[0])

    def stop(self) -> None:
        if self.program.returncode is None:
            self.signal(signal.SIGCONT)
        self.program.stop(signal.SIGKILL)


@pytest.fixture
def four(nothing_left: None, tmp_path: Path) -> Iterator[list[Backend]]:
    backends: list[Backend] = []
    try:
        for _ in range(4):
            backends.append(Backend(tmp_path))
        yield backends
    finally:
        for one in backends:
            one.stop()


def serving(four: list[Backend], start_balancer: Start, **settings: object) -> Balancer:
    return start_balancer([one.port for one in four], workers=2, **settings)


def checked(four: list[Backend], start_balancer: Start) -> Balancer:
    """With a health endpoint: a hang does not show in a bare connect, which the kernel accepts."""
    backends = [
        {"id": f"b{index}", "host": "127.0.0.1", "port": one.port, "health_check_path": "/health"}
        for index, one in enumerate(four)
    ]
    return serving(four, start_balancer, backends=backends)


def steady(balancer: Balancer) -> SteadyClients:
    return SteadyClients(balancer.port, CLIENTS, pause=0.2)


def busy(clients: SteadyClients, more: int = 2 * CLIENTS) -> None:
    """So many requests more are answered."""
    before = len(clients.asked)
    eventually(lambda: len(clients.asked) >= before + more, "traffic")


def serves_again(one: Backend) -> None:
    now = time.monotonic()
    eventually(lambda: one.last_request() > now, "it serves again")


def all_ok(clients: SteadyClients) -> None:
    assert clients.outcomes()[OK] == len(clients.asked), clients.outcomes()


def test_a_killed_backend_is_not_noticed(four: list[Backend], start_balancer: Start) -> None:
    balancer = serving(four, start_balancer)
    with steady(balancer) as clients:
        busy(clients)
        four[0].program.stop(signal.SIGKILL)
        busy(clients, 5 * CLIENTS)
    all_ok(clients)
    assert balancer.metric("txlb_retries_total", rule="all") > 0
    assert balancer.metric("txlb_errors_total") == 0


def test_restarted_backends_are_not_noticed(four: list[Backend], start_balancer: Start) -> None:
    balancer = serving(four, start_balancer)
    with steady(balancer) as clients:
        for one in four:
            busy(clients)
            one.program.stop(signal.SIGTERM)
            busy(clients, CLIENTS)
            one.start()
            serves_again(one)
    all_ok(clients)


def test_only_answers_already_begun_are_lost_when_a_backend_breaks_them_off(
    four: list[Backend], start_balancer: Start
) -> None:
    balancer = serving(four, start_balancer)
    with steady(balancer) as clients:
        busy(clients)
        four[0].signal(signal.SIGUSR2)
        busy(clients, 5 * CLIENTS)
        four[0].signal(signal.SIGHUP)
        busy(clients, CLIENTS)
    assert set(clients.outcomes()) <= {OK, CUT}, clients.outcomes()


@pytest.mark.parametrize(("ill", "well"), [(signal.SIGSTOP, signal.SIGCONT), (signal.SIGUSR1, signal.SIGHUP)])
def test_a_backend_that_hangs_is_found_and_its_requests_are_moved(
    four: list[Backend], start_balancer: Start, ill: int, well: int
) -> None:
    balancer = checked(four, start_balancer)
    with steady(balancer) as clients:
        busy(clients)
        four[0].signal(ill)
        eventually(lambda: balancer.health()["backend_health"]["b0"] == "UNHEALTHY", "a verdict")
        verdict = time.monotonic()
        busy(clients, 3 * CLIENTS)
        four[0].signal(well)
        serves_again(four[0])
        busy(clients)
    all_ok(clients)
    assert balancer.metric("txlb_errors_total") == 0
    hung = [one for one in clients.asked if one.at < verdict < one.at + one.seconds]
    print(f"{len(hung)} requests waited for the verdict, {clients.slowest() * 1000:.0f} ms at most")


def test_a_poisonous_request_takes_nobody_out(four: list[Backend], start_balancer: Start) -> None:
    balancer = serving(four, start_balancer)
    with steady(balancer) as clients, SteadyClients(balancer.port, 1, 0.02, "/poison") as poison:
        busy(clients, 10 * CLIENTS)
        used = [one.last_request() for one in four]
        busy(clients, CLIENTS)
        assert all(one.last_request() > before for one, before in zip(four, used, strict=True))
        assert set(balancer.health()["backend_health"].values()) == {"HEALTHY"}
    all_ok(clients)
    assert set(poison.outcomes()) == {"502"}
    asked = len(poison.asked)
    failures = balancer.metric("txlb_backend_failures_total", kind="reset")
    assert asked < failures <= 3 * asked, "some tries each, no more than the rule allows"


def test_with_too_few_left_all_are_used(four: list[Backend], start_balancer: Start) -> None:
    """Their health endpoints fail, they themselves do not: what a panic is for."""
    backends = [
        {"id": f"b{index}", "host": "127.0.0.1", "port": one.port, "health_check_path": "/poison"}
        for index, one in enumerate(four)
    ]
    names = [one["id"] for one in backends]
    for threshold, outcome in (("0%", "503"), ("30%", OK)):
        rule = {"id": "all", "backends": names, "panic_threshold": threshold}
        balancer = serving(four, start_balancer, backends=backends, routing_rules=[rule])
        eventually(
            lambda balancer=balancer: set(balancer.health()["backend_health"].values()) == {"UNHEALTHY"},  # type: ignore[misc]
            "verdicts",
        )
        with SteadyClients(balancer.port, 4, pause=0.02) as clients:
            busy(clients, 100)
        assert set(clients.outcomes()) == {outcome}
        picks = len(clients.asked) if outcome == OK else 0
        eventually(
            lambda balancer=balancer, picks=picks: (  # type: ignore[misc]
                balancer.metric("txlb_panic_picks_total", rule="all") == picks
            ),
            "every choice is counted",
        )
