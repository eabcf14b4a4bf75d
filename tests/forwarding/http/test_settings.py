from __future__ import annotations

from ipaddress import ip_network

import pytest
from support.dataplane import Stage, get, ok, stage

from txlb.core.answers import Answers


def cell(here: Stage, rule: str, backend: str) -> Answers:
    return here.settings.cells.setdefault(rule, {}).setdefault(backend, Answers())


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("127.0.0.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_who_is_trusted(address: str, trusted: bool) -> None:
    with stage() as here:
        here.settings.trusted = [ip_network(it) for it in ("10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32")]
        assert here.settings.is_trusted(address) is trusted


def test_nobody_is_trusted_unless_configured() -> None:
    with stage() as here:
        assert not here.settings.is_trusted("127.0.0.1")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (b"198.51.100.9, 192.0.2.1,10.0.0.2", "192.0.2.1"),  # what the client itself said is not believed
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b"192.0.2.1, unknown", "10.0.0.1"),
        (b"192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        (b"nonsense", "10.0.0.1"),
        (b"2001:db8::7", "2001:db8::7"),
    ],
)
def test_the_client_is_the_last_one_that_is_not_trusted(chain: bytes, client: str) -> None:
    with stage() as here:
        here.settings.trusted = [ip_network("10.0.0.0/8")]
        assert here.settings.client_behind(chain, "10.0.0.1") == client


def test_a_trusted_peers_word_on_the_client_goes_into_the_log() -> None:
    with stage() as here:
        here.settings.trusted = [ip_network("127.0.0.0/8")]
        client = here.client()
        here.asked(client, get("/", "X-Forwarded-For: 192.0.2.1")).send(ok(b"x"))
        here.net.settle()
        assert here.records()[0]["client_ip"] == "192.0.2.1"


def test_an_exchange_is_counted_in_every_place_once() -> None:
    with stage() as here:
        answered = cell(here, "rule", "b0")
        refused = cell(here, "rule", "")
        nowhere = cell(here, "", "")
        here.settings.touched = False
        client = here.client()
        here.asked(client, get()).send(ok(b"x", status="404 Not Found"))
        here.net.settle()
        assert here.settings.touched
        assert answered.code_4xx == here.pool.code_4xx == here.backend.code_4xx == 1
        assert here.settings.requests == len(here.records()) == 1
        here.asked(client, get()).finish()  # a reused connection: once more
        here.net.settle()
        here.origin.last.finish()
        here.net.settle()
        assert here.pool.code_5xx == 1 and here.backend.code_5xx == 0
        here.client(b"nonsense\r\n\r\n")
        assert nowhere.code_4xx == 1
        total = sum(one.code_2xx + one.code_4xx + one.code_5xx for one in (answered, refused, nowhere))
        assert total == here.settings.requests == len(here.records()) == 3


def test_errors_are_counted_by_status() -> None:
    with stage() as here:
        for status in (404, 503, 404):
            here.settings.count_error(status)
        assert here.settings.errors == {404: 2, 503: 1}


def test_exchanges_under_way_see_a_reload_at_their_next_step() -> None:
    with stage() as here:
        client = here.client()
        backend = here.asked(client, get("/1"))
        here.settings.draining = True
        backend.send(ok(b"x"))
        here.net.settle()
        assert b"Connection: close" in client.data and client.ending == "fin"
        here.settings.draining = False
        client = here.client()
        here.settings.client_idle = 5.0
        here.asked(client, get("/2")).send(ok(b"x"))
        here.net.elapse(6.0)
        assert client.ending == "fin"
