"""``python -m benchmarks [SCENARIO…]``: the command line."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from .bench import Bench
from .contenders import Programs, file_limit
from .measure import machine_description
from .procs import BenchmarkError
from .report import Table, as_json, as_markdown, as_text
from .scenarios import SCENARIOS
from .starters import PROXIES, missing

UNASKED = ("haproxy-splice",)  # http-upload adds it by itself
TOOLS = {"wrk": "wrk", "h2load": "nghttp2-client", "nginx": "nginx"}


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="txlb beside its peers")
    option = parser.add_argument
    option("scenario", nargs="*", metavar="SCENARIO", help=f"some of {', '.join(SCENARIOS)} (default: all)")
    option("--proxies", help=f"some of {','.join(PROXIES)} (default: those that are there)")
    option(
        "--txlb-python",
        default=sys.executable,
        help="interpreter with txlb installed compiled (default: this)",
    )
    option("--txlb-pure-python", help="interpreter with txlb installed uncompiled")
    option("--envoy", default=shutil.which("envoy"), help="the envoy program (default: from PATH)")
    option("--pairs", type=int, default=5, help="rounds (default 5)")
    option("--seconds", type=float, default=5.0, help="length of a run (default 5)")
    option("--repeats", type=int, default=20, help="of each failure, in failures (default 20)")
    option("--warm-up", type=float, default=2.0, help="seconds before the first round (default 2)")
    option("--connections", type=int, default=64, help="client connections of the closed loops (default 64)")
    option("--rate", type=int, help="requests/s of http-latency (default: half of HAProxy's maximum)")
    option("--no-pin", action="store_true", help="let the scheduler place all processes")
    option("--quick", action="store_true", help="one short round, to see that it works; no figures to quote")
    option("--markdown", action="store_true", help="print Markdown tables")
    option("--json", type=Path, metavar="FILE", help="write tables and every sample to a file")
    option("--perf", type=Path, metavar="DIR", help="also profile txlb in the closed loops; reports go there")
    option("--keep", action="store_true", help="keep the directory with configurations and logs")
    options = parser.parse_args(argv)
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))} (there are {', '.join(SCENARIOS)})")
    return options


def chosen_proxies(wanted: str | None, programs: Programs) -> list[str]:
    """Named ones must be there; without names, those that are."""
    if wanted is None:
        return [name for name in PROXIES if name not in UNASKED and missing(name, programs) is None]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        reason = (
            f"no such proxy (there are {', '.join(PROXIES)})"
            if name not in PROXIES
            else missing(name, programs)
        )
        if reason:
            raise BenchmarkError(f"{name}: {reason}")
    return names


def make_bench(options: argparse.Namespace) -> Bench:
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BenchmarkError(f"{tool} is not installed (Debian package {package})")
    # not resolved: the path of a virtual environment's interpreter is what names the environment
    interpreters = [
        str(Path(path).absolute()) if path else None
        for path in (options.txlb_python, options.txlb_pure_python)
    ]
    programs = Programs(interpreters[0] or sys.executable, interpreters[1], options.envoy)
    quick = options.quick
    file_limit()
    return Bench(
        proxies=chosen_proxies(options.proxies, programs),
        programs=programs,
        pairs=1 if quick else options.pairs,
        repeats=options.repeats,
        seconds=1.0 if quick else options.seconds,
        warm_up=0.0 if quick else options.warm_up,
        connections=options.connections,
        rate=options.rate or (2000 if quick else None),
        quick=quick,
        pin=not options.no_pin,
        keep=options.keep,
        perf=options.perf,
    )


def versions() -> dict[str, str]:
    """First line of what each tool says about itself."""
    found = {}
    for tool, flag in {"haproxy": "-v", "nginx": "-v", "wrk": "-v", "h2load": "--version"}.items():
        if shutil.which(tool):
            done = subprocess.run([tool, flag], capture_output=True, text=True, timeout=10, check=False)
            found[tool] = (done.stdout or done.stderr).splitlines()[0].strip()
    return found


def write_json(options: argparse.Namespace, tables: list[Table]) -> None:
    document = {
        "machine": machine_description(),
        "versions": versions(),
        "options": {key: str(value) for key, value in vars(options).items()},
        "tables": [as_json(table) for table in tables],
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n")


def main(argv: list[str]) -> int:
    options = arguments(argv)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs deaf to SIGINT
        signal.signal(ending, interrupt)
    tables: list[Table] = []
    try:
        bench = make_bench(options)
        for name in options.scenario or SCENARIOS:
            for table in SCENARIOS[name](bench):
                tables.append(table)
                print((as_markdown if options.markdown else as_text)(table) + "\n", flush=True)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything started was ended", file=sys.stderr)
        return 130
    finally:
        if options.json:
            write_json(options, tables)
    for problem in bench.problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if bench.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
