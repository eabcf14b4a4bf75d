"""``loop-stalls``: the longest time that a loop of txlb was held up, under 10,000 requests a second.

Four backends are checked as shipped, and a minute of open-loop load goes through one worker. Workers tell
their stalls themselves: `txlb_loop_lag_seconds` is the worst of the last ten seconds, and is read every five.
The control process has no such figure. It is asked for ``/health`` all the time: no stall of it can have been
longer than the slowest answer, which has the delays of the asking and of the machine in it. (Started by root,
the asking goes before everything else on its processor, which the load fills.)
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from types import TracebackType
from typing import Self

from ..bench import Bench
from ..contenders import Case, common_values, fill, start_backend
from ..load import RPS_PER_CONNECTION, drive_h2load, percentile, read_h2load, run_h2load
from ..procs import BenchmarkError, Workshop, free_port
from ..report import Table, number
from ..starters import START_TWISTD, is_compiled
from .health_checks import buckets, fetch, lateness

BACKENDS = 4
RATE, SECONDS = 10_000, 60.0
QUICK_RATE, QUICK_SECONDS = 1000, 2.0
ABLE = ("txlb", "txlb-pure")
LOOK, ASK = 5.0, 0.05  # seconds between two readings of the metrics, and between two questions
COLUMNS = [
    "proxy",
    "workers: worst stall ms",
    "control: /health p99 ms",
    "slowest ms",
    "checks late p99",
    "requests/s",
]


def loop_stalls(bench: Bench) -> list[Table]:
    rate, seconds = (QUICK_RATE, QUICK_SECONDS) if bench.quick else (bench.rate or RATE, SECONDS)
    title = f"loop-stalls: {rate:,} requests/s for {seconds:.0f} s, {BACKENDS} checked backends"
    bench.say(title)
    rows = []
    for name in bench.proxies:
        if name in ABLE:
            with bench.workshop() as workshop:
                rows.append([name, *one_run(bench, workshop, name, rate, seconds)])
    return [Table(title, COLUMNS, rows, ["the target is 20 ms"], {})]


def one_run(bench: Bench, workshop: Workshop, name: str, rate: int, seconds: float) -> list[str]:
    python = bench.programs.txlb_python if name == "txlb" else bench.programs.txlb_pure_python
    assert python is not None
    if is_compiled(python, workshop.directory) is not (name == "txlb"):
        raise BenchmarkError(f"{python} is not what {name} stands for")
    backend, port, admin = start_backend(workshop, name, 64), free_port(), free_port()
    servers = "\n".join(
        f"  - {{id: b{index}, host: {host}, port: {backend}, health_check_path: /}}"
        for index, host in enumerate(Case(BACKENDS).hosts())
    )
    values = common_values(name, port) | {
        "ADMIN": str(admin),
        "LOG": str(workshop.directory / "access.log"),
        "SERVERS": servers,
        "IDS": ", ".join(f"b{index}" for index in range(BACKENDS)),
    }
    config = workshop.write("txlb.yaml", fill("stalls-txlb.yaml", values))
    command = [python, "-c", START_TWISTD, "-n", "--pidfile=", "txlb", f"--config={config}"]
    workshop.start(name, command, proxy=True).wait_ready(port)
    connections = rate // RPS_PER_CONNECTION
    run_h2load(port, connections * RPS_PER_CONNECTION, 1.0, 0.5, workshop.directory, workshop.load_cpus)
    with Watch(admin) as watch:
        log, requests = drive_h2load(port, rate, seconds, workshop.directory, workshop.load_cpus)
        watch.look()
    load = read_h2load(log, requests, rate, 0.5)  # not before: it would keep the asking from running
    late = lateness({}, buckets(admin))
    return [
        number(max(watch.lags) * 1000, 1),
        number(percentile(sorted(round(took * 1e6) for took in watch.answers), 0.99) / 1000, 1),
        number(max(watch.answers) * 1000, 1),
        f"≤ {late * 1000:.0f} ms" if late is not None else "-",
        number(load.requests / load.seconds, 0),
    ]


class Watch:
    """Asks for ``/health`` all the time, and for the metrics now and then, in a thread of its own."""

    def __init__(self, admin: int) -> None:
        self.admin = admin
        self.lags: list[float] = []  # seconds, as every worker told
        self.answers: list[float] = []  # seconds that ``/health`` took
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Read the workers' figure."""
        self.lags += stalls(fetch(self.admin, "/metrics"))

    def _run(self) -> None:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # this thread only
        looked = time.monotonic() + LOOK + 0.5  # the start is not to be in the first figure
        while not self._stopping.wait(ASK):
            asked = time.monotonic()
            fetch(self.admin, "/health")
            now = time.monotonic()
            self.answers.append(now - asked)
            if now - looked > LOOK:
                looked = now
                self.look()


def stalls(metrics: str) -> list[float]:
    """What each worker says."""
    found = re.findall(r"^txlb_loop_lag_seconds\{[^}]*\} (\S+)$", metrics, re.MULTILINE)
    if not found:
        raise BenchmarkError("txlb tells no loop lag")
    return [float(value) for value in found]
