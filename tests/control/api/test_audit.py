"""`txlb.control.api.audit`: who is written down, with what, and how often."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from twisted.logger import globalLogPublisher

from txlb.control.api.audit import BURST, LONGEST, PER_SECOND, Attempt, AuditLog
from txlb.control.api.auth import Caller

OPERATOR = Caller("operator", "write")


class Book:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.log = AuditLog(
            lambda: self.now, lambda: 1.5, lambda line: self.lines.append(json.loads(line)), self.counts
        )

    def record(self, result: str = "allowed", status: int = 200, **more: Any) -> None:
        known: dict[str, Any] = {
            "caller": OPERATOR,
            "peer": "127.0.0.1:5",
            "method": b"POST",
            "path": b"/backends",
        }
        self.log.record(Attempt(status=status, result=result, **{**known, **more}))


def test_a_line_has_everything_but_secrets():
    book = Book()
    book.record(path=b"/backends/a?token=secret&wait=drained", status=202)
    assert book.lines == [
        {
            "time": "1970-01-01T00:00:01.500+00:00",
            "who": "operator",
            "role": "write",
            "from": "127.0.0.1:5",
            "method": "POST",
            "path": "/backends/a",
            "status": 202,
            "result": "allowed",
        }
    ]


def test_strangers_have_no_name_and_their_bytes_stay_inside_the_line():
    book = Book()
    book.record("refused", 401, caller=None, path=b'/\r\n"\xff' + b"x" * 999, method=b"y" * 99, detail="no")
    (line,) = book.lines
    assert (line["who"], line["role"], line["detail"]) == (None, None, "no")
    assert line["path"].startswith('/\r\n"\xff')
    assert len(line["path"]) == LONGEST
    assert len(line["method"]) == 32


def test_scrapes_say_nothing_unless_refused():
    book = Book()
    for path in (b"/health", b"/metrics", b"/metrics?x"):
        book.record(path=path, method=b"GET")
    book.record("failed", 503, path=b"/health", method=b"GET")
    assert book.lines == []
    book.record("refused", 401, path=b"/health", method=b"GET", caller=None)
    book.record(path=b"/connections", method=b"GET")
    assert [line["path"] for line in book.lines] == ["/health", "/connections"]


def test_refusals_do_not_flood_it_and_are_counted():
    book = Book()
    for _ in range(int(BURST) + 50):
        book.record("refused", 401)
    assert len(book.lines) == BURST
    assert book.counts == {"refused": BURST + 50}
    book.record()
    assert book.lines[-1]["omitted"] == 50
    assert book.lines[-1]["result"] == "allowed"
    book.now = 1.0
    for _ in range(50):
        book.record("refused", 401)
    assert len(book.lines) == BURST + 1 + PER_SECOND


def test_it_is_a_namespace_of_the_log():
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        AuditLog(lambda: 0.0, lambda: 0.0).record(Attempt(None, "p", b"GET", b"/{odd}", 401, "refused"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [one for one in events if one["log_namespace"] == "txlb.audit"]
    assert json.loads(event["line"])["path"] == "/{odd}"
