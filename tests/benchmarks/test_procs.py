from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.measure import process_tree
from benchmarks.procs import BenchmarkError, Workshop, free_port, processor_sets, run

EVERYWHERE = frozenset(os.sched_getaffinity(0))
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(60)
"""


def test_leaving_the_workshop_ends_processes_with_their_children_and_removes_files():
    with pytest.raises(KeyboardInterrupt), Workshop(EVERYWHERE, EVERYWHERE) as workshop:
        directory = workshop.directory
        process = workshop.start("parent", ["sh", "-c", "sleep 60 & sleep 60 & wait"])
        deadline = time.monotonic() + 10
        while len(tree := process_tree(process.pid)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not directory.exists()
    assert process.popen.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in tree):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_process_deaf_to_sigterm_is_killed():
    with Workshop(EVERYWHERE, EVERYWHERE) as workshop:
        process = workshop.start("deaf", ["python3", "-c", STUBBORN])
        process.grace = 0.2
        deadline = time.monotonic() + 10
        while "on" not in process.tail():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workshop.stop(process)
        assert process.popen.returncode == -signal.SIGKILL


def test_a_process_that_ends_instead_of_serving_is_reported_with_its_last_words():
    with Workshop(EVERYWHERE, EVERYWHERE) as workshop:
        process = workshop.start("broken", ["sh", "-c", "echo no such directive; exit 3"])
        with pytest.raises(BenchmarkError, match=r"(?s)broken ended with code 3.*no such directive"):
            process.wait_ready(free_port())


def test_waiting_is_bounded():
    with Workshop(EVERYWHERE, EVERYWHERE) as workshop:
        process = workshop.start("silent", ["sleep", "60"])
        with pytest.raises(BenchmarkError, match="not ready within"):
            process.wait_ready(free_port(), within=0.1)
    with pytest.raises(BenchmarkError, match="longer than"):
        run(["sleep", "60"], EVERYWHERE, timeout=0.1)


def test_a_failing_program_is_reported():
    assert run(["echo", "fine"], EVERYWHERE, timeout=10) == "fine\n"
    with pytest.raises(BenchmarkError, match=r"(?s)code 2.*bad"):
        run(["sh", "-c", "echo bad >&2; exit 2"], EVERYWHERE, timeout=10)


def test_the_proxy_has_a_processor_to_itself_where_there_are_two():
    proxy, others = processor_sets(pin=True)
    if len(EVERYWHERE) > 1:
        assert len(proxy) == 1
        assert proxy.isdisjoint(others)
        assert proxy | others == EVERYWHERE
    assert processor_sets(pin=False) == (EVERYWHERE, EVERYWHERE)
