"""Every test: leaves nothing behind, logs no failure, ends in time, says what it needs.

* A test that leaves a delayed call, a selectable, a descriptor, a child process or a thread behind fails.
* A test during which Twisted logs a failure fails too, unless it takes the ``logged_failures`` fixture, looks
  at them and clears the list.
* Async tests (``@pytest_twisted.ensureDeferred``) are cancelled a little before pytest-timeout would strike,
  since a signal handler that raises inside the reactor ends the reactor, and with it all later tests.
* ``@pytest.mark.integration(needs="nginx,haproxy")``: needs these programs. Without them the test is skipped,
  or fails where ``TXLB_REQUIRE_PEERS`` is set.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from hypothesis import settings
from support import leaks
from support.processes import Program, find_tool
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

# No deadline per example: no test asserts on timing.
settings.register_profile("txlb", settings(), deadline=None)
settings.load_profile("txlb")


def pytest_report_header() -> str:
    spec = importlib.util.find_spec("txlb.core.pool")
    if spec is None or spec.origin is None:
        return "txlb.core.pool: not found"
    compiled = "pure Python" if spec.origin.endswith(".py") else "compiled"
    return f"txlb.core.pool: {spec.origin} ({compiled})"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("integration"):
        needs = [name.strip() for name in marker.kwargs["needs"].split(",")]
        if missing := [name for name in needs if find_tool(name) is None]:
            reason = f"not installed: {', '.join(missing)}"
            if os.environ.get("TXLB_REQUIRE_PEERS"):
                pytest.fail(f"{reason} (and TXLB_REQUIRE_PEERS is set)", pytrace=False)
            pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    if inspect.iscoroutinefunction(pyfuncitem.obj) and not hasattr(pyfuncitem.obj, "hypothesis"):
        marker = pyfuncitem.get_closest_marker("timeout")
        limit = float(marker.args[0] if marker else pyfuncitem.config.getini("timeout"))
        pyfuncitem.obj = bounded(pyfuncitem.obj, limit - max(1.0, limit * 0.1))  # room for the teardown


def bounded(test: Callable[..., Any], limit: float) -> Callable[..., Any]:
    """``test``, cancelled after ``limit`` seconds."""

    @functools.wraps(test)  # keeps the mark by which pytest-twisted knows an async test
    async def run(**fixtures: Any) -> None:
        from twisted.internet import reactor

        running = Deferred.fromCoroutine(test(**fixtures))
        await running.addTimeout(limit, reactor, overdue)  # type: ignore[arg-type]

    def overdue(result: Any, timeout: float) -> Any:
        if isinstance(result, Failure) and result.check(CancelledError):
            raise TimeoutError(f"the test took longer than {timeout} s") from result.value
        return result

    return run


@pytest.fixture(scope="session", autouse=True)
def running_reactor() -> Any:
    """The reactor, after its first turn: what it opens for itself belongs to nobody's test."""
    from twisted.internet import reactor

    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
    pytest_twisted.blockon(port.stopListening())
    pytest_twisted.blockon(deferLater(reactor, 0, lambda: None))  # type: ignore[arg-type]
    return reactor


@pytest.fixture
def logged_failures() -> Iterator[list[Failure]]:
    """The failures that Twisted logged during this test; a test that expects some clears the list."""
    failures: list[Failure] = []

    def observe(event: LogEvent) -> None:
        if (failure := event.get("log_failure")) is not None:
            failures.append(failure)

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(autouse=True)
def nothing_left(running_reactor: Any, logged_failures: list[Failure]) -> Iterator[None]:
    before = leaks.footprint(running_reactor)
    yield
    left = leaks.left_behind(running_reactor, before)
    if left:
        leaks.clean_up(running_reactor, before)
    left += [f"logged failure: {failure.getTraceback()}" for failure in logged_failures]
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def start_program(nothing_left: None) -> Iterator[Callable[..., Program]]:
    """Starts a `Program`; all are ended after the test."""
    programs: list[Program] = []

    def start(command: Sequence[str], **options: Any) -> Program:
        programs.append(Program(command, **options))
        return programs[-1]

    yield start
    for program in reversed(programs):
        program.stop()
