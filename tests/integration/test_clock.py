"""Somebody sets the system's clock back by an hour; whatever has a deadline goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo, eventually
from support.processes import child_environment

#: Python runs it before anything else, in control and workers: the clock is set when the file is there.
CUSTOMIZE = """\
import os, time
def told(time=time.time, exists=os.path.exists):
    return time() - (3600.0 if exists({path!r}) else 0.0)
time.time = told
"""


class SettableClock:
    """What `time.time` says in programs with this ``environment``."""

    def __init__(self, folder: Path) -> None:
        self._set = folder / "set back"
        (folder / "sitecustomize.py").write_text(CUSTOMIZE.format(path=str(self._set)))
        path = os.pathsep.join((str(folder), child_environment()["PYTHONPATH"]))
        self.environment = {"PYTHONPATH": path}

    def set_back(self) -> None:
        self._set.touch()


@pytest.mark.parametrize("workers", [0, 1])
def test_deadlines_and_checks_go_on(
    tmp_path: Path, origin: Origin, start_balancer: Callable[..., Balancer], workers: int
) -> None:
    clock = SettableClock(tmp_path)
    balancer = start_balancer(
        workers=workers,
        environment=clock.environment,
        timeouts={"client_header": "1s"},
        health_check={"interval": "1s", "timeout": "500ms"},
        backends=[{"id": "a", "host": "127.0.0.1", "port": origin.port, "health_check_path": "/health"}],
        routing_rules=[{"id": "all", "backends": ["a"]}],
    )

    def status() -> str:
        found: str = balancer.health()["backend_health"]["a"]
        return found

    def checks() -> int:
        return len([request for request in origin.requests if request.target == "/health"])

    with origin.serving(answering(echo)):
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        seen = checks()
        eventually(lambda: checks() > seen, "the next check")
        time.sleep(0.1)  # it is over, so nothing but time brings the next one
        clock.set_back()
        time.sleep(0.3)  # what was due is over, too
        with balancer.connect() as client:
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.answer().status == 408
        with balancer.connect() as client:
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        assert status() == "HEALTHY"
    eventually(lambda: status() == "UNHEALTHY", "checks go on")
    assert balancer.logged(1, lambda line: line["status"] == 408)
    balancer.stop()
