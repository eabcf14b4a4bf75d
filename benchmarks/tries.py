"""What the proxies' access logs say of the tries that a request took: one look at all of them.

Rules:

* A request's time is that of its arrival at the proxy, as the proxy itself has it, in seconds since 1970;
  good to a millisecond.
* Each proxy writes every request once it has ended; `LINES` has a reader per proxy, for the format in its
  file under ``peers/``. HAProxy writes what it thinks of its servers between them.
* What a line does not say is who the earlier tries went to (only nginx tells). Where one backend at a time is
  ill, it was that one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

HAPROXY = re.compile(r"(\S+)(\.\d+) (\S+) \+?(\d+) (-?\d+)")


@dataclass(frozen=True, slots=True)
class Tried:
    """One request as a proxy logged it: when it came, who had it last, and what that took."""

    at: float
    port: int  # of the last backend; 0 = none
    again: bool  # it was tried more than once
    status: int


def txlb_line(line: str) -> Tried:
    found = json.loads(line)
    at = datetime.fromisoformat(found["time"]).timestamp()
    return Tried(at, int((found["backend"] or "b0")[1:]), found["tries"] > 1, found["status"] or 0)


def haproxy_line(line: str) -> Tried | None:
    """``day/month/year:hour:minute:second.ms server retries status``, the time being local."""
    found = HAPROXY.fullmatch(line.strip())
    if found is None:
        return None
    at = time.mktime(time.strptime(found[1], "%d/%b/%Y:%H:%M:%S")) + float(found[2])
    port = int(found[3][1:]) if found[3][1:].isdecimal() else 0
    return Tried(at, port, found[4] != "0", int(found[5]))


def nginx_line(line: str) -> Tried:
    """``end duration status address[, address…]``."""
    end, duration, status, addresses = line.strip().split(maxsplit=3)
    tries = addresses.split(", ")
    port = tries[-1].rpartition(":")[2]
    return Tried(
        float(end) - float(duration), int(port) if port.isdecimal() else 0, len(tries) > 1, int(status)
    )


LINES: dict[str, Callable[[str], Tried | None]] = {
    "txlb": txlb_line,
    "txlb-pure": txlb_line,
    "haproxy": haproxy_line,
    "nginx": nginx_line,
}


def read_tries(proxy: str, log: Path) -> Iterator[Tried]:
    """Everything that ``proxy`` wrote to ``log``."""
    read = LINES[proxy]
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            tried = read(line) if line.strip() else None
            if tried is not None:
                yield tried
