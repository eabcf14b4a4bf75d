"""``health-checks``: what it costs to check 10,000 backends over HTTP every 5 s, without any traffic.

One nginx is all of them, on as many addresses of 127.0.0.0/8; its own count of requests says how many checks
there were. Each round starts the proxy anew and waits until the first burst is over. CPU is that of all
processes of a proxy: an idle worker of txlb costs, too.

How late checks begin is told twice: of the measured run, and of one just as long beside which the proxy is
asked for its metrics and its backends and told to load them all again, one call after another.
"""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .. import measure
from ..bench import Bench
from ..compare import paired_ratio, spread
from ..contenders import addresses, common_values, file_limit, fill
from ..procs import BenchmarkError, Process, Workshop, free_port
from ..report import Table, mebibytes, number, ratio, share
from ..starters import START_TWISTD, is_compiled

MANY, INTERVAL = 10_000, 5
FEW, SOON = 200, 1  # --quick
ABLE = ("txlb", "txlb-pure", "haproxy")
COLUMNS = [
    "proxy",
    "checks/s",
    "CPU µs per check",
    "spread",
    "CPU of a core",
    "late p99",
    "late p99 beside calls",
    "peak RSS",
    "÷ haproxy",
]


@dataclass(frozen=True)
class Checked:
    """One run: what it cost, and how late checks began, alone and beside calls of the admin port (the bound
    of a bucket; None where nobody tells).
    """

    checks: int
    seconds: float
    cpu: float
    peak_rss: int
    late: float | None
    beside: float | None

    @property
    def cpu_us(self) -> float:
        return self.cpu / self.checks * 1e6


@dataclass(frozen=True)
class Started:
    """A proxy, where its clients come, and the port of its metrics (0: none)."""

    process: Process
    port: int
    admin: int


def health_checks(bench: Bench) -> list[Table]:
    count, interval = (FEW, SOON) if bench.quick else (MANY, INTERVAL)
    title = f"health-checks: {count:,} backends over HTTP every {interval} s"
    bench.say(title)
    names = [name for name in bench.proxies if name in ABLE]
    found: dict[str, list[Checked]] = {name: [] for name in names}
    for _ in range(bench.pairs):
        for name in names:
            with bench.workshop() as workshop:
                found[name].append(one_run(bench, workshop, name, count, interval))
    costs = {name: [run.cpu_us for run in runs] for name, runs in found.items()}
    rows = [
        [
            name,
            number(median(run.checks / run.seconds for run in runs), 0),
            number(median(costs[name])),
            share(spread(costs[name])),
            share(median(run.cpu / run.seconds for run in runs)),
            _late([run.late for run in runs]),
            _late([run.beside for run in runs]),
            mebibytes(int(median(run.peak_rss for run in runs))),
            ratio(paired_ratio(costs[name], costs["haproxy"])) if "haproxy" in costs else "-",
        ]
        for name, runs in found.items()
    ]
    notes = [
        "late p99: 99 % of the checks began no later than that after they were due (bound of a bucket)",
        "beside calls: GET /metrics, GET /backends and POST /reload (all changed) in turn, all the time",
    ]
    samples = {name: [vars(run) for run in runs] for name, runs in found.items()}
    return [Table(title, COLUMNS, rows, notes, {"samples": samples})]


def one_run(bench: Bench, workshop: Workshop, name: str, count: int, interval: int) -> Checked:
    backend = start_backends(workshop)
    there = start(bench, workshop, name, backend, count, interval)
    proxy, admin = there.process, there.admin
    time.sleep(interval + 1.5)  # the first checks, which are closer together
    length = max(bench.seconds, 2.0 * interval)
    first = buckets(admin)
    before, checks = measure.read(proxy.pid), requests_of(backend)
    since = time.monotonic()
    time.sleep(length)
    after, seconds = measure.read(proxy.pid), time.monotonic() - since
    checks = requests_of(backend) - checks - 1  # the count itself
    second = buckets(admin)
    call_all(admin, workshop.directory / "txlb.yaml", length)
    expected = count / interval * seconds
    if not 0.8 * expected < checks < 1.2 * expected:
        raise BenchmarkError(f"invalid run: {name} made {checks} checks instead of {expected:.0f}")
    return Checked(
        checks,
        seconds,
        after.cpu - before.cpu,
        measure.memory_bytes(after.processes, "VmHWM"),
        lateness(first, second),
        lateness(second, buckets(admin)),
    )


def call_all(admin: int, config: Path, seconds: float) -> None:
    """Everything about all backends, again and again; each reload finds another weight in the file."""
    until = time.monotonic() + seconds
    text = config.read_text() if admin else ""
    weight = 1
    while admin and time.monotonic() < until:
        weight = weight % 100 + 1
        config.write_text(text.replace("{id: b", f"{{weight: {weight}, id: b"))
        for method, path in (("GET", "/metrics"), ("GET", "/backends"), ("POST", "/reload")):
            fetch(admin, path, method)


def start_backends(workshop: Workshop) -> int:
    """All of them; their port."""
    backend = free_port()
    config = workshop.write("backend.conf", fill("health-backend.conf", common_values("backend", backend)))
    command = ["nginx", "-p", str(workshop.directory), "-e", "backend.error", "-c", str(config)]
    workshop.start("backend", command).wait_ready(backend)
    return backend


def start(
    bench: Bench, workshop: Workshop, name: str, backend: int, count: int, interval: int, checks: bool = True
) -> Started:
    """The proxy before ``count`` backends."""
    port, admin = free_port(), free_port()
    values = {"PORT": str(port), "FILES": str(file_limit()), "INTERVAL": f"{interval}s", "ADMIN": str(admin)}
    hosts = list(addresses(count))
    if name == "haproxy":
        off = "" if checks else " no-check"
        servers = "\n".join(
            f"    server s{number} {host}:{backend}{off}" for number, host in enumerate(hosts)
        )
        config = workshop.write("haproxy.cfg", fill("health-haproxy.cfg", {**values, "SERVERS": servers}))
        process = workshop.start(name, ["haproxy", "-db", "-f", str(config)], proxy=True)
        admin = 0
    else:
        python = bench.programs.txlb_python if name == "txlb" else bench.programs.txlb_pure_python
        assert python is not None
        if is_compiled(python, workshop.directory) is not (name == "txlb"):
            raise BenchmarkError(f"{python} is not what {name} stands for")
        how = "health_check_path: /health" if checks else "health_check: off"
        servers = "\n".join(
            f"  - {{id: b{number}, host: {host}, port: {backend}, {how}}}"
            for number, host in enumerate(hosts)
        )
        ids = ", ".join(f"b{number}" for number in range(count))
        filled = fill("health-txlb.yaml", {**values, "SERVERS": servers, "IDS": ids})
        config = workshop.write("txlb.yaml", filled)
        command = [python, "-c", START_TWISTD, "-n", "--pidfile=", "txlb", f"--config={config}"]
        process = workshop.start(name, command, proxy=True)
    process.wait_ready(port)
    return Started(process, port, admin)


def fetch(port: int, path: str, method: str = "GET") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise BenchmarkError(f"{method} {path}: {answer.status}: {text[:200]}")
        return text
    finally:
        connection.close()


def requests_of(backend: int) -> int:
    """How many nginx has had so far, this one included."""
    match = re.search(r"^ *\d+ +\d+ +(\d+) *$", fetch(backend, "/count"), re.MULTILINE)
    if match is None:
        raise BenchmarkError("nginx does not count its requests (stub_status)")
    return int(match[1])


def buckets(admin: int) -> dict[float, float]:
    """How many checks so far began at most so late, by bound in seconds; nothing without an admin port."""
    pattern = r'^txlb_health_check_lateness_seconds_bucket\{le="([^"]+)"\} (\S+)$'
    text = fetch(admin, "/metrics") if admin else ""
    return {float(bound): float(seen) for bound, seen in re.findall(pattern, text, re.M)}


def lateness(before: dict[float, float], after: dict[float, float]) -> float | None:
    """The lowest bound, in seconds, that 99 % of the checks between two readings kept."""
    seen = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    if not seen or not seen[max(seen)]:
        return None
    return next(bound for bound, count in seen.items() if count >= 0.99 * seen[max(seen)])


def _late(bounds: list[float | None]) -> str:
    known = [bound for bound in bounds if bound is not None]
    return f"≤ {median(known) * 1000:.0f} ms" if known else "-"
