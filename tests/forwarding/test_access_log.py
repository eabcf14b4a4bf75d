from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core import termination
from txlb.core.model import AccessLogSpec
from txlb.forwarding import access_log
from txlb.forwarding.access_log import AccessLog, common_text, json_text, milliseconds, open_access_log

#: 2026-11-23T04:05:06.789Z, when the monotonic clock says 1000
WALL = 1795406706.789
NOW = 1000.0


class Sink:
    """A writer that keeps what it gets, or refuses it."""

    def __init__(self) -> None:
        self.lost = 0
        self.batches: list[list[str]] = []
        self.full = False
        self.calls: list[object] = []

    def put(self, lines: list[str]) -> bool:
        if not self.full:
            self.batches.append(lines)
        return not self.full

    def reopen(self) -> None:
        self.calls.append(("reopen", len(self.batches)))

    def close(self, timeout: float) -> bool:
        self.calls.append(("close", len(self.batches), timeout))
        return True

    def take_problem(self) -> str:
        return "full"

    @property
    def lines(self) -> list[str]:
        return [line for batch in self.batches for line in batch]


FIELDS: dict[str, Any] = {
    "started": NOW,
    "listener": "web",
    "rule": "api",
    "client_ip": "192.0.2.7",
    "client_port": 43210,
    "method": b"GET",
    "target": b"/a?b=c",
    "minor": 1,
    "host": b"api.example.com",
    "status": 200,
    "bytes_in": 412,
    "bytes_out": 10567,
    "backend": "web-17",
    "tries": 1,
    "reused": True,
    "connect_us": -1,
    "first_byte_us": 1234,
    "total_us": 61_001_007,
    "termination": termination.NORMAL,
}


def log_to(sink: Sink, format: str = "json") -> AccessLog:
    log = AccessLog(sink, format, "worker-1", lambda: WALL)
    log.flush(NOW)
    return log


def line(format: str = "json", **changes: Any) -> str:
    sink = Sink()
    log = log_to(sink, format)
    log.record(*(FIELDS | changes).values())
    log.flush(NOW)
    [only] = sink.lines
    assert only.endswith("\n")
    assert only.isascii()
    assert only.count("\n") == 1
    return only


def entry(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line(**changes))
    return found


# JSON


def test_a_line_tells_everything() -> None:
    assert entry() == {
        "time": "2026-11-23T04:05:06.789Z",
        "worker": "worker-1",
        "listener": "web",
        "rule": "api",
        "client_ip": "192.0.2.7",
        "client_port": 43210,
        "method": "GET",
        "target": "/a?b=c",
        "version": "HTTP/1.1",
        "host": "api.example.com",
        "status": 200,
        "bytes_in": 412,
        "bytes_out": 10567,
        "backend": "web-17",
        "tries": 1,
        "reused": True,
        "connect_ms": None,
        "first_byte_ms": 1.234,
        "total_ms": 61001.007,
        "termination": "--",
        "reason": None,
    }


def test_what_was_not_reached_is_null() -> None:
    it = entry(rule="", backend="", status=0, minor=-1, first_byte_us=-1, tries=0, reused=False, method=b"")
    absent = {name for name, value in it.items() if value is None}
    assert absent == {"rule", "backend", "status", "version", "connect_ms", "first_byte_ms", "reason"}
    assert (it["tries"], it["reused"], it["method"]) == (0, False, "")


def test_the_version_is_told() -> None:
    assert entry(minor=0)["version"] == "HTTP/1.0"


@pytest.mark.parametrize("cause", range(len(termination.TERMINATIONS)))
def test_the_termination_is_a_code_and_a_word(cause: int) -> None:
    it = entry(termination=cause)
    expected = termination.TERMINATIONS[cause]
    assert (it["termination"], it["reason"]) == (expected.code, expected.reason or None)


@given(st.binary(max_size=300))
def test_what_a_client_sends_comes_back_from_json_and_stays_on_its_line(raw: bytes) -> None:
    it = entry(method=raw, target=raw, host=raw)
    assert {it["method"], it["target"], it["host"]} == {raw.decode("latin-1")}


def test_nobody_can_forge_a_field() -> None:
    it = entry(target=b'/","status":200,"x":"')
    assert it["target"] == '/","status":200,"x":"'
    assert "x" not in it


@given(st.integers(0, 10**12))
def test_milliseconds_have_three_decimals(us: int) -> None:
    assert milliseconds(us) == f"{us // 1000}.{us % 1000:03}"


# Common


def test_the_common_format_is_apaches() -> None:
    assert line("common") == '192.0.2.7 - - [23/Nov/2026:04:05:06 +0000] "GET /a?b=c HTTP/1.1" 200 10567\n'


def test_the_common_format_has_dashes_for_what_is_absent() -> None:
    absent = line("common", method=b"", target=b"", minor=-1, status=0, bytes_out=0)
    assert absent == '192.0.2.7 - - [23/Nov/2026:04:05:06 +0000] "-" - -\n'
    assert '"GET /a?b=c" 400' in line("common", minor=-1, status=400)


CLF = re.compile(r'(\S+) - - \[([^]]+)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+)\n')


@given(st.binary(min_size=1, max_size=100))
def test_the_common_format_escapes_like_apache(raw: bytes) -> None:
    found = CLF.fullmatch(line("common", target=raw))
    assert found is not None
    text = found[3].removeprefix("GET ").removesuffix(" HTTP/1.1")
    back = re.sub(
        r"\\(x[0-9a-f]{2}|.)",
        lambda it: chr(int(it[1][1:], 16)) if len(it[1]) == 3 else it[1],
        text,
    )
    assert back.encode("latin-1") == raw


def test_text_without_need_is_left_alone() -> None:
    assert common_text(b"/plain?x=[1]") == "/plain?x=[1]"
    assert json_text(b"/plain?x=[1]") == '"/plain?x=[1]"'


# Time


@given(st.sampled_from(["json", "common"]), st.lists(st.floats(0, 4e9), min_size=1, max_size=10))
def test_the_time_is_when_the_request_began(format: str, moments: list[float]) -> None:
    sink = Sink()
    log = AccessLog(sink, format, "w", lambda: 0.0)
    log.flush(0.0)
    for moment in moments:
        log.record(*(FIELDS | {"started": moment}).values())
    log.flush(0.0)
    form = '{"time":"%Y-%m-%dT%H:%M:%S' if format == "json" else "192.0.2.7 - - [%d/%b/%Y:%H:%M:%S"
    for text, moment in zip(sink.lines, moments, strict=True):
        assert text.startswith(time.strftime(form, time.gmtime(moment)))
        if format == "json":
            assert text[28:33] == f".{int(moment % 1 * 1000):03}Z"


def test_a_step_of_the_wall_clock_is_followed_at_the_next_flush() -> None:
    walls = [1000.0, 5000.0]
    sink = Sink()
    log = AccessLog(sink, "json", "w", lambda: walls.pop(0))
    log.flush(0.0)
    log.record(*(FIELDS | {"started": 0.0}).values())
    log.flush(0.0)
    log.record(*(FIELDS | {"started": 0.0}).values())
    log._hand_over()
    assert [json.loads(text)["time"][11:19] for text in sink.lines] == ["00:16:40", "01:23:20"]


# Batches


def test_lines_wait_for_the_flush() -> None:
    sink = Sink()
    log = log_to(sink)
    log.record(*FIELDS.values())
    log.record(*FIELDS.values())
    assert sink.batches == []
    log.flush(NOW)
    assert [len(batch) for batch in sink.batches] == [2]
    log.flush(NOW)
    assert len(sink.batches) == 1


def test_a_full_batch_goes_at_once() -> None:
    sink = Sink()
    log = log_to(sink)
    for _ in range(access_log.BATCH + 1):
        log.record(*FIELDS.values())
    assert [len(batch) for batch in sink.batches] == [access_log.BATCH]


def test_refused_lines_are_dropped_and_counted() -> None:
    sink = Sink()
    log = log_to(sink)
    sink.full = True
    log.record(*FIELDS.values())
    log.record(*FIELDS.values())
    log.flush(NOW)
    sink.full = False
    sink.lost = 3
    log.record(*FIELDS.values())
    log.flush(NOW)
    assert len(sink.lines) == 1
    assert log.dropped == 5


def test_remembered_texts_are_bounded() -> None:
    sink = Sink()
    log = log_to(sink)
    for index in range(2 * access_log.TEXTS):
        log.record(*(FIELDS | {"host": b"h%d" % index}).values())
    log.flush(NOW)
    assert len(log._hosts) == access_log.TEXTS
    hosts = [json.loads(text)["host"] for text in sink.lines]
    assert hosts == [f"h{index}" for index in range(2 * access_log.TEXTS)]


def test_reopen_and_close_hand_over_first() -> None:
    sink = Sink()
    log = log_to(sink)
    log.record(*FIELDS.values())
    log.reopen()
    log.record(*FIELDS.values())
    assert log.close(0.5)
    assert sink.calls == [("reopen", 1), ("close", 2, 0.5)]
    log.record(*FIELDS.values())
    assert log.close(0.5)
    assert len(sink.calls) == 2
    assert len(sink.lines) == 2


def test_problems_come_from_the_writer() -> None:
    assert log_to(Sink()).take_problem() == "full"


# As configured


def test_off_is_off() -> None:
    log = open_access_log(AccessLogSpec("-", "off"), "worker-1", time.time)
    assert not log.enabled
    log.flush(NOW)
    log.record(*FIELDS.values())
    log.reopen()
    assert (log.dropped, log.take_problem()) == (0, "")
    assert log.close()


def test_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = open_access_log(AccessLogSpec(str(path), "json"), "worker-1", time.time)
    log.flush(NOW)
    for _ in range(3):
        log.record(*FIELDS.values())
    assert log.close(10.0)
    assert [json.loads(text)["target"] for text in path.read_text().splitlines()] == ["/a?b=c"] * 3


def flow_line(format: str = "json", **changes: Any) -> str:
    sink = Sink()
    log = log_to(sink, format)
    facts: dict[str, Any] = {
        "started": NOW, "listener": "dns", "rule": "names", "client_ip": "192.0.2.1", "client_port": 5353,
        "datagrams_in": 2, "datagrams_out": 1, "bytes_in": 80, "bytes_out": 100_000, "backend": "ns-1",
        "tries": 1, "first_byte_us": 1500, "total_us": 2000, "termination": 0, **changes,
    }  # fmt: skip
    log.record_flow(**facts)
    log.flush(NOW)
    (text,) = sink.lines
    return text


def test_a_line_about_a_flow() -> None:
    found = json.loads(flow_line())
    assert found.pop("time").endswith("Z")
    assert found == {
        "worker": "worker-1", "listener": "dns", "rule": "names", "client_ip": "192.0.2.1",
        "client_port": 5353, "protocol": "udp", "datagrams_in": 2, "datagrams_out": 1, "bytes_in": 80,
        "bytes_out": 100_000, "backend": "ns-1", "tries": 1, "first_byte_ms": 1.5, "total_ms": 2.0,
        "termination": "--", "reason": None,
    }  # fmt: skip
    silent = json.loads(flow_line(backend="", tries=0, first_byte_us=-1, termination=15))
    assert (silent["backend"], silent["first_byte_ms"], silent["reason"]) == (None, None, "no_backend")


def test_a_flow_in_the_common_format() -> None:
    assert flow_line("common").endswith('+0000] "UDP dns" - 100000\n')
    assert flow_line("common", bytes_out=0).endswith('"UDP dns" - -\n')


def connection_line(format: str = "json", **changes: Any) -> str:
    sink = Sink()
    log = log_to(sink, format)
    facts: dict[str, Any] = {
        "started": NOW, "listener": "tls", "rule": "shop", "client_ip": "192.0.2.1", "client_port": 4711,
        "server_name": b"shop.example", "bytes_in": 80, "bytes_out": 100_000, "backend": "shop-1",
        "tries": 1, "connect_us": 500, "first_byte_us": 1500, "total_us": 2000, "termination": 0, **changes,
    }  # fmt: skip
    log.record_connection(**facts)
    log.flush(NOW)
    (text,) = sink.lines
    return text


def test_a_line_about_a_connection() -> None:
    found = json.loads(connection_line())
    assert found.pop("time").endswith("Z")
    assert found == {
        "worker": "worker-1", "listener": "tls", "rule": "shop", "client_ip": "192.0.2.1",
        "client_port": 4711, "protocol": "tcp", "server_name": "shop.example", "bytes_in": 80,
        "bytes_out": 100_000, "backend": "shop-1", "tries": 1, "connect_ms": 0.5, "first_byte_ms": 1.5,
        "total_ms": 2.0, "termination": "--", "reason": None,
    }  # fmt: skip
    silent = json.loads(connection_line(backend="", connect_us=-1, first_byte_us=-1, server_name=b""))
    assert [silent[key] for key in ("backend", "connect_ms", "first_byte_ms", "server_name")] == [None] * 4


def test_a_connection_in_the_common_format() -> None:
    assert connection_line("common").endswith('+0000] "TCP tls" - 100000\n')
