"""``http-latency``: what a proxy adds to the answer time at a fixed rate (open loop), half of what HAProxy
can do at most.

The rate is found first (``--rate`` sets it); then direct and all proxies in turn. Added = through minus
direct, by round.
"""

from __future__ import annotations

from statistics import median

from ..bench import Bench, finish, measured, warm_up
from ..compare import Series, best_peer, column, in_turn, paired_difference, raw, spread
from ..contenders import DIRECT, PEERS, Case
from ..load import RPS_PER_CONNECTION, LoadResult, Request, run_h2load, run_wrk
from ..procs import BenchmarkError
from ..report import Table, number, share
from ..starters import missing, start_contender

COLUMNS = [
    "proxy",
    "p50 ms",
    "p99 ms",
    "added p50 ms",
    "added p99 ms",
    "spread of p99",
    "requests/s",
    "CPU µs",
]
REFERENCE = "haproxy"


def http_latency(bench: Bench) -> list[Table]:
    rate = bench.rate or half_of_maximum(bench)
    with bench.workshop() as workshop:
        title = f"http-latency: open loop, {rate:,} requests/s"
        bench.say(title)
        there = {
            name: start_contender(workshop, name, Case(), bench.programs) for name in [DIRECT, *bench.proxies]
        }
        skip = min(0.5, bench.seconds / 4)

        def closed(label: str, seconds: float) -> LoadResult:
            return run_wrk(there[label].port, Request(), seconds, bench.connections, workshop.load_cpus)

        def load(label: str) -> LoadResult:
            port, directory = there[label].port, workshop.directory
            return run_h2load(port, rate, bench.seconds, skip, directory, workshop.load_cpus)

        warm_up(bench, there, closed)
        series = in_turn(list(there), bench.pairs, lambda label: measured(there[label], lambda: load(label)))
        finish(bench, workshop, there.values())
    return [latency_table(title, series)]


def half_of_maximum(bench: Bench) -> int:
    """Half of the reference's rate in a closed loop, in whole connections of h2load."""
    reason = missing(REFERENCE, bench.programs)
    if reason:
        raise BenchmarkError(f"http-latency needs --rate here: {reason}")
    with bench.workshop() as workshop:
        contender = start_contender(workshop, REFERENCE, Case(), bench.programs)
        rates = []
        for _ in range(1 if bench.quick else 3):
            result = run_wrk(
                contender.port, Request(), min(bench.seconds, 3), bench.connections, workshop.load_cpus
            )
            rates.append(result.requests / result.seconds)
    return max(1, round(median(rates) / 2 / RPS_PER_CONNECTION)) * RPS_PER_CONNECTION


def latency_table(title: str, series: Series) -> Table:
    p99 = {label: column(samples, "p99_us") for label, samples in series.items()}
    rows = []
    for label, samples in series.items():
        p50 = column(samples, "p50_us")
        proxied = label != DIRECT
        rows.append(
            [
                label,
                number(median(p50) / 1000, 3),
                number(median(p99[label]) / 1000, 3),
                number(paired_difference(p50, column(series[DIRECT], "p50_us")) / 1000, 3)
                if proxied
                else "-",
                number(paired_difference(p99[label], p99[DIRECT]) / 1000, 3) if proxied else "-",
                share(spread(p99[label])),
                number(median(column(samples, "rate")), 0),
                number(median(column(samples, "cpu_us"))) if proxied else "-",
            ]
        )
    best = best_peer(p99, PEERS)
    notes = [f"best peer at p99: {best}"] if best else []
    return Table(title, COLUMNS, rows, notes, {"samples": raw(series)})
