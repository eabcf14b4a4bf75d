"""``failures``: what clients see when one of four backends dies, hangs, breaks off its answers or restarts.

64 kept-alive clients ask at a steady pace. A failure is repeated 20 times; after each the backend gets well
and serves again before the next. A request is an error unless it got its whole answer; one that had begun and
broke off counts as cut: no proxy can hide that. Which requests were tried at the failed backend, also where
nobody was there to see them, is read from the proxies' access logs (`benchmarks.tries`).
"""

from __future__ import annotations

import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from ..bench import Bench
from ..contenders import Programs, common_values, fill
from ..procs import BenchmarkError, Process, Workshop, free_port
from ..report import Table, number
from ..starters import START_TWISTD
from ..steady import CUT, OK, Asked, SteadyClients
from ..tries import Tried, read_tries

FAILURES = ("kill", "stop", "reset", "mute", "restart")
ILL = {"stop": signal.SIGSTOP, "reset": signal.SIGUSR2, "mute": signal.SIGUSR1}
COLUMNS = [
    "failure",
    "proxy",
    "times",
    "requests",
    "errors",
    "cut",
    "slowest ms",
    "last to it ms",
    "95 %",
    "worst",
]
BACKENDS = 4
PAUSE = 0.2  # between two requests of a client
WATCHED, WATCHED_QUICKLY = 4.0, 0.5  # seconds after the failure
LOGGED = 0.9  # of all requests, at least; the last ones may be lost with the proxy
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
class Outage:
    """One failure of the backend on ``port``; times of ``time.monotonic()``."""

    failure: str
    port: int
    at: float
    well: float  # made well again, or looked at long enough
    over: float  # it serves again


@dataclass(frozen=True, slots=True)
class Seen:
    """What one failure came to."""

    requests: int
    errors: int
    cut: int
    slowest: float  # seconds
    last: float  # seconds after the failure; 0.0 = none came


def failures(bench: Bench) -> list[Table]:
    repeats, watched = (1, WATCHED_QUICKLY) if bench.quick else (bench.repeats, WATCHED)
    title = f"failures: one of {BACKENDS} backends, {bench.connections} clients, {repeats} times each"
    bench.say(title)
    found: dict[tuple[str, str], list[Seen]] = {}
    proxies = [name for name in bench.proxies if name in STARTERS]
    for proxy in proxies:
        for outage, seen in observed(bench, proxy, repeats, watched):
            found.setdefault((outage.failure, proxy), []).append(seen)
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
    notes = [
        "last to it: after the failure, the arrival of the last request that was tried there; "
        "median, 95 % and worst of the times"
    ]
    return [Table(title, COLUMNS, rows, notes, raw)]


def observed(bench: Bench, proxy: str, repeats: int, watched: float) -> list[tuple[Outage, Seen]]:
    """All failures in turn behind one ``proxy``, judged when all is over: requests may outlast outages."""
    outages: list[Outage] = []
    with bench.workshop() as workshop:
        backends = [Backend(workshop, f"backend-{at}") for at in range(BACKENDS)]
        port = free_port()
        log = workshop.directory / f"{proxy}.log"
        ports = [one.port for one in backends]
        process = STARTERS[proxy](workshop, proxy, port, ports, log, bench.programs)
        process.wait_ready(port)
        clock = time.time() - time.monotonic()
        with SteadyClients(port, bench.connections, PAUSE) as clients:
            time.sleep(2 * PAUSE)
            for failure in FAILURES:
                bench.say(f"failures: {failure}, {proxy}")
                outages += [fail(failure, backends[at % BACKENDS], watched) for at in range(repeats)]
        workshop.stop(process)  # its log is whole
        tries = list(read_tries(proxy, log))
    if len(tries) < len(clients.asked) * LOGGED:
        raise BenchmarkError(f"{proxy} logged {len(tries)} of {len(clients.asked)} requests")
    return list(zip(outages, judge(outages, clients.asked, tries, clock), strict=True))


def fail(failure: str, backend: Backend, watched: float) -> Outage:
    """Let ``backend`` fail, wait, make it well again and wait until it serves."""
    at = time.monotonic()
    if failure == "kill":
        backend.end(signal.SIGKILL)
    elif failure == "restart":
        backend.end(signal.SIGTERM)
        backend.start()
    else:
        backend.signal(ILL[failure])
    time.sleep(watched)
    well = time.monotonic()
    if failure == "kill":
        backend.start()
    elif failure == "stop":
        backend.signal(signal.SIGCONT)
    elif failure != "restart":
        backend.signal(signal.SIGHUP)
    await_traffic(backend)
    return Outage(failure, backend.port, at, well, time.monotonic())


def await_traffic(backend: Backend) -> None:
    well = time.monotonic()
    while backend.last_request() < well:
        if time.monotonic() > well + RECOVERY:
            raise BenchmarkError(f"{backend.name} gets no traffic {RECOVERY:.0f} s after it got well")
        time.sleep(0.02)


def judge(outages: list[Outage], asked: list[Asked], tries: list[Tried], clock: float) -> list[Seen]:
    """What each came to. A request belongs to the first outage that it met; ``clock``: since 1970, at 0.0."""
    met: list[list[Asked]] = [[] for _ in outages]
    for one in asked:
        for outage, those in zip(outages, met, strict=True):
            if one.at <= outage.over and one.at + one.seconds >= outage.at:
                those.append(one)
                break
    return [
        Seen(
            len(those),
            sum(one.outcome not in (OK, CUT) for one in those),
            sum(one.outcome == CUT for one in those),
            max((one.seconds for one in those), default=0.0),
            last_to_it(outage, tries, clock),
        )
        for outage, those in zip(outages, met, strict=True)
    ]


def last_to_it(outage: Outage, tries: list[Tried], clock: float) -> float:
    """Seconds from the failure to the last request that was tried at the failed backend; 0.0 = none was.

    A restarted one soon serves again: there only what failed counts, or had to be tried again.
    """
    last = outage.at
    for one in tries:
        at = one.at - clock
        if last < at <= outage.well:
            there = one.port == outage.port and (outage.failure != "restart" or one.status >= 500)
            if there or one.again:
                last = at
    return last - outage.at


def percentile(values: list[float], share: float) -> float:
    """The smallest of them that ``share`` of them do not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def row(failure: str, proxy: str, seen: list[Seen]) -> list[str]:
    last = [one.last * 1000 for one in seen]
    return [
        failure,
        proxy,
        str(len(seen)),
        str(sum(one.requests for one in seen)),
        str(sum(one.errors for one in seen)),
        str(sum(one.cut for one in seen)),
        number(max(one.slowest for one in seen) * 1000, 0),
        *(number(percentile(last, share), 0) for share in (0.5, 0.95, 1.0)),
    ]


# -- the proxies -------------------------------------------------------------------------------------


def start_txlb(
    workshop: Workshop, name: str, port: int, ports: list[int], log: Path, programs: Programs
) -> Process:
    python = programs.txlb_python if name == "txlb" else (programs.txlb_pure_python or sys.executable)
    values = common_values(name, port) | {
        "LOG": str(log),
        "SERVERS": "\n".join(
            f"  - {{id: b{one}, host: 127.0.0.1, port: {one}, health_check_path: /health}}" for one in ports
        ),
        "IDS": ", ".join(f"b{one}" for one in ports),
    }
    config = workshop.write(f"{name}.yaml", fill("failures-txlb.yaml", values))
    command = [python, "-c", START_TWISTD, "-n", "--pidfile=", "txlb", f"--config={config}"]
    return workshop.start(name, command, proxy=True)


def start_haproxy(
    workshop: Workshop, name: str, port: int, ports: list[int], log: Path, programs: Programs
) -> Process:
    servers = "\n".join(f"    server b{one} 127.0.0.1:{one}" for one in ports)
    log_port = free_port()
    sink = str(Path(__file__).parents[1] / "sink.py")
    workshop.start(f"{name}-log", [sys.executable, sink, str(log_port), str(log)])
    values = common_values(name, port) | {"SERVERS": servers, "LOG_PORT": str(log_port)}
    config = workshop.write(f"{name}.cfg", fill("failures-haproxy.cfg", values))
    return workshop.start(name, ["haproxy", "-db", "-f", str(config)], proxy=True)


def start_nginx(
    workshop: Workshop, name: str, port: int, ports: list[int], log: Path, programs: Programs
) -> Process:
    servers = "\n".join(f"        server 127.0.0.1:{one} max_fails=3 fail_timeout=1s;" for one in ports)
    values = common_values(name, port) | {"SERVERS": servers, "LOG": str(log)}
    config = workshop.write(f"{name}.conf", fill("failures-nginx.conf", values))
    command = ["nginx", "-p", str(workshop.directory), "-e", f"{name}.error", "-c", str(config)]
    return workshop.start(name, command, proxy=True)


Starter = Callable[[Workshop, str, int, list[int], Path, Programs], Process]
STARTERS: dict[str, Starter] = {
    "txlb": start_txlb,
    "txlb-pure": start_txlb,
    "haproxy": start_haproxy,
    "nginx": start_nginx,
}
