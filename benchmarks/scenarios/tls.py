"""TLS ended by the proxy; backends are spoken to in the clear.

``https-keepalive`` as http-keepalive, in TLS; ``https-handshake`` connections of which each asks once, with
full handshakes and with resumed ones (TLS 1.2, ECDSA P-256: openssl s_time resumes no other); ``https-bulk``
answers of 10 MiB.
"""

from __future__ import annotations

from ..bench import Bench, finish, measured
from ..compare import in_turn
from ..contenders import Case
from ..load import LoadResult, Request, run_s_time
from ..report import Table
from ..starters import start_contender
from .closed_loop import compared, cost_table
from .streams import TAKE_PART, bulk, those_that_can


def https_keepalive(bench: Bench) -> list[Table]:
    bench = those_that_can(bench, TAKE_PART)
    title = "https-keepalive, answers of 64 B"
    return [compared(bench, title, Case(protocol="https"), Request(), bench.connections)]


def https_bulk(bench: Bench) -> list[Table]:
    return [bulk(those_that_can(bench, TAKE_PART), "https-bulk: answers of 10 MiB", "https")]


def https_handshake(bench: Bench) -> list[Table]:
    return [
        handshakes(bench, "https-handshake: full, one request each", False),
        handshakes(bench, "https-handshake: resumed, one request each", True),
    ]


def handshakes(bench: Bench, title: str, resumed: bool) -> Table:
    bench = those_that_can(bench, TAKE_PART)
    with bench.workshop() as workshop:
        bench.say(title)
        case = Case(protocol="https")
        there = {name: start_contender(workshop, name, case, bench.programs) for name in bench.proxies}

        def load(label: str) -> LoadResult:
            return run_s_time(there[label].port, resumed, bench.seconds, workshop.load_cpus)

        series = in_turn(list(there), bench.pairs, lambda label: measured(there[label], lambda: load(label)))
        finish(bench, workshop, there.values())
    return cost_table(title, series, beyond_direct=False)
