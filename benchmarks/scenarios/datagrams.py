"""Datagrams: ``udp-echo`` back and forth in 64 flows, ``udp-dns`` queries to a real name server (NSD).

The load and the echo are a small C program in this package: nothing in Python is fast enough to be the
load. The peer is nginx; HAProxy does not forward datagrams.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ..bench import Bench, finish, measured
from ..compare import in_turn
from ..contenders import DIRECT, Case
from ..load import LoadResult, run_datagrams, run_dnsperf
from ..procs import BenchmarkError, Workshop, free_datagram_port, run
from ..report import Table
from ..starters import start_contender
from .closed_loop import cost_table
from .streams import those_that_can

TAKE_PART = ("txlb", "txlb-pure", "nginx")
FLOWS = 64
SIZE = 100
SOURCE = Path(__file__).parents[1] / "datagrams.c"
#: id 1, recursion desired, one question: www.example.com. A IN
QUERY = bytes.fromhex("000101000001000000000000") + b"\3www\7example\3com\0\0\1\0\1"
ZONE = """$ORIGIN example.com.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 300
@ NS ns
ns A 192.0.2.1
www A 192.0.2.2
"""
NSD = """server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  rrl-ratelimit: 0
  zonesdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  database: ""
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
remote-control:
  control-enable: no
zone:
  name: example.com
  zonefile: example.zone
"""


def udp_echo(bench: Bench) -> list[Table]:
    def start(workshop: Workshop, port: int) -> None:
        workshop.start("echo", [str(program_of(workshop)), "echo", str(port)])

    def load(workshop: Workshop, port: int, seconds: float) -> LoadResult:
        return run_datagrams(program_of(workshop), port, FLOWS, seconds, SIZE, workshop.load_cpus)

    title = f"udp-echo: {FLOWS} flows, {SIZE} bytes, one datagram each on its way"
    return [compared(bench, title, start, load)]


def udp_dns(bench: Bench) -> list[Table]:
    def start(workshop: Workshop, port: int) -> None:
        workshop.write("example.zone", ZONE)
        workshop.write("queries", "www.example.com A\n")
        config = workshop.write("nsd.conf", NSD.format(port=port, folder=workshop.directory))
        nsd = shutil.which("nsd", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if nsd is None:
            raise BenchmarkError("nsd is not installed (Debian package nsd)")
        workshop.start("nsd", [nsd, "-d", "-c", str(config)])

    def load(workshop: Workshop, port: int, seconds: float) -> LoadResult:
        return run_dnsperf(port, workshop.directory / "queries", seconds, workshop.load_cpus)

    return [compared(bench, "udp-dns: queries of 32 clients", start, load)]


def compared(
    bench: Bench,
    title: str,
    start: Callable[[Workshop, int], None],
    load: Callable[[Workshop, int, float], LoadResult],
) -> Table:
    """All before the one backend that ``start`` starts."""
    bench = those_that_can(bench, TAKE_PART)
    with bench.workshop() as workshop:
        bench.say(title)
        port = free_datagram_port()
        start(workshop, port)
        case = Case(protocol="udp", backend_port=port)
        there = {
            name: start_contender(workshop, name, case, bench.programs) for name in [DIRECT, *bench.proxies]
        }
        for contender in there.values():
            workshop.wait_answer(contender.label, contender.port, QUERY)
        for label in there:
            if bench.warm_up:
                load(workshop, there[label].port, bench.warm_up)
        series = in_turn(
            list(there),
            bench.pairs,
            lambda label: measured(there[label], lambda: load(workshop, there[label].port, bench.seconds)),
        )
        finish(bench, workshop, there.values())
    return cost_table(title, series)


def program_of(workshop: Workshop) -> Path:
    """The load and echo program, compiled once a workshop."""
    program = workshop.directory / "datagrams"
    if not program.exists():
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise BenchmarkError("no C compiler (Debian package gcc)")
        run([compiler, "-O2", "-o", str(program), str(SOURCE)], workshop.load_cpus, 60)
    return program
