"""What the tests of the closing table in docs/tcp.md have in common."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from support.streams import Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tcp.md"


def table(name: str) -> list[list[str]]:
    """The cells of the table between the marks of ``name``, without its heading."""
    page = PAGE.read_text()
    part = page[page.index(f"<!-- {name}: begin") : page.index(f"<!-- {name}: end")]
    lines = re.findall(r"^\| (.*) \|$", part, re.MULTILINE)[1:]
    return [[cell.strip(" `") for cell in line.split("|")] for line in lines]


def logged(here: Stage) -> list[dict[str, Any]]:
    """The lines of the log so far."""
    here.log.flush(time.monotonic())
    return [json.loads(line) for line in here.lines.lines]


def counted(here: Stage) -> set[str]:
    """What the listener and its backend have counted as gone wrong, in the words of the table."""
    listener = here.listener
    backend = here.backends[0]
    kinds = ("client_abort", "send_timeout", "client_timeout", "internal")
    found = {f"error {kind}" for kind in kinds if getattr(listener, f"errors_{kind}")}
    found |= {f"error {status}" for status in listener.errors}
    found |= {"backend reset"} if backend.resets else set()
    found |= {"backend timeout"} if backend.timeouts else set()
    return found
