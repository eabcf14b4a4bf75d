"""``twistd --uid --gid``: started as root, bound below 1024, and from then on nobody's, whatever happens."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import twisted
from support.balancer import Balancer, children
from support.origins import Origin, answering, echo, eventually
from support.ports import free_port
from support.processes import child_environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

USER, GROUP = "nobody", "nogroup"
OPTIONS = (f"--uid={USER}", f"--gid={GROUP}")
PACKAGES = str(Path(twisted.__file__).parents[1])


@pytest.fixture(scope="module")
def runtime() -> dict[str, object]:
    """An interpreter that nobody may run, and where it finds everything.

    That of the tests may lie in root's home; Debian's then runs the same packages, if it is of the same
    version.
    """
    home = child_environment()["PYTHONPATH"]
    environment = {"PYTHONPATH": os.pathsep.join((home, PACKAGES))}
    wanted = (
        "import ssl, sqlite3, sys, klein, OpenSSL, txlb.service; print(*sys.version_info[:2], sys.abiflags)"
    )
    mine = f"{sys.version_info[0]} {sys.version_info[1]} {sys.abiflags}".strip()
    problems = []
    for interpreter in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
        try:
            done = subprocess.run(
                [interpreter, "-P", "-c", wanted],
                user=USER,
                group=GROUP,
                extra_groups=[],
                env=child_environment(**environment),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            problems.append(str(error))
            continue
        if done.returncode == 0 and done.stdout.strip() == mine:
            return {"interpreter": interpreter, "environment": environment}
        problems.append(f"{interpreter}: {done.stdout}{done.stderr}")
    problem = f"{USER} can run no Python with txlb: " + "; ".join(problems)
    if os.environ.get("TXLB_REQUIRE_PEERS"):
        pytest.fail(problem, pytrace=False)
    pytest.skip(problem)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that belongs to nobody; pytest's are for root only."""
    with tempfile.TemporaryDirectory(prefix="txlb-") as name:
        os.chown(name, pwd.getpwnam(USER).pw_uid, -1)
        yield Path(name)


def privileged_port() -> int:
    """One below 1024 that is free."""
    for port in range(1023, 600, -1):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("every port from 601 on is taken")


def rights(pid: int) -> dict[str, set[str]]:
    """What the kernel says of a process: ids (real, effective, saved, of files), groups, capabilities."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, values = line.partition(":")
        if name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapInh", "CapAmb"):
            found[name] = set(values.split())
    return found


def nobodys(pid: int) -> bool:
    user = pwd.getpwnam(USER)
    have = rights(pid)
    none = {"0" * 16}
    return (
        have["Uid"] == {str(user.pw_uid)}
        and have["Gid"] == {str(user.pw_gid)}
        and have["Groups"] <= {str(user.pw_gid)}
        and all(have[name] == none for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"))
    )


def owner(path: Path) -> str:
    return pwd.getpwuid(path.stat().st_uid).pw_name


def asks(port: int) -> int:
    """A status code."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return int(sock.makefile("rb").readline().split()[1])


def listener(id: str, port: int) -> dict[str, object]:
    return {"id": id, "bind": f"127.0.0.1:{port}"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [2, 0])
def test_privileges_are_given_up_and_not_missed(
    origin: Origin, folder: Path, runtime: dict[str, object], workers: int
) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024:
        raise AssertionError("here everybody may bind ports below 1024: nothing would be shown")
    low, store = privileged_port(), folder / "store.sqlite"
    with (
        origin.serving(answering(echo)),
        Balancer(
            folder,
            [origin.port],
            workers=workers,
            options=OPTIONS,
            listeners=[listener("web", low)],
            store=str(store),
            **runtime,
        ) as balancer,
    ):
        assert asks(low) == 200
        for pid in {balancer.program.pid, *balancer.worker_pids()}:
            assert nobodys(pid), rights(pid)

        if workers:
            victim, other = balancer.worker_pids()
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: balancer.metric("txlb_worker_restarts_total") == 1, "it is replaced")
            eventually(lambda: balancer.metric("txlb_worker_up") == 2, "both are up")
            successor = (set(balancer.worker_pids()) - {other}).pop()
            assert successor != victim and nobodys(successor), rights(successor)
            asked = 0

            def served() -> bool:
                nonlocal asked
                for _ in range(20):
                    assert asks(low) == 200
                asked += 20
                return len({line["worker"] for line in balancer.logged(asked)}) == 2

            eventually(served, "the successor serves, too")

        # The admin API, and what it writes
        status, _ = balancer.call(
            "POST", "/backends", {"id": "new", "host": "127.0.0.1", "port": origin.port}
        )
        assert status == 201
        assert owner(store) == USER and stat.S_IMODE(store.stat().st_mode) == 0o600
        assert b"new" in store.read_bytes() + (folder / "store.sqlite-wal").read_bytes()

        # SIGHUP: another log, another listener
        assert owner(balancer.log_path) == USER
        balancer.log_path.rename(folder / "access.log.1")
        high = free_port()
        balancer.reload(listeners=[listener("web", low), listener("more", high)])
        assert asks(high) == 200
        eventually(lambda: asks(low) == 200 and balancer.log(), "the new log is written")
        assert owner(balancer.log_path) == USER

        # What nobody may not do is told, and changes nothing
        before = balancer.health()["generation"]
        lower = privileged_port()
        balancer.config["listeners"] = [listener("web", low), listener("denied", lower)]
        balancer.path.write_text(json.dumps(balancer.config))
        status, problem = balancer.call("POST", "/reload")
        assert status == 422
        assert f"127.0.0.1:{lower}: permission denied: ports below 1024 need root" in str(problem)
        balancer.program.send_signal(signal.SIGHUP)
        eventually(lambda: "reload refused" in balancer.program.output, "SIGHUP says so, too")
        assert balancer.health()["generation"] == before
        assert asks(low) == asks(high) == 200


def test_unix_sockets_where_only_root_may_write(
    origin: Origin, folder: Path, runtime: dict[str, object]
) -> None:
    """They are bound before, keep their modes, and what nobody may not remove the next start replaces."""
    roots = folder / "roots"
    roots.mkdir(mode=0o755)
    web, scrape = roots / "web.sock", roots / "metrics.sock"
    for _ in range(2):
        with (
            origin.serving(answering(echo)),
            Balancer(
                folder,
                [origin.port],
                options=OPTIONS,
                listeners=[{"id": "web", "bind": f"unix:{web}"}],
                metrics={"bind": f"unix:{scrape}"},
                **runtime,
            ),
        ):
            for path, target, mode in ((web, "/", 0o666), (scrape, "/metrics", 0o660)):
                assert stat.S_IMODE(path.stat().st_mode) == mode
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(path))
                    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert web.exists() and scrape.exists()


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.timeout(120)
def test_a_daemon_is_nobodys_too(origin: Origin, folder: Path, runtime: dict[str, object]) -> None:
    """Without ``-n``: forked, its log a file, told apart by its pid file alone."""
    low, pid_file, log, access = privileged_port(), *(folder / name for name in ("pid", "log", "access"))
    config = folder / "lb.yaml"
    options = {"pidfile": pid_file, "logfile": log, "uid": USER, "gid": GROUP}

    def write(**settings: object) -> None:
        backend = {"id": "a", "host": "127.0.0.1", "port": origin.port}
        document = {
            "workers": 2,
            "admin": {"bind": "127.0.0.1:0"},
            "access_log": {"path": str(access)},
            "listeners": [listener("web", low)],
            "backends": [backend],
            "routing_rules": [{"backends": ["a"]}],
        }
        config.write_text(json.dumps({**document, **settings}))

    def start(**more: object) -> subprocess.CompletedProcess[str]:
        command = [
            str(runtime["interpreter"]),
            *("-P", "-c", "from twisted.scripts.twistd import run; run()"),
            *(f"--{name}={value}" for name, value in {**options, **more}.items()),
            *("txlb", f"--config={config}"),
        ]
        environment = child_environment(**runtime["environment"])  # type: ignore[arg-type]
        return subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )

    def served(times: int) -> bool:
        return [asks(low) for _ in range(times)] == [200] * times

    write()
    with origin.serving(answering(echo)):
        done = start()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        pid = int(pid_file.read_text())
        try:
            eventually(lambda: "serves: 2 workers" in log.read_text(), "it serves")
            victim, other = children(pid)
            assert all(map(nobodys, (pid, victim, other))) and served(4)

            os.kill(victim, signal.SIGKILL)
            eventually(lambda: gone(victim) and len(children(pid)) == 2, "a successor")
            assert all(map(nobodys, children(pid))) and served(20)

            assert owner(access) == USER
            access.rename(folder / "access.1")
            high = free_port()
            write(listeners=[listener("web", low), listener("more", high)])
            os.kill(pid, signal.SIGHUP)
            eventually(lambda: "reloaded, generation 2" in log.read_text(), "the reload")
            assert asks(high) == 200
            eventually(lambda: access.exists() and access.read_text() != "", "the new access log")
            assert owner(access) == USER

            second = start(pidfile=folder / "pid.2", logfile=folder / "log.2")
            assert second.returncode == 1
            assert f"cannot listen on 127.0.0.1:{low}: address already in use" in second.stderr
            assert not (folder / "pid.2").exists() and served(4)

            workers = children(pid)
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: all(map(gone, (pid, *workers))), "the end")
            assert not pid_file.exists()
            assert "Traceback" not in log.read_text() and "Server Shut Down." in log.read_text()
        finally:
            for one in (pid, *children(pid)):
                if not gone(one):
                    os.kill(one, signal.SIGKILL)
