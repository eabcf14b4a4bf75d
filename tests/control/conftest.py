"""Fixtures of the control plane's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from support.admin import Admin
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from txlb.core.model import AdminSpec


@pytest.fixture
def admin_on(running_reactor: Any, nothing_left: None) -> Iterator[Callable[[AdminSpec | str], Admin]]:
    """Starts an `Admin`, which serves once ``started`` fired; all are stopped after the test."""
    started: list[Admin] = []

    def start(spec: AdminSpec | str) -> Admin:
        started.append(Admin(running_reactor, spec))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def admin(admin_on: Callable[[AdminSpec | str], Admin]) -> Admin:
    """One on the loopback, without tokens."""
    one = admin_on("127.0.0.1:0")
    pytest_twisted.blockon(one.started)
    return one


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What Twisted logged during this test."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)
