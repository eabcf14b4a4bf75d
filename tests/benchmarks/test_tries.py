from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.tries import LINES, Tried, read_tries

AT = 1_790_000_000.25


def txlb(backend: str | None, tries: int, status: int | None) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(AT)) + ".250Z"
    return json.dumps({"time": stamp, "backend": backend, "tries": tries, "status": status})


def haproxy(server: str, retries: str, status: int) -> str:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S", time.localtime(AT)) + ".250"
    return f"{stamp} {server} {retries} {status}"


def nginx(addresses: str, status: int) -> str:
    return f"{AT + 2:.3f} 2.000 {status} {addresses}"


@pytest.mark.parametrize(
    ("proxy", "line", "found"),
    [
        ("txlb", txlb("b8001", 1, 200), Tried(AT, 8001, False, 200)),
        ("txlb-pure", txlb("b8001", 3, 502), Tried(AT, 8001, True, 502)),
        ("txlb", txlb(None, 0, 503), Tried(AT, 0, False, 503)),
        ("txlb", txlb("b8001", 1, None), Tried(AT, 8001, False, 0)),
        ("haproxy", haproxy("b8001", "0", 200), Tried(AT, 8001, False, 200)),
        ("haproxy", haproxy("b8002", "+1", 200), Tried(AT, 8002, True, 200)),
        ("haproxy", haproxy("b8002", "3", 503), Tried(AT, 8002, True, 503)),
        ("haproxy", haproxy("<NOSRV>", "0", -1), Tried(AT, 0, False, -1)),
        ("haproxy", "Server group/b8001 is DOWN, reason: Layer7 timeout.", None),
        ("nginx", nginx("127.0.0.1:8001", 200), Tried(AT, 8001, False, 200)),
        ("nginx", nginx("127.0.0.1:8001, 127.0.0.1:8002", 200), Tried(AT, 8002, True, 200)),
        ("nginx", nginx("group", 502), Tried(AT, 0, False, 502)),
        ("nginx", nginx("-", 400), Tried(AT, 0, False, 400)),
    ],
)
def test_a_line_of_each_proxy(proxy: str, line: str, found: Tried | None, tmp_path: Path):
    assert LINES[proxy](line) == found
    log = tmp_path / "log"
    log.write_text(f"{line}\n\n{line}\n")
    assert list(read_tries(proxy, log)) == ([] if found is None else [found] * 2)
