from __future__ import annotations

from ipaddress import ip_network

from support.dataplane import Stage, get, ok, stage

from txlb.core.answers import Answers


def cell(here: Stage, rule: str, backend: str) -> Answers:
    return here.settings.cells.setdefault(rule, {}).setdefault(backend, Answers())


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


def test_a_reload_puts_the_next_answer_into_the_new_cell() -> None:
    with stage() as here:
        before = cell(here, "rule", "b0")
        client = here.client()
        here.asked(client, get()).send(ok(b"x"))
        here.net.settle()
        here.settings.cells = {}
        after = cell(here, "rule", "b0")
        here.asked(client, get()).send(ok(b"x"))
        here.net.settle()
        assert before.code_2xx == after.code_2xx == 1


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
