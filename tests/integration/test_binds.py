"""Listeners on UNIX sockets, on systemd's sockets and on both families, as users configure them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import Origin, answering, echo, eventually
from support.ports import free_port
from support.processes import Program, child_environment, python, twistd
from support.wire import Wire

StartBalancer = Callable[..., Balancer]
#: What systemd does: sockets from descriptor 3 on, and the environment that names them. Arguments: the names,
#: the addresses (port or path), ``--`` and the program.
LAUNCHER = """
import os, socket, sys
names, addresses, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
opened = []
for address in addresses:
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address)
    elif address.startswith("udp:"):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", int(address[4:])))
    else:
        sock = socket.create_server(("127.0.0.1", int(address)))
    if sock.type == socket.SOCK_STREAM:
        sock.listen(128)
    opened.append(sock)
copies = [os.dup(sock.fileno()) for sock in opened]  # out of the way of 3, 4, ...
high = [__import__("fcntl").fcntl(fd, __import__("fcntl").F_DUPFD, 100) for fd in copies]
for number, fd in enumerate(high):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


def over_unix(path: str) -> Wire:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return Wire(sock)


GET = "GET / HTTP/1.1\nHost: a.example\nX-Forwarded-For: 203.0.113.9"


@pytest.mark.parametrize("workers", [0, 2])
def test_clients_of_a_unix_socket_are_served_and_have_no_address(
    start_balancer: StartBalancer, tmp_path: Path, workers: int
) -> None:
    path = str(tmp_path / "web.sock")
    with Origin() as origin, origin.serving(answering(echo)):
        balancer = start_balancer(
            [origin.port], workers=workers, listeners=[{"id": "web", "bind": f"unix:{path}"}]
        )
        assert os.stat(path).st_mode & 0o777 == 0o666
        for _ in range(20):
            with over_unix(path) as client:
                assert client.ask(GET).status == 200
        assert origin.requests[0].get("x-forwarded-for") == "unix:"
        lines = balancer.logged(20)
        assert Counter(line["client_ip"] for line in lines) == {"unix:": 20}
        assert {line["client_port"] for line in lines} == {0}
        balancer.stop()
        assert not os.path.exists(path)


def test_a_trusted_unix_socket_says_who_the_client_is(start_balancer: StartBalancer, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    with Origin() as origin, origin.serving(answering(echo)):
        listener = {"id": "web", "bind": f"unix:{path}", "trusted": ["unix:"]}
        balancer = start_balancer([origin.port], listeners=[listener])
        with over_unix(path) as client:
            assert client.ask(GET).status == 200
        assert origin.requests[0].get("x-forwarded-for") == "203.0.113.9, unix:"
        assert balancer.logged()[0]["client_ip"] == "203.0.113.9"


def test_a_dead_workers_clients_go_to_its_siblings(start_balancer: StartBalancer, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    with Origin() as origin, origin.serving(answering(echo)):
        balancer = start_balancer([origin.port], workers=2, listeners=[{"id": "web", "bind": f"unix:{path}"}])
        before = balancer.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        for _ in range(50):
            with over_unix(path) as client:
                assert client.ask(GET).status == 200
        eventually(lambda: len(balancer.worker_pids()) == 2, "the successor is there")


def test_a_second_txlb_on_the_same_unix_socket_is_refused(
    start_balancer: StartBalancer, tmp_path: Path
) -> None:
    path = str(tmp_path / "web.sock")
    listeners = [{"id": "web", "bind": f"unix:{path}"}]
    with Origin() as origin, origin.serving(answering(echo)):
        start_balancer([origin.port], listeners=listeners)
        with pytest.raises(AssertionError, match=r"cannot listen on unix:.*already in use"):
            start_balancer([origin.port], listeners=listeners)
        with over_unix(path) as client:
            assert client.ask(GET).status == 200


def activated(
    folder: Path, names: str, addresses: list[object], listeners: list[dict[str, Any]], backend: int
) -> Program:
    """txlb started the way systemd does it."""
    config = folder / "txlb.yaml"
    document = {
        "workers": 2,
        "admin": {"bind": None},
        "access_log": {"format": "off"},
        "listeners": listeners,
        "backends": [{"id": "b", "host": "127.0.0.1", "port": backend}],
        "routing_rules": [{"backends": ["b"]}],
    }
    config.write_text(json.dumps(document))
    command = twistd("txlb", f"--config={config}")
    return Program(
        python("-c", LAUNCHER, names, ",".join(map(str, addresses)), *command), env=child_environment()
    )


def get(port: int, host: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request("GET", "/")
    status = connection.getresponse().status
    connection.close()
    return status


def test_sockets_of_systemd_are_served_all_of_a_name_and_again_after_a_reload(
    nothing_left: None, tmp_path: Path
) -> None:
    one, two = free_port(), free_port()
    path = str(tmp_path / "s.sock")
    with Origin() as origin, origin.serving(answering(echo)):
        both = [{"id": "web", "bind": "systemd:web"}, {"id": "local", "bind": ["systemd:local.socket"]}]
        program = activated(tmp_path, "web:web:local.socket", [one, two, path], both, origin.port)
        config = tmp_path / "txlb.yaml"
        try:
            eventually(lambda: "txlb" in program.output and "serves" in program.output, "txlb serves")
            assert f"listener web on 127.0.0.1:{one}, 127.0.0.1:{two}" in program.output
            for _ in range(20):
                assert get(one) == get(two) == 200
            with over_unix(path) as client:
                assert client.ask(GET).status == 200
            document = json.loads(config.read_text())
            for number, listeners in enumerate((both[:1], both), start=1):
                config.write_text(json.dumps({**document, "listeners": listeners}))
                program.send_signal(signal.SIGHUP)
                eventually(lambda: program.output.count("reloaded, generation") == number, "a reload")  # noqa: B023
                assert get(one) == get(two) == 200
            with over_unix(path) as client:
                assert client.ask(GET).status == 200
            assert program.stop() == 0, program.output
            assert os.path.exists(path), "it is systemd's"
        finally:
            program.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    ("bind", "names", "address", "problem"),
    [
        ("systemd:other", "web", "tcp", "systemd passed no socket of that name (but web)"),
        ("systemd:web", "web", "udp", "that socket does not listen for streams"),
    ],
)
def test_what_systemd_passed_and_is_no_use_is_named(
    nothing_left: None, tmp_path: Path, bind: str, names: str, address: str, problem: str
) -> None:
    port = free_port(socket.SOCK_DGRAM if address == "udp" else socket.SOCK_STREAM)
    where = f"udp:{port}" if address == "udp" else port
    program = activated(tmp_path, names, [where], [{"id": "web", "bind": bind}], 1)
    try:
        eventually(lambda: program.returncode is not None, "txlb ends")
        assert program.returncode == 1
        assert f"cannot listen on {bind}: {problem}" in program.output
    finally:
        program.stop(signal.SIGKILL)


def test_without_systemd_the_bind_is_a_clear_error(tmp_path: Path) -> None:
    config = tmp_path / "txlb.yaml"
    config.write_text("admin: {bind: null}\nlisteners: [{id: web, bind: 'systemd:web'}]\n")
    done = subprocess.run(
        twistd("txlb", f"--config={config}"),
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "cannot listen on systemd:web: systemd passed no socket" in done.stderr


def test_both_families_are_two_binds_and_each_client_keeps_its_address(start_balancer: StartBalancer) -> None:
    port = free_port()
    with Origin() as origin, origin.serving(answering(echo)):
        balancer = start_balancer(
            [origin.port], workers=2, listeners=[{"id": "web", "bind": [f"0.0.0.0:{port}", f"[::]:{port}"]}]
        )
        assert get(port) == get(port, "::1") == 200
        assert {line["client_ip"] for line in balancer.logged(2)} == {"127.0.0.1", "::1"}


def test_ipv6_alone_is_not_reached_over_ipv4(start_balancer: StartBalancer) -> None:
    port = free_port(host="::1")
    with Origin() as origin, origin.serving(answering(echo)):
        start_balancer([origin.port], listeners=[{"id": "web", "bind": f"[::]:{port}"}])
        assert get(port, "::1") == 200
        with pytest.raises(ConnectionRefusedError):
            get(port)
