"""``python -m benchmarks.algorithms``: what choosing costs, for the txlb that this interpreter finds.

Nanoseconds per pick and per whole lease (acquire, release) through a pool that 200 leases are out of, for
requests of 1,000 different clients; milliseconds per rebuild, and the longest of its slices. Each figure is
the best of several rounds. Half of the backends have weight 2. Quote nothing measured on a busy machine.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable
from time import perf_counter

import txlb.core.pool
from txlb.core import outcome as outcomes
from txlb.core.algorithms import Algorithm, builtin_factories, factory_for
from txlb.core.backend import Backend
from txlb.core.model import AlgorithmSpec
from txlb.core.pool import Lease, Pool

from .report import Table, as_markdown, as_text, number

OUT = 200
CLIENTS = 1000


class Client:
    """A request of one client, as far as algorithms look at it."""

    listener = "web"
    client_port = 40000
    host = "example.com"
    method = "GET"
    path = "/"
    now = 1000.0

    def __init__(self, number: int) -> None:
        self.client_ip = f"10.0.{number >> 8}.{number & 255}"

    def header(self, name: str) -> str | None:
        return None


def backends(count: int) -> list[Backend]:
    return [Backend(f"web-{number}", "10.0.0.1", "10.0.0.1", 8080, 1 + number % 2) for number in range(count)]


def rebuild(make: Callable[[], Algorithm], members: list[Backend]) -> tuple[float, float]:
    """Seconds, in all and of the longest slice."""
    algorithm = make()
    start = last = perf_counter()
    longest = 0.0
    for _ in algorithm.rebuild(list(members)) or ():
        now = perf_counter()
        longest = max(longest, now - last)
        last = now
    end = perf_counter()
    algorithm.retire()
    return end - start, max(longest, end - last)


def picks(make: Callable[[], Algorithm], members: list[Backend], clients: list[Client], times: int) -> float:
    """Seconds per pick."""
    algorithm = make()
    for _ in algorithm.rebuild(list(members)) or ():
        pass
    pick, nobody = algorithm.pick, list[Backend]()
    start = perf_counter()
    for _ in range(times):
        for client in clients:
            pick(client, nobody)
    seconds = perf_counter() - start
    algorithm.retire()
    return seconds / (times * len(clients))


def leases(make: Callable[[], Algorithm], members: list[Backend], clients: list[Client], times: int) -> float:
    """Seconds per lease, from acquire to release."""
    pool = Pool("benchmark", make, members)
    out: deque[Lease] = deque()
    acquire, put, get = pool.acquire, out.append, out.popleft
    start = perf_counter()
    for _ in range(times):
        for client in clients:
            lease = acquire(client, None, 1000.0)
            assert lease is not None
            put(lease)
            if len(out) > OUT:
                get().release(outcomes.OK, 1000.01)
    seconds = perf_counter() - start
    while out:
        get().release(outcomes.OK, 1000.01)
    pool.close()
    return seconds / (times * len(clients))


def table(counts: list[int], rounds: int, times: int) -> Table:
    source = txlb.core.pool.__file__ or ""
    result = Table(
        f"choosing, txlb {'in pure Python' if source.endswith('.py') else 'compiled'}",
        ["algorithm", "backends", "ns/pick", "ns/lease", "ms/rebuild", "longest slice, ms"],
        [],
    )
    clients = [Client(number) for number in range(CLIENTS)]
    for name in builtin_factories():
        make = factory_for(AlgorithmSpec(name))
        for count in counts:
            members = backends(count)
            whole, slices = zip(*(rebuild(make, members) for _ in range(rounds)), strict=True)
            pick = min(picks(make, members, clients, times) for _ in range(rounds))
            lease = min(leases(make, members, clients, times) for _ in range(rounds))
            figures = [number(pick * 1e9, 0), number(lease * 1e9, 0), number(min(whole) * 1e3, 2)]
            result.rows.append([name, f"{count:,}", *figures, number(min(slices) * 1e3, 2)])
    return result


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.algorithms", description="what choosing costs"
    )
    parser.add_argument("--backends", default="10,1000,10000", help="how many (default 10,1000,10000)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of each figure the best of so many (default 5)"
    )
    parser.add_argument("--times", type=int, default=50, help="thousands of picks a round (default 50)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args(argv)
    counts = [int(count) for count in options.backends.split(",")]
    found = table(counts, options.rounds, options.times)
    print(as_markdown(found) if options.markdown else as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
