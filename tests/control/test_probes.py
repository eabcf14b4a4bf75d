"""`txlb.control.probes`: what is sent, and that a probe of one's own cannot outlast its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.own_probes import Scripted, WithDeferred

from txlb.control.probes import OwnProbe, expected_of, request_to, sign_of_life
from txlb.core import health_counts as results
from txlb.core.model import BackendSpec, HealthCheckSpec
from txlb.core.proxy_announcement import announce_nobody
from txlb.net.probing import ProbeReceiver

BACKEND = BackendSpec("b", "b.example", 8080, address="10.0.0.1")


class Heard(ProbeReceiver):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, int, str]] = []

    def probed(self, key: Any, result: int, reason: str) -> None:
        self.told.append((key, result, reason))


def start(answer: str | None) -> tuple[Heard, Scripted, Any]:
    heard, probe = Heard(), Scripted({"b": answer})
    return heard, probe, OwnProbe(heard, probe, BACKEND).start("key")


def test_what_an_http_check_sends() -> None:
    lines = request_to(BACKEND, HealthCheckSpec("http", path="/h?x=1")).decode().split("\r\n")
    assert lines[:2] == ["GET /h?x=1 HTTP/1.1", "Host: b.example:8080"]
    assert "Connection: close" in lines
    assert any(line.startswith("User-Agent: txlb/") for line in lines)
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize(
    ("host", "field", "expected"),
    [("fd00::1", "", "[fd00::1]:8080"), ("b.example", "www.example.com", "www.example.com")],
)
def test_its_host(host: str, field: str, expected: str) -> None:
    sent = request_to(replace(BACKEND, host=host), HealthCheckSpec("http", path="/", host=field))
    assert f"\r\nHost: {expected}\r\n".encode() in sent


def test_who_wants_the_same_statuses_shares_them() -> None:
    check = HealthCheckSpec("http", path="/", statuses=((200, 204), (301, 301)))
    one, other = expected_of(BACKEND, check), expected_of(replace(BACKEND, host="other"), check)
    assert one.statuses is other.statuses
    assert one.statuses == {200, 201, 202, 203, 204, 301}
    assert expected_of(BACKEND, HealthCheckSpec()).statuses == frozenset()


def test_a_tcp_check_sends_nothing() -> None:
    assert request_to(BACKEND, HealthCheckSpec()) == b""


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_a_backend_that_expects_the_proxy_protocol_gets_its_header(kind: str) -> None:
    check = HealthCheckSpec(kind, path="/")
    first = request_to(replace(BACKEND, proxy_protocol="v1"), check)
    second = request_to(replace(BACKEND, proxy_protocol="v2"), check)
    plain = request_to(BACKEND, check)
    assert first == b"PROXY UNKNOWN\r\n" + plain
    assert second == announce_nobody(2) + plain


def test_a_sign_of_life_is_asked_for_in_http() -> None:
    life = sign_of_life(BACKEND)
    assert life.request.startswith(b"OPTIONS * HTTP/1.1\r\nHost: b.example:8080\r\n")
    assert life.anything and not life.statuses
    assert sign_of_life(replace(BACKEND, proxy_protocol="v1")).request == b"PROXY UNKNOWN\r\n" + life.request


def test_one_of_ones_own_ends_well() -> None:
    heard, _, _ = start(None)
    assert heard.told == [("key", results.SUCCESS, "")]
    assert heard.sockets == 0


def test_it_may_return_a_deferred() -> None:
    heard = Heard()
    OwnProbe(heard, WithDeferred(), BACKEND).start("key")
    assert heard.told == [("key", results.SUCCESS, "")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("no\nroom", "no room"), ("", "RuntimeError"), ("x" * 5000, "x" * 200)],
)
def test_what_it_raises_is_the_reason(text: str, reason: str) -> None:
    heard, _, _ = start(text)
    assert heard.told == [("key", results.FAILED, reason)]
    assert heard.sockets == 0


def test_one_that_hangs_is_cancelled_and_counted() -> None:
    heard, probe, attempt = start("hang")
    assert heard.told == []
    assert heard.sockets == 1
    attempt.expire(0.5)
    assert heard.told == [("key", results.TIMEOUT, "not done within 500 ms")]
    assert (probe.cancelled, heard.sockets) == (["b"], 0)


def test_who_cancels_hears_nothing() -> None:
    heard, probe, attempt = start("hang")
    attempt.cancel()
    attempt.cancel()
    assert heard.told == []
    assert (probe.cancelled, heard.sockets) == (["b"], 0)
