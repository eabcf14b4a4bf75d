"""``idle-memory``: resident memory of a proxy for each idle client connection.

Every connection has made one request and waits, kept alive. The figure is the slope between the two sizes, so
what a proxy takes at its start does not count; nor does what it reserves then for connections yet to come
(HAProxy, nginx), nor the kernel's own memory for sockets. Each round starts the proxy anew. At the end every
connection must still be open.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from statistics import median

from .. import measure
from ..bench import Bench
from ..compare import best_peer, paired_ratio, spread
from ..contenders import PEERS, Case, Contender, file_limit
from ..load import browser_fields
from ..procs import BenchmarkError
from ..report import Table, mebibytes, number, ratio, share
from ..starters import start_contender

COLUMNS = ["proxy", "bytes per connection", "spread", "RSS, small", "RSS, large", "÷ best peer", "÷ haproxy"]
SETTLE, SETTLE_QUICKLY = 1.5, 0.3
RESET = struct.pack("ii", 1, 0)


def idle_memory(bench: Bench) -> list[Table]:
    small, large = (200, 1000) if bench.quick else (1000, 9000)
    if file_limit() < 2 * large + 500:
        raise BenchmarkError(
            f"idle-memory needs {2 * large + 500} open files; the limit is {file_limit()} (ulimit -n)"
        )
    title = f"idle-memory: from {small:,} to {large:,} idle connections"
    bench.say(title)
    settle = SETTLE_QUICKLY if bench.quick else SETTLE
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in bench.proxies}
    for _ in range(bench.pairs):
        for name in bench.proxies:
            with bench.workshop() as workshop:
                found[name].append(
                    resident(start_contender(workshop, name, Case(), bench.programs), small, large, settle)
                )
    slopes = {name: [(high - low) / (large - small) for low, high in pairs] for name, pairs in found.items()}
    best = best_peer(slopes, PEERS)
    rows = [
        [
            name,
            number(median(slopes[name]), 0),
            share(spread(slopes[name])),
            mebibytes(int(median(low for low, _ in found[name]))),
            mebibytes(int(median(high for _, high in found[name]))),
            ratio(paired_ratio(slopes[name], slopes[best])) if best else "-",
            ratio(paired_ratio(slopes[name], slopes["haproxy"])) if "haproxy" in slopes else "-",
        ]
        for name in bench.proxies
    ]
    return [Table(title, COLUMNS, rows, [f"best peer: {best}"] if best else [], {"resident": found})]


def resident(contender: Contender, small: int, large: int, settle: float) -> tuple[int, int]:
    """Resident bytes of all its processes with that many idle connections."""
    assert contender.process is not None
    fields = ["Host: www.example.com", "Connection: keep-alive", *browser_fields()]
    request = "\r\n".join(["GET / HTTP/1.1", *fields, "\r\n"]).encode()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(used_connection(contender.port, request)) for _ in range(small)]
        time.sleep(settle)
        low = measure.memory_bytes(measure.process_tree(contender.process.pid))
        held += [stack.enter_context(used_connection(contender.port, request)) for _ in range(large - small)]
        time.sleep(settle)
        high = measure.memory_bytes(measure.process_tree(contender.process.pid))
        lost = sum(not is_open(connection) for connection in held)
    if lost:
        raise BenchmarkError(f"invalid run: {contender.label} closed {lost} of {large} idle connections")
    return low, high


@contextlib.contextmanager
def used_connection(port: int, request: bytes) -> Iterator[socket.socket]:
    """A connection that made one request; closed by reset, so that thousands leave no TIME_WAIT behind."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"x" * 64):
            piece = connection.recv(4096)
            if not piece:
                raise BenchmarkError(f"invalid run: connection closed within the answer {answer!r}")
            answer += piece
        if not answer.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"invalid run: {answer[:80]!r}")
        yield connection


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
