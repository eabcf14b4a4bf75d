"""The admin port of a whole txlb: tokens over its life, a gibibyte, slow callers, no secret anywhere."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.balancer import Balancer, resident
from support.origins import Origin, answering, echo, eventually
from support.processes import find_tool

TOKENS = {"reader": "r" * 43, "operator": "w" * 43}
Start = Callable[..., Balancer]


def line(label: str, role: str, token: str) -> str:
    return f"{label} {role} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


@pytest.fixture
def guarded(start_balancer: Start, tmp_path: Path) -> Balancer:
    """With tokens; the test itself reads with the reader's."""
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(line("reader", "read", TOKENS["reader"]) + line("operator", "write", TOKENS["operator"]))
    return start_balancer([1], admin={"bind": "127.0.0.1:0", "token_file": str(path)}, token=TOKENS["reader"])


def curl(balancer: Balancer, path: str, token: str = "", *more: str) -> tuple[int, bytes]:
    """The status and the body."""
    tool = find_tool("curl")
    assert tool is not None
    fields = f"Authorization: Bearer {token}\n" if token else "X: y\n"
    done = subprocess.run(
        [tool, "-s", "-m", "20", "-w", "\n%{http_code}", "-H", "@-", *more,
         f"http://127.0.0.1:{balancer.ports['admin']}{path}"],
        input=fields.encode(), capture_output=True, check=False,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


@pytest.mark.integration(needs="curl")
def test_tokens_over_the_life_of_a_txlb(guarded: Balancer, tmp_path: Path) -> None:
    json_body = ("-X", "PATCH", "-H", "Content-Type: application/json", "-d", '{"weight": 3}')
    assert curl(guarded, "/backends")[0] == 401
    assert curl(guarded, "/backends", "guess")[0] == 401
    assert curl(guarded, "/backends", TOKENS["reader"])[0] == 200
    assert curl(guarded, "/backends/b0", TOKENS["reader"], *json_body)[0] == 403
    status, body = curl(guarded, "/backends/b0", TOKENS["operator"], *json_body)
    assert (status, json.loads(body)["weight"]) == (200, 3)

    # The next one is added, then the old one removed.
    path = tmp_path / "tokens"
    path.write_text(path.read_text() + line("next", "write", "n" * 43))
    reloaded(guarded, "success", 1)
    assert curl(guarded, "/config", "n" * 43)[0] == curl(guarded, "/config", TOKENS["operator"])[0] == 200
    path.write_text(line("reader", "read", TOKENS["reader"]) + line("next", "write", "n" * 43))
    reloaded(guarded, "success", 2)
    assert curl(guarded, "/config", TOKENS["operator"])[0] == 401
    assert curl(guarded, "/config", "n" * 43)[0] == 200

    # A bad file changes nothing.
    path.chmod(0o644)
    reloaded(guarded, "failure", 1)
    assert curl(guarded, "/config", "n" * 43)[0] == 200
    assert "others may read or change it" in guarded.program.output
    path.chmod(0o600)

    # Nothing has told a token.
    told = guarded.program.output
    for pid in [guarded.program.pid, *guarded.worker_pids()]:
        for name in ("cmdline", "environ"):
            told += Path(f"/proc/{pid}/{name}").read_bytes().decode("latin-1")
    told += curl(guarded, "/config", "n" * 43)[1].decode()
    told += curl(guarded, "/openapi.json", "n" * 43)[1].decode()
    for token in (*TOKENS.values(), "n" * 43):
        assert token not in told
        assert hashlib.sha256(token.encode()).hexdigest() not in told
    audited = [line for line in guarded.program.output.splitlines() if "txlb.audit" in line]
    assert any('"who": "operator"' in line and '"method": "PATCH"' in line for line in audited)
    assert any('"status": 401' in line and '"who": null' in line for line in audited)


def reloaded(balancer: Balancer, result: str, times: int) -> None:
    balancer.program.send_signal(signal.SIGHUP)
    eventually(
        lambda: balancer.metric("txlb_config_reloads_total", result=result) == times, f"reload: {result}"
    )


@pytest.mark.integration(needs="curl")
@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
@pytest.mark.parametrize("who", ["nobody", "operator"])
def test_a_gibibyte_is_refused_early_and_costs_nothing(
    guarded: Balancer, tmp_path: Path, who: str, chunked: bool
) -> None:
    path = tmp_path / "gibibyte"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    before = resident(guarded.program.pid)
    more = ("-H", "Transfer-Encoding: chunked") if chunked else ()
    status, body = curl(
        guarded, "/backends", TOKENS.get(who, ""), "-X", "POST", "-H", "Content-Type: application/json",
        "-H", "Expect:", "-T", str(path), *more,
    )  # fmt: skip
    assert status == (413 if who == "operator" else 401)
    assert json.loads(body)["status"] == status
    assert resident(guarded.program.pid) - before < 8 << 20
    assert curl(guarded, "/health", TOKENS["reader"])[0] == 200


def test_slow_callers_do_not_keep_others_out(guarded: Balancer) -> None:
    slow = [socket.create_connection(("127.0.0.1", guarded.ports["admin"])) for _ in range(60)]
    for one in slow:
        one.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
    assert guarded.health()["generation"] == 1
    for one in slow:
        one.close()


def test_connections_of_all_workers_are_listed(start_balancer: Start) -> None:
    with Origin() as origin, origin.serving(answering(echo)):
        balancer = start_balancer([origin.port], workers=2)
        clients = [balancer.connect() for _ in range(20)]
        for client in clients:
            assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
        found: list[dict[str, object]] = []
        following = ""
        while following is not None:
            page = json.loads(balancer.admin(f"/connections?limit=7&next={following}")[1])
            found += page["connections"]
            following = page["next"]
        assert {one["client_port"] for one in found} == {client.sock.getsockname()[1] for client in clients}
        assert len(found) == len({one["connection_id"] for one in found}) == 20
        assert {str(one["connection_id"]).partition("-")[0] for one in found} <= {"1", "2"}
        for one in found:
            assert set(one) == {
                "connection_id", "client_ip", "client_port", "listener", "backend_id",
                "backend_connection_id", "session_id", "created_at", "last_activity_at", "bytes_in",
                "bytes_out",
            }  # fmt: skip
            assert one["listener"] == "web"
            assert one["bytes_in"] == len("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert int(str(one["bytes_out"])) > 0
        for client in clients:
            client.close()
