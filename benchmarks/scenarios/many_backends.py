"""``http-many-backends``: the same small requests over 10 and over 10,000 backends; the cost of choosing must
not grow.

Part of the growth is the kernel's and not the proxy's doing: 10,000 connections do not fit into the
processor's caches as 10 do. Every proxy pays that, so its own growth is to be read beside that of the others.
"""

from __future__ import annotations

from statistics import median

from ..bench import Bench, finish, measured, warm_up
from ..compare import column, in_turn, paired_ratio, raw, spread
from ..contenders import Case
from ..load import LoadResult, Request, run_wrk
from ..report import Table, mebibytes, number, ratio, share
from ..starters import start_contender

FEW, MANY = 10, 10_000
COLUMNS = [
    "proxy",
    f"CPU µs, {FEW}",
    f"CPU µs, {MANY:,}",
    "spread",
    f"requests/s, {MANY:,}",
    "p99 ms",
    "peak RSS",
    "growth",
]


def http_many_backends(bench: Bench) -> list[Table]:
    title = f"http-many-backends: {MANY:,} backends beside {FEW}"
    with bench.workshop() as workshop:
        bench.say(title)
        there = {
            f"{name}@{count}": start_contender(
                workshop, name, Case(backends=count), bench.programs, f"@{count}"
            )
            for name in bench.proxies
            for count in (FEW, MANY)
        }

        def load(label: str, seconds: float = bench.seconds) -> LoadResult:
            return run_wrk(there[label].port, Request(), seconds, bench.connections, workshop.load_cpus)

        warm_up(bench, there, load, at_least=1.0)  # long enough that each of the backends was met
        series = in_turn(list(there), bench.pairs, lambda label: measured(there[label], lambda: load(label)))
        finish(bench, workshop, there.values())
    rows = []
    for name in bench.proxies:
        few, many = series[f"{name}@{FEW}"], series[f"{name}@{MANY}"]
        rows.append(
            [
                name,
                number(median(column(few, "cpu_us"))),
                number(median(column(many, "cpu_us"))),
                share(spread(column(many, "cpu_us"))),
                number(median(column(many, "rate")), 0),
                number(median(column(many, "p99_us")) / 1000, 2),
                mebibytes(int(median(column(many, "peak_rss")))),
                ratio(paired_ratio(column(many, "cpu_us"), column(few, "cpu_us"))),
            ]
        )
    notes = [f"growth: CPU per request with {MANY:,} backends ÷ with {FEW}, median of the rounds"]
    return [Table(title, COLUMNS, rows, notes, {"samples": raw(series)})]
