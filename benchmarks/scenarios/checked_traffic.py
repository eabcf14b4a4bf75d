"""``checked-traffic``: what a steady load notices of the checks of 10,000 backends, HTTP every 5 s.

The backends are those of ``health-checks``; the load is open loop, over all of them. Each round starts the
proxy twice, without checks and with them. ``direct`` is the same load on the backends themselves, beside the
checks of the first proxy: checks keep backends busy, too.
"""

from __future__ import annotations

import time

from ..bench import Bench, measured
from ..compare import Sample, Series
from ..contenders import DIRECT, Contender
from ..load import Request, run_h2load, run_wrk
from ..procs import Workshop
from ..report import Table
from .health_checks import ABLE, FEW, INTERVAL, MANY, SOON, start, start_backends
from .slow_clients import beside_table

COLUMNS = ["proxy", "checks", "p50 ms", "p99 ms", "added p99 ms", "spread of p99", "CPU µs"]
RATE = 2000  # requests/s
CHECKS = ("off", "on")


def checked_traffic(bench: Bench) -> list[Table]:
    count, interval = (FEW, SOON) if bench.quick else (MANY, INTERVAL)
    rate = bench.rate or RATE
    title = f"checked-traffic: {rate:,} requests/s over {count:,} backends, checked every {interval} s"
    bench.say(title)
    able = [name for name in bench.proxies if name in ABLE]
    series: Series = {f"{name} {checks}": [] for name in [DIRECT, *able] for checks in CHECKS}
    for _ in range(bench.pairs):
        for label, samples in series.items():
            with bench.workshop() as workshop:
                samples.append(one_run(bench, workshop, label, able[0], count, interval, rate))
    return [beside_table(title, COLUMNS, series, "off")]


def one_run(
    bench: Bench, workshop: Workshop, label: str, checker: str, count: int, interval: int, rate: int
) -> Sample:
    name, checks = label.split(" ")
    direct = name == DIRECT
    backend = start_backends(workshop)
    there = start(bench, workshop, checker if direct else name, backend, count, interval, checks == "on")
    port = backend if direct else there.port
    time.sleep(interval + 1.5)  # the first checks, which are closer together
    run_wrk(port, Request(answer=3), 1.0, bench.connections, workshop.load_cpus)
    return measured(
        Contender(label, name, port, there.process),
        lambda: run_h2load(port, rate, bench.seconds, 0.5, workshop.directory, workshop.load_cpus),
    )
