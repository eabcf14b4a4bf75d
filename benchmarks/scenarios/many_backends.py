"""``http-many-backends``: the same small requests over 10 and over 10,000 backends; the cost of choosing must
not grow.

First all proxies with round robin (or what they have that comes near), then txlb and HAProxy with each
algorithm. Part of the growth is the kernel's and not the proxy's doing: 10,000 connections do not fit into
the processor's caches as 10 do. Every proxy pays that, so its growth is to be read beside that of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from ..bench import Bench, finish, measured, warm_up
from ..compare import Sample, Series, column, in_turn, paired_ratio, raw, spread
from ..contenders import Case
from ..load import LoadResult, Request, run_wrk
from ..report import Table, mebibytes, number, ratio, share
from ..starters import HAPROXY_ALGORITHMS, start_contender

FEW, MANY = 10, 10_000
MANY_IF_QUICK = 200
MET = 5.0  # seconds in which each of the backends is met, by chance too
BY_KEY = ("consistent_hash",)  # their load is of many keys
ABLE = ("txlb", "txlb-pure", "haproxy")


def columns(first: str, many: int) -> list[str]:
    load = [f"CPU µs, {FEW}", f"CPU µs, {many:,}", "spread", f"requests/s, {many:,}", "p99 ms", "peak RSS"]
    return [first, *load, "growth"]


def http_many_backends(bench: Bench) -> list[Table]:
    many = MANY_IF_QUICK if bench.quick else MANY
    title = f"http-many-backends: {many:,} backends beside {FEW}"
    note = f"growth: CPU per request with {many:,} backends ÷ with {FEW}, median of the rounds"
    able = [name for name in bench.proxies if name in ABLE]
    found: Series = {}
    rows = []
    series = one_algorithm(bench, title, bench.proxies, "round_robin", many)
    for name in bench.proxies:
        rows.append([name, *costs(series[f"{name}@{FEW}"], series[f"{name}@{many}"])])
    tables = [Table(title, columns("proxy", many), rows, [note], {"samples": raw(series)})]
    rows = []
    title = f"{title}, by algorithm"
    for algorithm, theirs in HAPROXY_ALGORITHMS.items():
        series = one_algorithm(bench, f"{title}: {algorithm}", able, algorithm, many)
        for name in able:
            what = theirs.replace("\n   ", ",") if name == "haproxy" else algorithm
            rows.append([f"{name}: {what}", *costs(series[f"{name}@{FEW}"], series[f"{name}@{many}"])])
        found |= {f"{label} {algorithm}": samples for label, samples in series.items()}
    notes = [
        note,
        "consistent_hash: by path, 10,000 of them; ip_hash: one client, so one backend of all",
    ]
    return [*tables, Table(title, columns("algorithm", many), rows, notes, {"samples": raw(found)})]


def one_algorithm(bench: Bench, title: str, proxies: Sequence[str], algorithm: str, many: int) -> Series:
    """Each proxy before few and before many backends: "name@count"."""
    with bench.workshop() as workshop:
        bench.say(title)
        there = {
            f"{name}@{count}": start_contender(
                workshop, name, Case(backends=count, algorithm=algorithm), bench.programs, f"@{count}"
            )
            for name in proxies
            for count in (FEW, many)
        }
        request = Request(vary=algorithm in BY_KEY)

        def load(label: str, seconds: float = bench.seconds) -> LoadResult:
            return run_wrk(there[label].port, request, seconds, bench.connections, workshop.load_cpus)

        warm_up(bench, there, load, at_least=MET)
        series = in_turn(list(there), bench.pairs, lambda label: measured(there[label], lambda: load(label)))
        finish(bench, workshop, there.values())
    return series


def costs(few: Sequence[Sample], many: Sequence[Sample]) -> list[str]:
    """One row, after its name."""
    return [
        number(median(column(few, "cpu_us"))),
        number(median(column(many, "cpu_us"))),
        share(spread(column(many, "cpu_us"))),
        number(median(column(many, "rate")), 0),
        number(median(column(many, "p99_us")) / 1000, 2),
        mebibytes(int(median(column(many, "peak_rss")))),
        ratio(paired_ratio(column(many, "cpu_us"), column(few, "cpu_us"))),
    ]
