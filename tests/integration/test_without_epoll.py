"""Where `select.epoll` does not exist everything runs on Twisted's own reactors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo
from support.processes import child_environment


def epoll_sets(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return [number for number in os.listdir(folder) if "eventpoll" in os.readlink(folder / number)]


@pytest.mark.parametrize("workers", [0, 2])
def test_it_starts_forwards_and_ends(
    workers: int, origin: Origin, start_balancer: Callable[..., Balancer], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import select\ndel select.epoll\n")
    path = os.pathsep.join((str(tmp_path), child_environment()["PYTHONPATH"]))
    balancer = start_balancer([origin.port], workers=workers, environment={"PYTHONPATH": path})
    for pid in {balancer.program.pid, *balancer.worker_pids()}:
        assert not epoll_sets(pid)
    with origin.serving(answering(echo)), balancer.connect() as client:
        for size in (0, 500_000):
            answer = client.ask(f"POST / HTTP/1.1\nHost: a\nContent-Length: {size}", b"x" * size)
            assert (answer.status, answer.body) == (200, f"POST / {size}".encode())
        balancer.reload(timeouts={"connect": "2s"})
        assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
    balancer.stop()
