"""The writing half of the admin API, on a whole txlb: backends and rules come, change and go."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, answering, echo, eventually
from support.ports import free_port
from support.processes import child_environment, twistd
from support.wire import Message, ok

from txlb.config.load import loads

SETTINGS: dict[str, Any] = {"timeouts": {"drain": "20s"}}
Start = Callable[..., Balancer]


@pytest.fixture(scope="module")
def balancer(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    folder = tmp_path_factory.mktemp("txlb")
    with Balancer(folder, [origin.port], workers=2, store=str(folder / "store.db"), **SETTINGS) as one:
        yield one


@pytest.fixture
def second() -> Iterator[Origin]:
    with Origin() as one:
        yield one


def named(name: str) -> Callable[[Message], bytes]:
    return lambda message: ok(name.encode())


def asked(balancer: Balancer, count: int = 10, path: str = "/", host: str = "a") -> set[str]:
    """Who answers, asked on fresh connections."""
    found: set[str] = set()
    for _ in range(count):
        with balancer.connect() as client:
            answer = client.ask(f"GET {path} HTTP/1.1\nHost: {host}")
            found.add(answer.body.decode() if answer.status == 200 else str(answer.status))
    return found


def answered_by(balancer: Balancer, *names: str, host: str = "a") -> None:
    """All of these answer, and no other; an algorithm hears of new backends within 50 ms."""
    eventually(lambda: asked(balancer, 12, host=host) == set(names), f"{names} answer")


def requests_of(balancer: Balancer) -> int:
    """How many all backends were given."""
    return sum(one["requests"] for one in balancer.call("GET", "/backends")[1]["backends"])


def only(balancer: Balancer, port: int) -> None:
    """A backend ``two`` and a rule for the host ``two``."""
    assert balancer.call("POST", "/backends", backend("two", port))[0] == 201
    rule = {"id": "two", "host": "two", "backends": ["two"]}
    assert balancer.call("POST", "/routing-rules", rule)[0] == 201


def backend(id: str, port: int, **more: Any) -> dict[str, Any]:
    return {"id": id, "host": "127.0.0.1", "port": port, **more}


# -- backends and rules ------------------------------------------------------------------------------


def test_a_backend_comes_serves_changes_and_goes(balancer: Balancer, origin: Origin, second: Origin) -> None:
    with origin.serving(answering(named("b0"))), second.serving(answering(named("new"))):
        status, made, fields = balancer.call_whole("POST", "/backends", backend("new", second.port))
        assert (status, made) == (201, {"id": "new", "status": "REGISTERED"})
        assert fields["location"] == "/backends/new"
        assert fields["etag"]
        rule = {"id": "only", "path_prefix": "/new", "backends": ["new"]}
        assert balancer.call("POST", "/routing-rules", rule) == (201, {"rule_id": "only"})
        eventually(lambda: asked(balancer, path="/new") == {"new"}, "it answers")
        status, view = balancer.call("GET", "/backends/new")
        assert status == 200
        assert view["provenance"] == "api"
        assert view["status"] == "HEALTHY"
        eventually(
            lambda: balancer.call("GET", "/backends/new")[1]["requests"] == 10, "its requests are counted"
        )
        view = balancer.call("GET", "/backends/new")[1]
        assert 0 < view["mean_latency_ms"] <= view["p99_latency_ms"] * 20
        status, view = balancer.call("PATCH", "/backends/b0", {"weight": 7, "max_connections": 9})
        assert (status, view["weight"], view["max_connections"]) == (200, 7, 9)
        assert (view["provenance"], view["patched"]) == ("file", ["max_connections", "weight"])
        effective = loads(balancer.admin("/config")[1], {}).snapshot
        assert {(one.id, one.weight) for one in effective.backends} == {("b0", 7), ("new", 1)}
        assert "only" in {one.id for one in effective.rules}
        status, rule = balancer.call("PUT", "/routing-rules/only", {"path_prefix": "/x", "backends": ["b0"]})
        assert (status, rule["path_prefix"], rule["provenance"]) == (200, "/x", "api")
        assert asked(balancer, path="/new") == {"b0"}
        rules = balancer.call("GET", "/routing-rules")[1]["routing_rules"]
        assert {(one["id"], one["provenance"]) for one in rules} == {("all", "file"), ("only", "api")}
        assert balancer.call("DELETE", "/routing-rules/only")[0] == 200
        assert balancer.call("GET", "/routing-rules/only")[0] == 404
        assert balancer.call("DELETE", "/backends/new") == (200, {"id": "new", "status": "DEREGISTERED"})
        assert balancer.call("GET", "/backends/new")[0] == 404
        listed = balancer.call("GET", "/backends")[1]["backends"]
        assert [one["id"] for one in listed] == ["b0"]


def test_a_rule_without_id_gets_one(balancer: Balancer) -> None:
    status, made = balancer.call("POST", "/routing-rules", {"host": "x.test", "backends": ["b0"]})
    assert status == 201
    assert balancer.call("GET", f"/routing-rules/{made['rule_id']}")[1]["host"] == "x.test"
    assert balancer.call("DELETE", f"/routing-rules/{made['rule_id']}")[0] == 200


def test_every_error_is_in_the_problem(balancer: Balancer) -> None:
    status, problem, fields = balancer.call_whole(
        "POST", "/backends", {"id": "a b", "host": "http://x", "wieght": 1}
    )
    assert status == problem["status"] == 400
    assert fields["content-type"] == "application/problem+json"
    details = [error["detail"] for error in problem["errors"]]
    assert sorted(detail.split(":")[0] for detail in details) == ["host", "id", "port", "wieght"]
    assert any("did you mean weight?" in detail for detail in details)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/backends", backend("b0", 1), 409),
        ("POST", "/backends", b"{", 400),
        ("POST", "/backends", b'{"id": "a", "id": "b"}', 400),
        ("POST", "/backends", [], 400),
        ("POST", "/backends?x=1", backend("q", 1), 400),
        ("GET", "/backends/none", None, 404),
        ("GET", "/backends/b0?wait=soon", None, 400),
        ("PATCH", "/backends/none", {"weight": 1}, 404),
        ("PATCH", "/backends/b0", {"weight": 70000}, 400),
        ("PATCH", "/backends/b0", {"id": "b1"}, 400),
        ("DELETE", "/backends/none", None, 404),
        ("DELETE", "/backends/b0?force=maybe", None, 400),
        ("POST", "/backends/none/drain", None, 404),
        ("POST", "/backends/b0/drain", {"timeout": "long"}, 400),
        ("POST", "/backends/b0/drain", {"time": "1s"}, 400),
        ("POST", "/backends/none/enable", None, 404),
        ("POST", "/routing-rules", {"backends": ["none"]}, 400),
        ("POST", "/routing-rules", {"id": "all", "backends": ["b0"]}, 409),
        ("PUT", "/routing-rules/none", {"backends": ["b0"]}, 404),
        ("PUT", "/routing-rules/all", {"id": "x", "backends": ["b0"]}, 400),
        ("DELETE", "/routing-rules/none", None, 404),
        ("DELETE", "/backends", None, 405),
    ],
)
def test_what_is_refused(balancer: Balancer, method: str, path: str, body: Any, status: int) -> None:
    before = balancer.call_whole("GET", "/routing-rules")
    found, problem = balancer.call(method, path, body)
    assert found == problem["status"] == status
    assert problem["errors"][0]["detail"]
    assert balancer.call_whole("GET", "/routing-rules")[2]["etag"] == before[2]["etag"]


def test_a_rule_that_was_shown_can_be_sent_back(balancer: Balancer) -> None:
    assert (
        balancer.call("POST", "/routing-rules", {"id": "back", "host": "back", "backends": ["b0"]})[0] == 201
    )
    shown = balancer.call("GET", "/routing-rules/back")[1]
    assert balancer.call("PUT", "/routing-rules/back", shown) == (200, shown)
    assert balancer.call("PUT", "/routing-rules/back", {**shown, "provenance": "mine"})[0] == 400
    assert balancer.call("DELETE", "/routing-rules/back?force")[0] == 400  # no such argument
    assert balancer.call("DELETE", "/routing-rules/back")[0] == 200


def test_a_change_for_another_configuration_is_refused(balancer: Balancer) -> None:
    etag = balancer.call_whole("GET", "/backends/b0")[2]["etag"]
    assert balancer.call("PATCH", "/backends/b0", {"weight": 3}, if_match='"0-x"')[0] == 412
    for method, path in (
        ("PATCH", "/backends/x"),
        ("PUT", "/routing-rules/x"),
        ("DELETE", "/routing-rules/x"),
    ):
        assert balancer.call(method, path, {}, if_match='"0-x"')[0] == 404  # that comes first
    status, _, fields = balancer.call_whole("PATCH", "/backends/b0", {"weight": 3}, if_match=etag)
    assert status == 200
    assert fields["etag"] != etag
    assert balancer.call("PATCH", "/backends/b0", {"weight": 4}, if_match=etag)[0] == 412
    assert balancer.call("PATCH", "/backends/b0", {"weight": 1}, if_match=f'"x", {fields["etag"]}')[0] == 200
    assert balancer.call("PATCH", "/backends/b0", {"weight": 1}, if_match="*")[0] == 200


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "64:ff9b::a9fe:a9fe", "::"],
)
def test_addresses_that_nobody_should_be_sent_to_are_refused(balancer: Balancer, host: str) -> None:
    status, problem = balancer.call("POST", "/backends", {"id": "bad", "host": host, "port": 80})
    assert status == 400
    assert "not accepted over the API" in problem["errors"][0]["detail"]


def test_our_own_ports_are_no_backends(balancer: Balancer) -> None:
    for port in (balancer.port, balancer.ports["admin"]):
        for host in ("127.0.0.1", "localhost"):
            status, problem = balancer.call("POST", "/backends", {"id": "loop", "host": host, "port": port})
            assert status == 400
            assert "would be a loop" in problem["errors"][0]["detail"]
    assert balancer.call("PATCH", "/backends/b0", {"port": balancer.port})[0] == 400


# -- draining ----------------------------------------------------------------------------------------


class Held:
    """A script that answers when it is told to; it names itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting = 0
        self.go = threading.Event()

    def __call__(self, visit: Visit) -> None:
        while True:
            message = visit.request()
            if message.target.startswith("/held"):
                self.waiting += 1
                self.go.wait(30)
            visit.send(ok(self.name.encode()))


def test_a_drain_stops_new_requests_and_lets_the_others_finish(
    balancer: Balancer, origin: Origin, second: Origin
) -> None:
    held = Held("two")
    with origin.serving(answering(named("one"))), second.serving(held):
        assert balancer.call("POST", "/backends", backend("two", second.port))[0] == 201
        assert balancer.call("PUT", "/routing-rules/all", {"backends": ["b0", "two"]})[0] == 200
        answered_by(balancer, "one", "two")
        before = -1
        while before != (before := requests_of(balancer)):
            time.sleep(0.25)  # counts are written ten times a second
        clients = [balancer.connect() for _ in range(6)]
        for client in clients:
            client.send(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: requests_of(balancer) == before + 6, "all are on their way")
        waiting = balancer.call("GET", "/backends/two")[1]["active_connections"]
        assert waiting > 0
        status, view = balancer.call("POST", "/backends/two/drain", {"timeout": 15})
        assert (status, view["status"], view["active_connections"]) == (202, "DRAINING", waiting)
        assert 10 < view["drain"]["seconds_left"] <= 15
        assert view["drain"]["left"] == waiting
        assert view["idle_connections"] == 0
        assert asked(balancer, 12) == {"one"}
        status, view = balancer.call("GET", "/health")
        waited: list[Any] = []
        waiter = threading.Thread(
            target=lambda: waited.append(balancer.call("GET", "/backends/two?wait=drained"))
        )
        waiter.start()
        time.sleep(0.3)
        assert not waited
        held.go.set()
        for client in clients:
            assert client.answer().status == 200
            client.close()
        waiter.join(10)
        assert waited[0][0] == 200
        assert waited[0][1]["drain"]["left"] == 0
        status, view = balancer.call("POST", "/backends/two/enable")
        assert (status, view["status"], view["drain"]) == (200, "HEALTHY", None)
        answered_by(balancer, "one", "two")
        assert balancer.call("DELETE", "/backends/two?force=true")[0] == 200
        assert balancer.call("PUT", "/routing-rules/all", {"backends": ["b0"]})[0] == 200


def test_the_last_one_serves_although_it_drains(balancer: Balancer, second: Origin) -> None:
    with second.serving(answering(named("two"))):
        only(balancer, second.port)
        assert balancer.call("POST", "/backends/two/drain")[0] == 202
        assert asked(balancer, 4, host="two") == {"two"}
        assert balancer.call("DELETE", "/routing-rules/two")[0] == 200
        assert balancer.call("DELETE", "/backends/two?wait=true")[0] == 200


def test_a_removed_backend_is_there_until_it_is_done(
    balancer: Balancer, origin: Origin, second: Origin
) -> None:
    held = Held("two")
    with origin.serving(answering(named("one"))), second.serving(held):
        assert balancer.call("POST", "/backends", backend("two", second.port))[0] == 201
        assert (
            balancer.call("POST", "/routing-rules", {"id": "two", "host": "two", "backends": ["two"]})[0]
            == 201
        )
        client = balancer.connect()
        client.send(b"GET /held HTTP/1.1\r\nHost: two\r\n\r\n")
        eventually(lambda: held.waiting == 1, "it waits")
        status, left = balancer.call("DELETE", "/backends/two")
        assert (status, left["status"], left["left"]) == (202, "DRAINING", 1)
        assert asked(balancer, 3, host="two") == {"503"}  # the rule has none any more
        assert balancer.call("POST", "/backends", backend("two", second.port))[0] == 409
        view = balancer.call("GET", "/backends/two")[1]
        assert (view["status"], view["removed"]) == ("DRAINING", True)
        assert b"port: %d\n" % second.port not in balancer.admin("/config")[1]
        assert balancer.call("PATCH", "/backends/two", {"weight": 2})[0] == 409
        assert balancer.call("DELETE", "/backends/two?force=true", if_match='"0-x"')[0] == 412
        done: list[Any] = []
        waiter = threading.Thread(
            target=lambda: done.append(balancer.call("DELETE", "/backends/two?wait=true"))
        )
        waiter.start()
        time.sleep(0.3)
        assert not done
        held.go.set()
        assert client.answer().status == 200
        client.close()
        waiter.join(10)
        assert done == [(200, {"id": "two", "status": "DEREGISTERED"})]
        assert balancer.call("POST", "/backends", backend("two", second.port))[0] == 201
        answered_by(balancer, "two", host="two")  # the rule still names it
        assert balancer.call("DELETE", "/routing-rules/two")[0] == 200
        assert balancer.call("DELETE", "/backends/two?wait=true")[0] == 200


def test_force_cuts_off_what_is_left(balancer: Balancer, second: Origin) -> None:
    held = Held("two")
    with second.serving(held):
        assert balancer.call("POST", "/backends", backend("two", second.port))[0] == 201
        assert (
            balancer.call("POST", "/routing-rules", {"id": "two", "host": "two", "backends": ["two"]})[0]
            == 201
        )
        client = balancer.connect()
        client.send(b"GET /held HTTP/1.1\r\nHost: two\r\n\r\n")
        eventually(lambda: held.waiting == 1, "it waits")
        assert balancer.call("DELETE", "/backends/two?force=true")[0] == 200
        with pytest.raises(ConnectionResetError):
            client.answer()
        held.go.set()
        client.close()
    assert balancer.call("DELETE", "/routing-rules/two")[0] == 200


@pytest.mark.parametrize("timeout", ["500ms", "0s"])
def test_at_the_deadline_what_is_left_is_cut_off(balancer: Balancer, second: Origin, timeout: str) -> None:
    held = Held("two")
    with second.serving(held):
        assert balancer.call("POST", "/backends", backend("two", second.port))[0] == 201
        assert (
            balancer.call("POST", "/routing-rules", {"id": "two", "host": "two", "backends": ["two"]})[0]
            == 201
        )
        client = balancer.connect()
        client.send(b"GET /held HTTP/1.1\r\nHost: two\r\n\r\n")
        eventually(lambda: held.waiting == 1, "it waits")
        assert balancer.call("POST", "/backends/two/drain", {"timeout": timeout})[0] == 202
        with pytest.raises(ConnectionResetError):
            client.answer()
        view = balancer.call("GET", "/backends/two?wait=drained")[1]
        assert (view["status"], view["drain"]["left"], view["drain"]["seconds_left"]) == ("DRAINING", 0, 0)
        held.go.set()
        client.close()
    assert balancer.call("DELETE", "/routing-rules/two")[0] == 200
    assert balancer.call("DELETE", "/backends/two?force=true")[0] == 200


def test_many_at_once_are_each_answered(balancer: Balancer) -> None:
    found: list[int] = []

    def register(number: int) -> None:
        found.append(balancer.call("POST", "/backends", backend(f"n{number % 20}", 1000 + number))[0])

    threads = [threading.Thread(target=register, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [201] * 20 + [409] * 20
    assert len(balancer.call("GET", "/backends")[1]["backends"]) == 21
    for number in range(20):
        assert balancer.call("DELETE", f"/backends/n{number}")[0] == 200


# -- reload and restart ------------------------------------------------------------------------------


def rewrite(balancer: Balancer, **changes: Any) -> None:
    balancer.config.update(changes)
    (balancer.folder / "txlb.yaml").write_text(json.dumps(balancer.config))


def test_reload_answers_what_changed(start_balancer: Start, origin: Origin) -> None:
    balancer = start_balancer([origin.port], workers=2)
    assert balancer.call("POST", "/reload") == (200, {"generation": 1, "changed": {}})
    etag = balancer.call_whole("GET", "/backends")[2]["etag"]
    assert balancer.call("POST", "/reload", if_match=etag)[0] == 200
    port = free_port()
    rewrite(
        balancer,
        listeners=[*balancer.config["listeners"], {"id": "two", "bind": f"127.0.0.1:{port}"}],
        backends=[backend("b0", origin.port, weight=3), backend("b1", 1)],
        timeouts={"connect": "2s"},
    )
    assert balancer.call("POST", "/reload", if_match='"0-x"')[0] == 412
    assert balancer.call("POST", "/reload") == (
        200,
        {
            "generation": 2,
            "changed": {
                "listeners": {"added": ["two"]},
                "backends": {"added": ["b1"], "changed": ["b0"]},
                "settings": ["timeouts"],
            },
        },
    )
    assert balancer.call_whole("GET", "/backends")[2]["etag"] != etag


def test_a_bad_file_changes_nothing_and_says_why(start_balancer: Start, origin: Origin) -> None:
    balancer = start_balancer([origin.port], workers=1)
    assert balancer.call("PATCH", "/backends/b0", {"weight": 2})[0] == 200
    etag = balancer.call_whole("GET", "/backends")[2]["etag"]
    for _ in range(10):
        rewrite(balancer, workerz=1, nodes={})
        status, problem = balancer.call("POST", "/reload")
        assert status == 422
        assert len(problem["errors"]) == 2
        assert "txlb.yaml:1:" in problem["errors"][0]["detail"]
    assert balancer.call_whole("GET", "/backends")[2]["etag"] == etag
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask("GET / HTTP/1.1\nHost: a").status == 200


def test_what_is_left_without_any_backend_can_be_loaded_again(start_balancer: Start, origin: Origin) -> None:
    balancer = start_balancer([origin.port], workers=1)
    assert balancer.call("DELETE", "/backends/b0?force=true")[0] == 200
    _, shown = balancer.admin("/config")
    assert b"backends: []" in shown
    balancer.path.write_bytes(shown)
    command = twistd("txlb", f"--config={balancer.path}", "--check")
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    assert "there are none: it serves nobody" in done.stderr
    assert balancer.call("POST", "/reload")[0] == 200
    with balancer.connect() as client:
        assert client.ask("GET / HTTP/1.1\nHost: a").status == 503
    assert balancer.call("POST", "/backends", backend("b0", origin.port))[0] == 201
    ((rule,),) = [balancer.call("GET", "/routing-rules")[1]["routing_rules"]]
    assert rule["backends"] == []
    change = {**{key: rule[key] for key in ("listeners",) if rule[key]}, "backends": ["b0"]}
    assert balancer.call("PUT", "/routing-rules/all", change)[0] == 200
    with origin.serving(answering(echo)):
        eventually(lambda: "503" not in asked(balancer, 1), "it serves again")


def test_the_file_wins_at_reload(start_balancer: Start, origin: Origin) -> None:
    balancer = start_balancer([origin.port], workers=1)
    assert balancer.call("PATCH", "/backends/b0", {"weight": 2})[0] == 200
    assert balancer.call("POST", "/backends", backend("b1", 1))[0] == 201
    rewrite(balancer, backends=[backend("b0", origin.port, weight=5), backend("b1", 2)])
    assert balancer.call("POST", "/reload")[0] == 200
    views = {one["id"]: one for one in balancer.call("GET", "/backends")[1]["backends"]}
    assert (views["b0"]["weight"], views["b0"]["patched"]) == (5, [])
    assert (views["b1"]["port"], views["b1"]["provenance"]) == (2, "file")
    assert "backend b1: the change made over the API is set aside" in balancer.program.output
    assert balancer.metric("txlb_overlay_entries", state="set_aside") == 2
    assert balancer.metric("txlb_overlay_entries", state="active") == 0


def test_changes_outlive_a_restart_with_a_store_and_only_then(
    start_balancer: Start, origin: Origin, tmp_path: Path
) -> None:
    store = str(tmp_path / "store.db")
    first = start_balancer([origin.port], workers=1, store=store)
    assert first.call("POST", "/backends", backend("b1", origin.port))[0] == 201
    assert first.call("POST", "/backends/b1/drain", {"timeout": 600})[0] == 202
    assert first.call("PUT", "/routing-rules/all", {"backends": ["b1", "b0"]})[0] == 200
    etag = first.call_whole("GET", "/backends")[2]["etag"]
    first.stop()
    again = start_balancer([origin.port], workers=1, store=store)
    view = again.call("GET", "/backends/b1")[1]
    assert (view["status"], view["provenance"]) == ("DRAINING", "api")
    assert 500 < view["drain"]["seconds_left"] < 600
    assert again.call("GET", "/routing-rules/all")[1]["backends"] == ["b1", "b0"]
    assert again.call_whole("GET", "/backends")[2]["etag"].split("-")[0] == etag.split("-")[0]
    again.stop()
    without = start_balancer([origin.port], workers=1)
    assert [one["id"] for one in without.call("GET", "/backends")[1]["backends"]] == ["b0"]


def test_a_store_that_breaks_stops_no_traffic(start_balancer: Start, origin: Origin, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    balancer = start_balancer([origin.port], workers=1, store=str(store))
    assert balancer.call("PATCH", "/backends/b0", {"weight": 2})[0] == 200
    command = twistd("txlb", f"--config={balancer.path}", "--check")
    checked = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "ok\n"), "although it is in use"
    pid = balancer.program.pid
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    grown = (tmp_path / "store.db-wal").stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (grown, usual[1]))  # as good as a full disk
    status, problem = balancer.call("PATCH", "/backends/b0", {"weight": 3})
    assert status == 503
    assert "store" in problem["errors"][0]["detail"]
    assert balancer.call("GET", "/backends/b0")[1]["weight"] == 2
    assert balancer.call("POST", "/reload")[0] == 200
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
    resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)
    assert balancer.call("PATCH", "/backends/b0", {"weight": 3})[0] == 200


def test_the_example_runs(balancer: Balancer, second: Origin) -> None:
    script = Path(__file__).parents[2] / "examples" / "admin-api.sh"
    before = balancer.call("GET", "/routing-rules")[1]
    with second.serving(answering(echo)):
        done = subprocess.run(
            ["sh", str(script)],
            env={
                **os.environ,
                "ADMIN": f"http://127.0.0.1:{balancer.ports['admin']}",
                "BACKEND": f"127.0.0.1:{second.port}",
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "REGISTERED"' in done.stdout
    assert '"left": 0' in done.stdout
    assert '"status": "DEREGISTERED"' in done.stdout
    assert balancer.call("GET", "/routing-rules")[1] == before
