"""``slow-clients``: what good clients notice of 500 slow ones that hold on to their connections.

The good load is open loop at a steady rate, first alone, then beside slow heads, slow bodies and slow readers
(``benchmarks/slow.py``). The proxies have the same deadlines, and a run ends before they come up: all slow
connections must be there until its end.
"""

from __future__ import annotations

import contextlib
import time
from statistics import median

from ..bench import Bench, finish, measured, warm_up
from ..compare import Sample, Series, column, in_turn, paired_difference, raw, spread
from ..contenders import DIRECT, Case
from ..load import LoadResult, Request, run_h2load, run_wrk
from ..procs import BenchmarkError
from ..report import Table, number, share
from ..slow import MODES, SlowClients
from ..starters import start_contender

COLUMNS = ["proxy", "slow ones", "p50 ms", "p99 ms", "added p99 ms", "spread of p99", "CPU µs"]
SLOW, SLOW_QUICKLY = 500, 50
RATE = 2000  # requests/s
ANSWER = 1 << 20  # of the slow readers: more than the buffers on the way; nginx keeps the rest in files
SETTLE = 1.0  # seconds for what the slow ones begin with
LONGEST = 5.0  # seconds of a run: well before 10 s, the deadline of a head
ALONE = "none"


def slow_clients(bench: Bench) -> list[Table]:
    slow = SLOW_QUICKLY if bench.quick else SLOW
    rate = bench.rate or RATE
    seconds = min(bench.seconds, LONGEST)
    title = f"slow-clients: open loop, {rate:,} requests/s, beside {slow} slow connections"
    with bench.workshop() as workshop:
        bench.say(title)
        case = Case(answer=ANSWER)
        there = {name: start_contender(workshop, name, case, bench.programs) for name in bench.proxies}
        skip = min(0.5, seconds / 4)

        def closed(label: str, length: float) -> LoadResult:
            request = Request(answer=4)
            return run_wrk(there[label].port, request, length, bench.connections, workshop.load_cpus)

        def load(port: int) -> LoadResult:
            return run_h2load(port, rate, seconds, skip, workshop.directory, workshop.load_cpus)

        def run(label: str) -> Sample:
            name, mode = label.split(" ")
            contender = there[name]
            with contextlib.ExitStack() as stack:
                clients = None
                if mode != ALONE:
                    clients = stack.enter_context(SlowClients(contender.port, slow, mode))
                    time.sleep(SETTLE)
                sample = measured(contender, lambda: load(contender.port))
                if clients is not None and (held := clients.held()) < slow:
                    raise BenchmarkError(f"invalid run: {name} ended {slow - held} of {slow} ({mode})")
            return sample

        warm_up(bench, there, closed)
        labels = [f"{name} {mode}" for name in there for mode in (ALONE, *MODES)]
        series = in_turn(labels, bench.pairs, run)
        finish(bench, workshop, there.values())
    return [beside_table(title, COLUMNS, series, ALONE)]


def beside_table(title: str, columns: list[str], series: Series, alone: str) -> Table:
    """Of series "proxy what": added = beside what minus beside ``alone``, by round."""
    rows = []
    for label, samples in series.items():
        name, mode = label.split(" ")
        p99 = column(samples, "p99_us")
        added = paired_difference(p99, column(series[f"{name} {alone}"], "p99_us"))
        rows.append(
            [
                name,
                mode,
                number(median(column(samples, "p50_us")) / 1000, 3),
                number(median(p99) / 1000, 3),
                "-" if mode == alone else number(added / 1000, 3),
                share(spread(p99)),
                "-" if name == DIRECT else number(median(column(samples, "cpu_us"))),
            ]
        )
    return Table(title, columns, rows, raw={"samples": raw(series)})
