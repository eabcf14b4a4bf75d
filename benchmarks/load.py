"""Load generators and what they print: wrk for as-fast-as-it-goes, h2load for a fixed rate.

h2load's ``--rps`` is per connection and its timer fires every 10 ms; connections started all at once would
send in bursts of all of them. So each sends 100 a second, and they are started a few every millisecond over
the first ten: the requests of any millisecond are then about the same number. Latency is counted from the
moment a request is sent; a connection that still waits for an answer when its next request is due sends it
later (a stall beyond 10 ms is counted once per connection).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .procs import BenchmarkError, run

SCRIPT = Path(__file__).parent / "request.lua"
RPS_PER_CONNECTION = 100
START_WITHIN_MS = 10


@dataclass(frozen=True)
class Request:
    """The request that a scenario repeats, and what its answer weighs."""

    path: str = "/"
    method: str = "GET"
    body: int = 0
    answer: int = 64
    close: bool = False
    scheme: str = "http"
    vary: bool = False  # another path for each request, again and again the same ten thousands


@dataclass(frozen=True)
class LoadResult:
    requests: int
    seconds: float
    p50_us: float
    p99_us: float


def parse_wrk(output: str, request: Request) -> LoadResult:
    """The RESULT line of ``request.lua``; any error, or fewer bytes than the answers must have, makes the run
    invalid.
    """
    for line in output.splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line[len("RESULT ") :])
            break
    else:
        raise BenchmarkError(f"wrk printed no result:\n{output[-1500:]}")
    errors = {kind: count for kind, count in result["errors"].items() if count}
    if errors:
        raise BenchmarkError(f"invalid run, wrk met errors: {errors} in {result['requests']} requests")
    requests = int(result["requests"])
    if requests == 0:
        raise BenchmarkError("invalid run: not one request was answered")
    if result["bytes"] < requests * request.answer:
        raise BenchmarkError(
            f"invalid run: {result['bytes']} bytes for {requests} answers of {request.answer}"
        )
    return LoadResult(
        requests, result["microseconds"] / 1e6, float(result["p50_us"]), float(result["p99_us"])
    )


def run_wrk(
    port: int, request: Request, seconds: float, connections: int, cpus: frozenset[int]
) -> LoadResult:
    """Whole seconds only: wrk knows no others."""
    whole = max(1, round(seconds))
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{whole}s",
        "-s",
        str(SCRIPT),
        f"{request.scheme}://127.0.0.1:{port}{request.path}",
        "--",
    ]
    command += [request.method, str(request.body), "close" if request.close else "keep"]
    command += ["vary"] if request.vary else []
    return parse_wrk(run(command, cpus, whole + 20), request)


def percentile(ordered: Sequence[int], share: float) -> float:
    """The smallest value that ``share`` of the ordered values do not exceed (nearest rank)."""
    rank = -(-len(ordered) * share // 1)
    return float(ordered[max(0, int(rank) - 1)])


def parse_h2load_log(text: str, skip: float) -> LoadResult:
    """``--log-file``: start in µs, status, µs until the end of the answer. Requests of the first ``skip``
    seconds do not count.
    """
    rows = [
        (int(start), status, int(took))
        for start, status, took in (line.split("\t")[:3] for line in text.splitlines())
    ]
    if not rows:
        raise BenchmarkError("invalid run: h2load logged nothing")
    bad = sorted({status for _, status, _ in rows if status != "200"})
    if bad:
        raise BenchmarkError(f"invalid run, h2load met statuses {', '.join(bad)}")
    first = min(start for start, _, _ in rows) + skip * 1e6
    kept = [(start, took) for start, _, took in rows if start >= first]
    if not kept:
        raise BenchmarkError("invalid run: it ended within its warm-up")
    times = sorted(took for _, took in kept)
    seconds = (max(start for start, _ in kept) - first) / 1e6
    return LoadResult(len(kept), seconds, percentile(times, 0.50), percentile(times, 0.99))


def h2load_command(port: int, rate: int, seconds: float, log: Path) -> tuple[list[str], int]:
    """The call and the number of requests it makes."""
    connections = max(1, round(rate / RPS_PER_CONNECTION))
    requests = round(connections * RPS_PER_CONNECTION * seconds)
    command = ["h2load", "--h1", "-t1", f"-c{connections}", f"-n{requests}", f"--rps={RPS_PER_CONNECTION}"]
    command += [f"-r{max(1, -(-connections // START_WITHIN_MS))}", "--rate-period=1ms", f"--log-file={log}"]
    for field in browser_fields():
        command += ["-H", field]
    return [*command, f"http://127.0.0.1:{port}/"], requests


def run_h2load(
    port: int, rate: int, seconds: float, skip: float, directory: Path, cpus: frozenset[int]
) -> LoadResult:
    log, requests = drive_h2load(port, rate, skip + seconds, directory, cpus)
    return read_h2load(log, requests, rate, skip)


def drive_h2load(
    port: int, rate: int, seconds: float, directory: Path, cpus: frozenset[int]
) -> tuple[Path, int]:
    """Make the load; its log, which takes a while to read, and how many requests are to be in it."""
    log = directory / "h2load.log"
    log.unlink(missing_ok=True)
    command, requests = h2load_command(port, rate, seconds, log)
    run(command, cpus, seconds + 20)
    return log, requests


def read_h2load(log: Path, requests: int, rate: int, skip: float) -> LoadResult:
    text = log.read_text()
    log.unlink()
    if text.count("\n") != requests:
        raise BenchmarkError(f"invalid run: h2load made {text.count(chr(10))} of {requests} requests")
    result = parse_h2load_log(text, skip)
    if result.requests / result.seconds < 0.95 * rate:
        raise BenchmarkError(
            f"invalid run: {result.requests / result.seconds:.0f} requests a second instead of {rate}"
        )
    return result


def browser_fields() -> list[str]:
    """The fields of ``request.lua`` but Host and Connection, which h2load writes itself."""
    fields = []
    for line in SCRIPT.read_text().splitlines():
        name, separator, value = line.strip().partition('"] = "')
        if separator and name.startswith('["') and name not in ('["Host', '["Connection'):
            fields.append(f"{name[2:].lower()}: {value.rstrip(',').rstrip(chr(34))}")
    return fields


def parse_s_time(output: str) -> LoadResult:
    """What ``openssl s_time`` says at the end: connections and whole seconds; it knows no latencies."""
    found = re.findall(r"(\d+) connections in (\d+) real seconds", output)
    if not found or found[-1][0] == "0":
        raise BenchmarkError(f"openssl s_time made no connection:\n{output[-1500:]}")
    return LoadResult(int(found[-1][0]), float(found[-1][1]), 0.0, 0.0)


def run_s_time(port: int, resumed: bool, seconds: float, cpus: frozenset[int]) -> LoadResult:
    whole = max(1, round(seconds))
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-reuse" if resumed else "-new"]
    command += ["-time", str(whole), "-tls1_2", "-www", "/"]
    return parse_s_time(run(command, cpus, whole + 20))


def parse_datagrams(output: str) -> LoadResult:
    """The RESULT line of ``datagrams.c``: more than one datagram in a hundred lost makes the run invalid."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line[len("RESULT ") :])
            break
    else:
        raise BenchmarkError(f"no result:\n{output[-1500:]}")
    requests = int(result["requests"])
    if requests == 0 or result["wrong"] or result["lost"] * 100 > requests:
        raise BenchmarkError(f"invalid run: {result}")
    return LoadResult(requests, result["microseconds"] / 1e6, result["p50_us"], result["p99_us"])


def run_datagrams(
    program: Path, port: int, flows: int, seconds: float, size: int, cpus: frozenset[int]
) -> LoadResult:
    words = [str(program), "load", str(port), str(flows), str(seconds), str(size)]
    return parse_datagrams(run(words, cpus, seconds + 20))


def parse_dnsperf(output: str) -> LoadResult:
    """Queries completed, run time and average latency (dnsperf knows no percentiles); more than one query
    in a hundred lost makes the run invalid.
    """
    facts = {
        name: float(value)
        for name, value in re.findall(
            r"(Queries completed|Queries lost|Run time \(s\)|Average Latency \(s\)): +([\d.]+)", output
        )
    }
    completed = int(facts.get("Queries completed", 0))
    if not completed or facts.get("Queries lost", 0.0) * 100 > completed:
        raise BenchmarkError(f"invalid run of dnsperf:\n{output[-1500:]}")
    average = facts["Average Latency (s)"] * 1e6
    return LoadResult(completed, facts["Run time (s)"], average, average)


def run_dnsperf(port: int, queries: Path, seconds: float, cpus: frozenset[int]) -> LoadResult:
    """32 clients with a query each."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-c", "32", "-q", "32"]
    return parse_dnsperf(run([*command, "-l", str(max(1, round(seconds)))], cpus, seconds + 30))
