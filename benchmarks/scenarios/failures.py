"""``failures``: what clients see when one of four backends dies, hangs, breaks off its answers or restarts.

64 kept-alive clients ask at a steady pace. A failure is repeated 20 times; after each the backend gets well
and serves again before the next. A request is an error unless it got its whole answer; one that had begun and
broke off counts as cut: no proxy can hide that.
"""

from __future__ import annotations

import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..bench import Bench
from ..contenders import Programs, common_values, fill
from ..procs import BenchmarkError, Process, Workshop, free_port
from ..report import Table, number
from ..starters import START_TWISTD
from ..steady import CUT, OK, SteadyClients

FAILURES = ("kill", "stop", "reset", "mute", "restart")
COLUMNS = ["failure", "proxy", "times", "requests", "errors", "cut", "slowest ms", "last to it ms"]
BACKENDS = 4
REPEATS = 20
PAUSE = 0.2  # between two requests of a client
WATCHED, WATCHED_QUICKLY = 4.0, 0.5  # seconds after the failure
RECOVERY = 10.0  # at most, until it serves again


class Backend:
    """One of the four."""

    def __init__(self, workshop: Workshop, name: str) -> None:
        self.port = free_port()
        self.name = name
        self._workshop = workshop
        self._board = workshop.directory / f"{name}.last"
        self.start()

    def start(self) -> None:
        script = str(Path(__file__).parents[1] / "failing_origin.py")
        command = [sys.executable, script, str(self.port), str(self._board)]
        self.process: Process = self._workshop.start(self.name, command)
        self.process.wait_ready(self.port)

    def end(self, number: int) -> None:
        self.signal(number)
        self._workshop.stop(self.process)

    def signal(self, number: int) -> None:
        self.process.popen.send_signal(number)

    def last_request(self) -> float:
        """When (``time.monotonic()``) it last got one; 0.0 = never."""
        return float(struct.unpack("d", self._board.read_bytes())[0])


@dataclass(frozen=True, slots=True)
class Seen:
    """What one failure came to."""

    requests: int
    errors: int
    cut: int
    slowest: float  # seconds
    last: float | None  # seconds after the failure; None = it cannot tell


def failures(bench: Bench) -> list[Table]:
    repeats, watched = (1, WATCHED_QUICKLY) if bench.quick else (REPEATS, WATCHED)
    title = f"failures: one of {BACKENDS} backends, {bench.connections} clients, {repeats} times each"
    bench.say(title)
    found: dict[tuple[str, str], list[Seen]] = {}
    proxies = [name for name in bench.proxies if name in STARTERS]
    for proxy in proxies:
        with bench.workshop() as workshop:
            backends = [Backend(workshop, f"backend-{at}") for at in range(BACKENDS)]
            port = free_port()
            process = STARTERS[proxy](workshop, proxy, port, [one.port for one in backends], bench.programs)
            process.wait_ready(port)
            with SteadyClients(port, bench.connections, PAUSE) as clients:
                time.sleep(2 * PAUSE)
                for failure in FAILURES:
                    bench.say(f"failures: {failure}, {proxy}")
                    for number_of in range(repeats):
                        seen = observe(failure, backends[number_of % BACKENDS], clients, watched)
                        found.setdefault((failure, proxy), []).append(seen)
    rows = [
        row(failure, proxy, found[failure, proxy])
        for failure in FAILURES
        for proxy in proxies
        if (failure, proxy) in found
    ]
    raw: dict[str, object] = {
        f"{failure} {proxy}": [[one.requests, one.errors, one.cut, one.slowest, one.last] for one in seen]
        for (failure, proxy), seen in found.items()
    }
    notes = ["last to it: the last request that reached the backend after it failed, median (worst)"]
    return [Table(title, COLUMNS, rows, notes, raw)]


def observe(failure: str, backend: Backend, clients: SteadyClients, watched: float) -> Seen:
    """Let ``backend`` fail, look for a while, make it well again and wait until it serves."""
    at = time.monotonic()
    last: float | None = None
    if failure == "kill":
        backend.end(signal.SIGKILL)
    elif failure == "stop":
        backend.signal(signal.SIGSTOP)
    elif failure == "reset":
        backend.signal(signal.SIGUSR2)
    elif failure == "mute":
        backend.signal(signal.SIGUSR1)
    else:
        backend.end(signal.SIGTERM)
        backend.start()
    time.sleep(watched)
    until = time.monotonic()
    if failure in ("reset", "mute"):
        last = max(0.0, backend.last_request() - at)
    if failure == "kill":
        backend.start()
    elif failure == "stop":
        backend.signal(signal.SIGCONT)
    elif failure in ("reset", "mute"):
        backend.signal(signal.SIGHUP)
    await_traffic(backend)
    asked = [one for one in list(clients.asked) if at - clients.patience <= one.at <= until]
    touched = [one for one in asked if one.at + one.seconds >= at]
    return Seen(
        len(touched),
        sum(one.outcome not in (OK, CUT) for one in touched),
        sum(one.outcome == CUT for one in touched),
        max((one.seconds for one in touched), default=0.0),
        last,
    )


def await_traffic(backend: Backend) -> None:
    well = time.monotonic()
    while backend.last_request() < well:
        if time.monotonic() > well + RECOVERY:
            raise BenchmarkError(f"{backend.name} gets no traffic {RECOVERY:.0f} s after it got well")
        time.sleep(0.02)


def row(failure: str, proxy: str, seen: list[Seen]) -> list[str]:
    last = [one.last * 1000 for one in seen if one.last is not None]
    return [
        failure,
        proxy,
        str(len(seen)),
        str(sum(one.requests for one in seen)),
        str(sum(one.errors for one in seen)),
        str(sum(one.cut for one in seen)),
        number(max(one.slowest for one in seen) * 1000, 0),
        f"{number(median(last), 0)} ({number(max(last), 0)})" if last else "-",
    ]


# -- the proxies -------------------------------------------------------------------------------------


def start_txlb(workshop: Workshop, name: str, port: int, ports: list[int], programs: Programs) -> Process:
    python = programs.txlb_python if name == "txlb" else (programs.txlb_pure_python or sys.executable)
    values = common_values(name, port) | {
        "LOG": str(workshop.directory / f"{name}.log"),
        "SERVERS": "\n".join(
            f"  - {{id: b{one}, host: 127.0.0.1, port: {one}, health_check_path: /health}}" for one in ports
        ),
        "IDS": ", ".join(f"b{one}" for one in ports),
    }
    config = workshop.write(f"{name}.yaml", fill("failures-txlb.yaml", values))
    command = [python, "-c", START_TWISTD, "-n", "--pidfile=", "txlb", f"--config={config}"]
    return workshop.start(name, command, proxy=True)


def start_haproxy(workshop: Workshop, name: str, port: int, ports: list[int], programs: Programs) -> Process:
    servers = "\n".join(f"    server b{one} 127.0.0.1:{one}" for one in ports)
    values = common_values(name, port) | {"SERVERS": servers}
    config = workshop.write(f"{name}.cfg", fill("failures-haproxy.cfg", values))
    return workshop.start(name, ["haproxy", "-db", "-f", str(config)], proxy=True)


def start_nginx(workshop: Workshop, name: str, port: int, ports: list[int], programs: Programs) -> Process:
    servers = "\n".join(f"        server 127.0.0.1:{one} max_fails=3 fail_timeout=1s;" for one in ports)
    values = common_values(name, port) | {"SERVERS": servers}
    config = workshop.write(f"{name}.conf", fill("failures-nginx.conf", values))
    command = ["nginx", "-p", str(workshop.directory), "-e", f"{name}.error", "-c", str(config)]
    return workshop.start(name, command, proxy=True)


Starter = Callable[[Workshop, str, int, list[int], Programs], Process]
STARTERS: dict[str, Starter] = {
    "txlb": start_txlb,
    "txlb-pure": start_txlb,
    "haproxy": start_haproxy,
    "nginx": start_nginx,
}
