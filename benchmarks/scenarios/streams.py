"""TCP relayed as it is; HTTP over it, since its load generator is at hand and counts.

``tcp-keepalive`` small messages both ways on connections that stay; ``tcp-close`` a new connection for each,
on both sides; ``tcp-bulk`` answers of 10 MiB.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from ..bench import Bench
from ..contenders import Case
from ..load import Request
from ..report import Table, number
from .closed_loop import compared

TAKE_PART = ("txlb", "txlb-pure", "haproxy", "nginx")
BULK = 10 << 20


def those_that_can(bench: Bench, names: tuple[str, ...]) -> Bench:
    """The bench with only these proxies of its own."""
    return replace(bench, proxies=[name for name in bench.proxies if name in names])


def tcp_keepalive(bench: Bench) -> list[Table]:
    bench = those_that_can(bench, TAKE_PART)
    title = "tcp-keepalive: requests on connections that stay"
    return [compared(bench, title, Case(protocol="tcp"), Request(), bench.connections)]


def tcp_close(bench: Bench) -> list[Table]:
    bench = those_that_can(bench, TAKE_PART)
    title = "tcp-close: a connection per request, on both sides"
    return [compared(bench, title, Case(protocol="tcp"), Request(close=True), bench.connections)]


def tcp_bulk(bench: Bench) -> list[Table]:
    return [bulk(those_that_can(bench, TAKE_PART), "tcp-bulk: answers of 10 MiB", "tcp")]


def bulk(bench: Bench, title: str, protocol: str) -> Table:
    """Answers of 10 MiB, and what a gigabyte costs."""
    case = Case(answer=BULK, bulk=True, protocol=protocol)
    table = compared(bench, title, case, Request(path="/bulk", answer=BULK), min(16, bench.connections))
    samples = table.raw["samples"]
    assert isinstance(samples, dict)
    costs = [
        f"{label} {number(median(one['cpu_us'] for one in series) / BULK * 1e6, 0)}"
        for label, series in samples.items()
        if label != "direct"
    ]
    table.notes.append(f"CPU ms per GB: {', '.join(costs)}")
    return table
