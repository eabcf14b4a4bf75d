"""As fast as it goes: a fixed number of connections, each with one request at a time.

``http-keepalive`` small requests over kept-alive connections, answers of 64 B and of 10 KiB;
``http-close`` a new client connection for every request (the backend side stays kept-alive, so that the
direct path, where the backend itself accepts, is no baseline: the machine's cost is given as it is);
``http-upload`` bodies of 1 MiB.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median

from ..bench import Bench, finish, measured, warm_up
from ..compare import Series, best_peer, beyond, column, in_turn, paired_ratio, raw, spread, whole
from ..contenders import DIRECT, PEERS, Case
from ..load import LoadResult, Request, run_wrk
from ..perf import profile
from ..report import Table, mebibytes, number, ratio, share
from ..starters import start_contender

BEYOND = "machine µs beyond direct"
COLUMNS = [
    *["proxy", "requests/s", "CPU µs", "spread", BEYOND, "p50 ms", "p99 ms", "peak RSS"],
    *["CPU ÷ best peer", "machine ÷ best peer"],
]


def http_keepalive(bench: Bench) -> list[Table]:
    return [
        compared(
            bench, "http-keepalive, answers of 64 B", Case(answer=64), Request(answer=64), bench.connections
        ),
        compared(
            bench,
            "http-keepalive, answers of 10 KiB",
            Case(answer=10240),
            Request(answer=10240),
            bench.connections,
        ),
    ]


def http_close(bench: Bench) -> list[Table]:
    return [
        compared(
            bench,
            "http-close: a new client connection per request",
            Case(),
            Request(close=True),
            bench.connections,
            False,
        )
    ]


def http_upload(bench: Bench) -> list[Table]:
    """HAProxy takes part twice: copying as all others do, and moving pages within the kernel."""
    upload = Request(path="/upload", method="POST", body=1 << 20)
    proxies = [name for name in bench.proxies if name != "haproxy-splice"]
    if "haproxy" in proxies:
        proxies.insert(proxies.index("haproxy") + 1, "haproxy-splice")
    bench = replace(bench, proxies=proxies)
    return [
        compared(bench, "http-upload: POST of 1 MiB", Case(bulk=True), upload, min(16, bench.connections))
    ]


def compared(
    bench: Bench, title: str, case: Case, request: Request, connections: int, beyond_direct: bool = True
) -> Table:
    """Direct and all proxies in turn, and the table of what they cost."""
    with bench.workshop() as workshop:
        bench.say(title)
        there = {
            name: start_contender(workshop, name, case, bench.programs) for name in [DIRECT, *bench.proxies]
        }

        def load(label: str, seconds: float = bench.seconds) -> LoadResult:
            contender = there[label]
            spoken = replace(request, scheme=contender.scheme)
            return run_wrk(contender.port, spoken, seconds, connections, workshop.load_cpus)

        warm_up(bench, there, load)
        series = in_turn(list(there), bench.pairs, lambda label: measured(there[label], lambda: load(label)))
        for label, contender in there.items():
            if bench.perf is not None and label.startswith("txlb"):
                profile(bench.perf, contender, title, partial(load, label))
        finish(bench, workshop, there.values())
    return cost_table(title, series, beyond_direct)


def against_best(costs: dict[str, list[float]]) -> tuple[str | None, dict[str, float]]:
    """The best peer and the ratios to it; none where its cost is nothing or less, as the difference to
    the direct path can be on a disturbed machine.
    """
    best = best_peer(costs, PEERS)
    if best is None or min(costs[best]) <= 0:
        return best, {}
    return best, {label: paired_ratio(values, costs[best]) for label, values in costs.items()}


def cost_table(title: str, series: Series, beyond_direct: bool = True) -> Table:
    """One row a contender; ratios are paired by round against the best peer in that cost."""
    costs = beyond if beyond_direct else whole
    columns = [name if beyond_direct or name != BEYOND else "machine µs" for name in COLUMNS]
    cpu = {label: column(samples, "cpu_us") for label, samples in series.items()}
    machine = {label: costs(samples, series.get(DIRECT, [])) for label, samples in series.items()}
    cpu_best, cpu_ratios = against_best(cpu)
    machine_best, machine_ratios = against_best(machine)
    rows = [["-" for _ in columns] for _ in series]
    for row, (label, samples) in zip(rows, series.items(), strict=True):
        row[:2] = [label, number(median(column(samples, "rate")), 0)]
        row[5] = number(median(column(samples, "p50_us")) / 1000, 2)
        row[6] = number(median(column(samples, "p99_us")) / 1000, 2)
        if label != DIRECT:
            row[2:5] = [number(median(cpu[label])), share(spread(cpu[label])), number(median(machine[label]))]
            row[7] = mebibytes(int(median(column(samples, "peak_rss"))))
            row[8:] = [ratio(cpu_ratios.get(label)), ratio(machine_ratios.get(label))]
    notes = [f"best peer: {cpu_best} in CPU, {machine_best} for the whole machine"] if cpu_best else []
    stolen = sum(sample.stolen for samples in series.values() for sample in samples)
    if stolen > 0.5:
        notes.append(f"the hypervisor took {stolen:.1f} s of processor time during these runs")
    return Table(title, columns, rows, notes, {"samples": raw(series)})
