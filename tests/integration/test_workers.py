"""Several workers, and common programs as clients: all serve, all are counted, nothing stays behind."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.balancer import Balancer, Nginx, children
from support.origins import Origin, Visit, answering, echo, eventually
from support.ports import free_port
from support.processes import find_tool
from support.wire import Message, ok

from txlb.net.scheduling import LONG, slice_of

Start = Callable[..., Balancer]


def run(*command: object) -> str:
    """What a program printed; it must succeed."""
    tool, *arguments = map(str, command)
    path = find_tool(tool)
    assert path is not None
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_four_workers_all_serve_and_none_stays_behind(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers=4)
    pids = balancer.worker_pids()
    assert len(pids) == 4
    with origin.serving(answering(echo)):
        asked = 0
        served: set[str] = set()

        def everyone() -> bool:
            nonlocal asked
            for _ in range(20):
                with balancer.connect() as client:
                    assert client.ask("GET / HTTP/1.1\nHost: a").status == 200
                asked += 1
            served.update(line["worker"] for line in balancer.logged(asked))
            return len(served) == 4

        eventually(everyone, "all four have served")
        assert served == {f"worker-{number}" for number in range(1, 5)}
        eventually(lambda: balancer.metric("txlb_http_requests_total") == asked, "all are counted")
        assert balancer.metric("txlb_worker_up") == 4
        everyone_pid = [balancer.program.pid, *pids]
        balancer.stop()
    assert not [pid for pid in everyone_pid if Path(f"/proc/{pid}").exists()]


def test_a_backends_limit_is_that_of_all_workers_together(origin: Origin, start_balancer: Start) -> None:
    limit = 4
    backend = {"id": "b", "host": "127.0.0.1", "port": origin.port, "max_connections": limit}
    rules = [{"id": "all", "backends": ["b"], "retries": {"max": 0}}]
    balancer = start_balancer([], workers=3, backends=[backend], routing_rules=rules)
    go_on = threading.Event()

    def script(visit: Visit) -> None:
        while True:
            message = visit.request()
            if message.target == "/hold":
                assert go_on.wait(50)
            visit.send(echo(message))

    def asked() -> set[int]:
        statuses = set()
        for _ in range(20):
            with balancer.connect() as client:
                statuses.add(client.ask("GET / HTTP/1.1\nHost: a").status)
        return statuses

    with origin.serving(script), ExitStack() as stack:
        holders = [stack.enter_context(balancer.connect()) for _ in range(limit)]
        for number, holder in enumerate(holders, 1):
            holder.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda wanted=number: held(origin) == wanted, "the backend has the request")
        eventually(lambda: asked() == {503}, "no worker has room any more")
        go_on.set()
        assert [holder.answer().status for holder in holders] == [200] * limit
        eventually(lambda: asked() == {200}, "all workers have room again")


def held(origin: Origin) -> int:
    return [message.target for message in origin.requests].count("/hold")


def test_whoever_serves_clients_goes_first(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers=1)
    usual = slice_of()
    (worker,) = balancer.worker_pids()
    eventually(lambda: slice_of(worker) == usual, "workers have the usual slice")
    if usual:  # older kernels do not tell
        eventually(lambda: slice_of(balancer.program.pid) == pytest.approx(LONG), "control has a long one")
    alone = start_balancer([origin.port], workers=0)
    eventually(lambda: slice_of(alone.program.pid) == usual, "control has the usual slice where it serves")


def test_control_itself_serves_without_workers(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers=0)
    assert children(balancer.program.pid) == []
    with origin.serving(answering(echo)), balancer.connect() as client:
        assert client.ask("GET /x HTTP/1.1\nHost: a").status == 200
    assert balancer.line("/x")["worker"] == "worker-1"


def test_as_many_workers_as_cores_by_default(origin: Origin, start_balancer: Start) -> None:
    balancer = start_balancer([origin.port], workers="auto")
    assert len(children(balancer.program.pid)) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("workers", [2, 0])
def test_a_killed_control_process_takes_its_workers_along(
    origin: Origin, start_balancer: Start, workers: int
) -> None:
    balancer = start_balancer([origin.port], workers=workers)
    pids = balancer.worker_pids()
    balancer.program.send_signal(9)
    eventually(lambda: balancer.program.returncode is not None, "control is gone")
    eventually(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "its workers, too")


@pytest.mark.integration(needs="nginx,wrk")
def test_wrk(tmp_path: Path, start_balancer: Start) -> None:
    ports = [free_port(), free_port()]
    servers = "".join(
        f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "from {number}"; }} }}\n'
        for number, port in enumerate(ports)
    )
    with Nginx(tmp_path / "nginx", servers) as nginx:
        nginx.ready(ports[1])
        balancer = start_balancer(ports, workers=2)
        printed = run("wrk", "-t2", "-c32", "-d2s", balancer.url)
        assert "Non-2xx" not in printed
        assert "Socket errors" not in printed
        answered = int(re.findall(r"(\d+) requests in", printed)[0])
        eventually(lambda: balancer.connections() == 0, "wrk is gone")
        # wrk leaves in the middle of as many exchanges as it has connections
        log = balancer.log()
        assert answered <= len(log) <= answered + 32
        eventually(
            lambda: len(balancer.log()) == balancer.metric("txlb_http_requests_total"), "all are counted"
        )
        assert {line["status"] for line in balancer.log()} <= {200, None}
        shares = Counter(line["backend"] for line in balancer.log())
        assert abs(shares["b0"] - shares["b1"]) <= 64  # each worker goes round by itself


@pytest.mark.integration(needs="nginx,ab")
@pytest.mark.parametrize("options", [[], ["-k"]], ids=["close", "keep-alive"])
def test_ab_speaks_http_1_0(tmp_path: Path, start_balancer: Start, options: list[str]) -> None:
    port = free_port()
    server = f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }}'
    with Nginx(tmp_path / "nginx", server) as nginx:
        nginx.ready(port)
        balancer = start_balancer([port])
        printed = run("ab", "-q", *options, "-n", 1000, "-c", 8, balancer.url + "/")
        assert re.search(r"Complete requests: +1000\n", printed)
        assert re.search(r"Failed requests: +0\n", printed)
        assert "Non-2xx" not in printed
        if options:
            assert re.search(r"Keep-Alive requests: +1000\n", printed)
        assert len(balancer.logged(1000)) == 1000
        assert {(line["version"], line["status"]) for line in balancer.log()} == {("HTTP/1.0", 200)}


@pytest.mark.integration(needs="curl")
@pytest.mark.parametrize("workers", [1, 0])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_curl_posts_much_and_expects_100(
    origin: Origin, start_balancer: Start, tmp_path: Path, workers: int, chunked: bool
) -> None:
    size = 8 << 20
    (tmp_path / "body").write_bytes(b"x" * size)

    def answer(request: Message) -> bytes:
        return ok(b"%d bytes" % len(request.body))

    balancer = start_balancer([origin.port], workers=workers)
    framing = ["-H", "Transfer-Encoding: chunked"] if chunked else []
    upload = ["-sS", "--data-binary", f"@{tmp_path}/body", "-H", "Expect: 100-continue", *framing]
    with origin.serving(answering(answer)):
        # this origin never says 100: curl goes on after a second
        printed = run("curl", *upload, "-w", "|%{http_code}", balancer.url + "/up")
        assert printed == f"{size} bytes|200"
        (request,) = origin.requests
        assert request.get("expect") == "100-continue"
        assert request.body == b"x" * size


@pytest.mark.integration(needs="curl,nginx")
def test_curl_and_nginx(tmp_path: Path, start_balancer: Start) -> None:
    """Upload and download, 100-continue answered by nginx, many answers on one connection."""
    port = free_port()
    folder = tmp_path / "nginx"
    folder.mkdir()
    (folder / "file").write_bytes(bytes(range(256)) * 40000)
    server = (
        f'server {{ listen 127.0.0.1:{port}; location = /done {{ return 200 "done"; }}'
        f" location = /up {{ proxy_pass http://127.0.0.1:{port}/done; }} location / {{ root {folder}; }} }}"
    )
    with Nginx(folder, server) as nginx:
        nginx.ready(port)
        balancer = start_balancer([port])
        file = f"{balancer.url}/file"
        run("curl", "-sS", "-o", tmp_path / "got", file)
        assert (tmp_path / "got").read_bytes() == (folder / "file").read_bytes()
        part = run("curl", "-sS", "-r", "65-67", file)
        assert part == "ABC"
        head = run("curl", "-sSI", file)
        assert "Content-Length: 10240000" in head
        body = ["--data-binary", f"@{folder}/file", "-H", "Expect: 100-continue"]
        printed = run("curl", "-sSv", "--stderr", "-", *body, f"{balancer.url}/up")
        assert "< HTTP/1.1 100 Continue" in printed
        assert "\ndone" in printed
        many = run("curl", "-sS", "-w", "%{num_connects}\n", *[f"{balancer.url}/done"] * 10)
        assert re.findall(r"done(\d)", many) == ["1"] + ["0"] * 9
        tag = re.findall(r"ETag: (\S+)", head)[0]
        code = ["-o", "/dev/null", "-w", "%{http_code}"]
        assert run("curl", "-sS", *code, "-H", f"If-None-Match: {tag}", file) == "304"
