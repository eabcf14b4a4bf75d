from __future__ import annotations

import os
import subprocess

import pytest

from benchmarks import measure

STAT = "15375 (a (b) c) R 15300 15300 2653 0 -1 4194304 98 0 0 0 250 125 9 9 20 0 1 0 222367 3133440 363\n"
MACHINE = "cpu  74777 3 39954 312344 866 5 13875 143 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
STATUS = "Name:\tcat\nVmHWM:\t    2068 kB\nVmRSS:\t    2000 kB\n"


def test_cpu_time_is_user_and_system_whatever_the_name_of_the_process():
    assert measure.parse_stat_cpu(STAT, tick=100) == pytest.approx(3.75)


def test_machine_is_busy_when_neither_idle_nor_stolen():
    machine = measure.parse_machine(MACHINE, tick=100)
    assert machine.busy == pytest.approx((74777 + 3 + 39954 + 5 + 13875) / 100)
    assert machine.stolen == pytest.approx(1.43)


def test_memory_is_in_bytes():
    assert measure.parse_status_bytes(STATUS, "VmHWM") == 2068 * 1024
    with pytest.raises(KeyError):
        measure.parse_status_bytes(STATUS, "VmSwap")


def test_the_tree_of_a_process_has_its_children():
    shell = subprocess.Popen(["sh", "-c", "sleep 30 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    sleeper = int(shell.stdout.readline())
    try:
        assert measure.process_tree(shell.pid) == {shell.pid, sleeper}
        assert measure.memory_bytes({shell.pid, sleeper}) > measure.memory_bytes({sleeper}) > 0
    finally:
        os.kill(sleeper, 9)
        shell.wait(10)
        shell.stdout.close()
    assert measure.process_tree(shell.pid) == frozenset()


def test_a_reading_of_the_direct_path_has_no_processes():
    reading = measure.read(None)
    assert (reading.processes, reading.cpu) == (frozenset(), 0.0)
    assert reading.machine.busy > 0
