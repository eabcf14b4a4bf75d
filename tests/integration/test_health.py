"""Health checks from outside: real backends that stop, hang, die and come back; a check of one's own."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import Origin, Visit, answering, echo, eventually
from support.ports import free_port
from support.processes import Program, accepts, child_environment, find_tool, python
from support.wire import Message, ok

Start = Callable[..., Balancer]
EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKLY = {"interval": "200ms", "timeout": "300ms"}
SERVER = """\
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"real")
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, *_):
        pass
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class RealBackend:
    """A program that serves HTTP on a port of its own, one process."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.port = free_port()
        (folder / "server.py").write_text(SERVER)
        (folder / "haproxy.cfg").write_text(
            "defaults\n mode http\n timeout client 5s\n timeout connect 1s\n timeout server 5s\n"
            f"frontend web\n bind 127.0.0.1:{self.port}\n http-request return status 200 "
            "content-type text/plain string real\n"
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events {}\nhttp { access_log off;\n"
            f"client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;\n"
            f"fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n"
            f'server {{ listen 127.0.0.1:{self.port}; location / {{ return 200 "real"; }} }} }}\n'
        )
        self.command = {
            "python": python(str(folder / "server.py"), str(self.port)),
            "nginx": [find_tool("nginx") or "", "-p", str(folder), "-c", str(folder / "nginx.conf")],
            "haproxy": [find_tool("haproxy") or "", "-db", "-f", str(folder / "haproxy.cfg")],
        }[kind]
        self.program = self.start()

    def start(self) -> Program:
        self.program = Program(self.command)
        eventually(lambda: accepts(self.port), "the backend serves")
        return self.program


@pytest.fixture(
    params=[
        "python",
        pytest.param("nginx", marks=pytest.mark.integration(needs="nginx")),
        pytest.param("haproxy", marks=pytest.mark.integration(needs="haproxy")),
    ]
)
def real(request: pytest.FixtureRequest, nothing_left: None, tmp_path: Path) -> Iterator[RealBackend]:
    folder = tmp_path / "backend"
    folder.mkdir()
    one = RealBackend(request.param, folder)
    yield one
    one.program.stop(signal.SIGKILL)


def fetch(balancer: Balancer) -> bytes:
    with urllib.request.urlopen(balancer.url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def status(balancer: Balancer, backend: str) -> str:
    found: str = balancer.health()["backend_health"][backend]
    return found


@pytest.mark.parametrize("path", [None, "/health"], ids=["tcp", "http"])
def test_a_backend_that_hangs_dies_and_comes_back(
    origin: Origin, start_balancer: Start, real: RealBackend, path: str | None
) -> None:
    backends = [
        {"id": "real", "host": "127.0.0.1", "port": real.port, "health_check_path": path},
        {"id": "sound", "host": "127.0.0.1", "port": origin.port},
    ]
    rules = [{"id": "all", "backends": ["real", "sound"]}]
    with origin.serving(answering(lambda _: ok(b"sound"))):
        balancer = start_balancer(workers=2, health_check=QUICKLY, backends=backends, routing_rules=rules)
        assert {fetch(balancer) for _ in range(20)} == {b"real", b"sound"}
        if path is not None:  # the kernel accepts for a program that is stopped
            real.program.send_signal(signal.SIGSTOP)
            eventually(lambda: status(balancer, "real") == "UNHEALTHY", "a hang is noticed")
            only_sound(balancer)
            real.program.send_signal(signal.SIGCONT)
            eventually(lambda: status(balancer, "real") == "HEALTHY", "it is back")
            eventually(lambda: fetch(balancer) == b"real", "it gets traffic again")
        real.program.stop(signal.SIGKILL)
        eventually(lambda: status(balancer, "real") == "UNHEALTHY", "its death is noticed")
        only_sound(balancer)
        assert status(balancer, "sound") == "HEALTHY"
        real.start()
        eventually(lambda: status(balancer, "real") == "HEALTHY", "a restart is noticed")
        eventually(lambda: fetch(balancer) == b"real", "it gets traffic again")
        balancer.stop()


def only_sound(balancer: Balancer) -> None:
    """Both workers know: told within a moment, they never choose the other one again."""
    eventually(lambda: {fetch(balancer) for _ in range(20)} == {b"sound"}, "every worker knows")


@pytest.mark.parametrize("kind", ["streams", "garbage", "closes", "refuses"])
def test_endpoints_that_misbehave(origin: Origin, start_balancer: Start, kind: str) -> None:
    def script(visit: Visit) -> None:
        visit.request()
        if kind == "streams":
            while True:
                visit.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536)
        elif kind == "garbage":
            visit.send(b"\0" * 100_000)
        elif kind == "refuses":
            visit.send(ok(b"no").replace(b"200", b"500", 1))

    backend = {"id": "odd", "host": "127.0.0.1", "port": origin.port, "health_check_path": "/"}
    with origin.serving(script):
        balancer = start_balancer(
            health_check=QUICKLY, backends=[backend], routing_rules=[{"id": "all", "backends": ["odd"]}]
        )
        expected = "HEALTHY" if kind == "streams" else "UNHEALTHY"
        eventually(lambda: len(origin.visits) >= 5, "checks")
        eventually(lambda: status(balancer, "odd") == expected, expected)
        balancer.stop()


def test_a_reload_keeps_what_is_known(origin: Origin, start_balancer: Start) -> None:
    """And a backend that appears is checked, one that does not resolve is not."""
    gone = free_port()
    backends = [
        {"id": "gone", "host": "127.0.0.1", "port": gone, "health_check": {"interval": "1h", "fall": 1}},
        {"id": "sound", "host": "127.0.0.1", "port": origin.port},
    ]
    with origin.serving(answering(echo)):
        balancer = start_balancer(
            backends=backends, routing_rules=[{"id": "all", "backends": ["gone", "sound"]}]
        )
        eventually(lambda: status(balancer, "gone") == "UNHEALTHY", "it is out")
        backends[0]["weight"] = 3
        backends.append({"id": "nameless", "host": "nowhere.invalid", "port": 80})
        balancer.reload(backends=backends)
        assert balancer.health()["backend_health"] == {
            "gone": "UNHEALTHY",
            "sound": "HEALTHY",
            "nameless": "UNHEALTHY",
        }
        balancer.stop()


def test_checks_change_over_the_api(origin: Origin, start_balancer: Start) -> None:
    def by_path(message: Message) -> bytes:
        return ok(b"x", status="200 OK" if message.target == "/good" else "500 No")

    backend = {"id": "odd", "host": "127.0.0.1", "port": origin.port, "health_check_path": "/bad"}
    with origin.serving(answering(by_path)):
        balancer = start_balancer(
            health_check=QUICKLY, backends=[backend], routing_rules=[{"id": "all", "backends": ["odd"]}]
        )
        eventually(lambda: status(balancer, "odd") == "UNHEALTHY", "it is out")
        view = balancer.call("GET", "/backends/odd")[1]
        assert (view["status"], view["last_reason"]) == ("UNHEALTHY", "status 500")
        assert view["max_consecutive_failures"] >= view["consecutive_failures"] >= 3
        assert view["last_health_check_at"] and view["last_successful_check_at"] is None
        assert balancer.call("PATCH", "/backends/odd", {"health_check_path": "/good"})[0] == 200
        eventually(lambda: status(balancer, "odd") == "HEALTHY", "it is back")
        view = balancer.call("GET", "/backends/odd")[1]
        assert (view["status"], view["last_reason"]) == ("HEALTHY", None)
        assert balancer.call("PATCH", "/backends/odd", {"health_check": {"type": "nowhere:At"}})[0] == 400
        assert balancer.call("PATCH", "/backends/odd", {"health_check": "off"})[0] == 200
        new = {"id": "new", "host": "127.0.0.1", "port": free_port(), "health_check": {"fall": 1}}
        assert balancer.call("POST", "/backends", new)[0] == 201
        eventually(lambda: status(balancer, "new") == "UNHEALTHY", "a backend of the API is checked")
        assert status(balancer, "odd") == "HEALTHY"
        assert balancer.metric("txlb_health_checks_total", result="status") >= 3
        assert balancer.metric("txlb_backend_status", backend="new", status="UNHEALTHY") == 1
        balancer.stop()


GREETER = """\
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    sock, _ = server.accept()
    with sock:
        try:
            sock.sendall(sys.argv[2].encode() + b" mail.example ESMTP\\r\\n")
            sock.recv(1)
        except OSError:
            pass
"""


def test_the_example_of_a_check_of_ones_own(
    origin: Origin, start_balancer: Start, start_program: Callable[..., Program], tmp_path: Path
) -> None:
    (tmp_path / "greeter.py").write_text(GREETER)
    greeters = {}
    for name, code in (("mail", "220"), ("full", "421")):
        greeters[name] = free_port()
        start_program(python(str(tmp_path / "greeter.py"), str(greeters[name]), code))
    check = {"type": "custom_probe:Banner", "options": {"starts_with": "220 "}, **QUICKLY}
    backends = [
        {"id": name, "host": "127.0.0.1", "port": port, "health_check": check}
        for name, port in {**greeters, "silent": origin.port}.items()
    ]
    path = os.pathsep.join((str(EXAMPLES), child_environment()["PYTHONPATH"]))
    rules = [{"id": "all", "backends": ["mail", "full", "silent"]}]
    balancer = start_balancer(prefix=["env", f"PYTHONPATH={path}"], backends=backends, routing_rules=rules)
    expected = {"mail": "HEALTHY", "full": "UNHEALTHY", "silent": "UNHEALTHY"}
    eventually(lambda: balancer.health()["backend_health"] == expected, "all are known")
    eventually(lambda: "greets with b'421" in balancer.program.output, "and why")
    balancer.stop()
