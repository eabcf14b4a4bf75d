"""What a run costs, read from ``/proc``: CPU time, resident memory, the machine's busy time. Pure readers, no
state.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class MachineTime:
    """Seconds since boot, over all processors: ``busy`` doing anything, ``stolen`` by the hypervisor."""

    busy: float
    stolen: float


@dataclass(frozen=True)
class Reading:
    """The counters of a moment: CPU seconds of the measured processes, of the discounted ones, of the
    machine.
    """

    processes: frozenset[int]
    cpu: float
    discounted: float
    machine: MachineTime


def process_tree(root: int, proc: Path = PROC) -> frozenset[int]:
    """``root`` and every living descendant of it."""
    found: set[int] = set()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            tasks = list((proc / str(pid) / "task").iterdir())
        except FileNotFoundError:
            continue
        found.add(pid)
        for task in tasks:
            try:
                waiting += [int(child) for child in (task / "children").read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
    return frozenset(found)


def parse_stat_cpu(stat: str, tick: int = TICK) -> float:
    """CPU seconds (user + system, all threads) from the text of ``/proc/PID/stat``; the name may hold blanks
    and brackets.
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / tick


def parse_machine(stat: str, tick: int = TICK) -> MachineTime:
    """The first line of ``/proc/stat``: user nice system idle iowait irq softirq steal (guest time is within
    user).
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in stat.split("\n", 1)[0].split()[1:9]
    )
    return MachineTime(busy=(user + nice + system + irq + softirq) / tick, stolen=steal / tick)


def parse_status_bytes(status: str, key: str) -> int:
    """A ``Vm…`` line of ``/proc/PID/status`` in bytes."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise KeyError(key)


def cpu_seconds(pids: Iterable[int]) -> float:
    return sum(parse_stat_cpu((PROC / str(pid) / "stat").read_text()) for pid in pids)


def memory_bytes(pids: Iterable[int], key: str = "VmRSS") -> int:
    """Resident memory now (``VmRSS``) or at its highest (``VmHWM``), summed."""
    return sum(parse_status_bytes((PROC / str(pid) / "status").read_text(), key) for pid in pids)


def read(root: int | None, discounted: Iterable[int] = ()) -> Reading:
    """A reading for the proxy whose first process is ``root`` (None: no proxy, the direct path)."""
    processes = process_tree(root) if root is not None else frozenset()
    return Reading(
        processes=processes,
        cpu=cpu_seconds(processes),
        discounted=cpu_seconds(discounted),
        machine=parse_machine((PROC / "stat").read_text()),
    )


def machine_description() -> dict[str, str]:
    """What a reader of the figures wants to know about the machine."""
    model = "unknown"
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"processor": model, "processors": str(os.cpu_count()), "kernel": os.uname().release}
