"""PostgreSQL through a TCP listener: a long transaction, a big COPY both ways, many short connections."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.balancer import Balancer
from support.origins import eventually
from support.ports import free_port
from support.processes import Program

pytestmark = [pytest.mark.integration(needs="psql,pgbench,pg_ctlcluster"), pytest.mark.timeout(180)]

Start = Callable[..., Balancer]
ROWS = 200_000
#: In the default run a few hundred; thousands where somebody has the time.
CONNECTIONS = int(os.environ.get("TXLB_TEST_CONNECTIONS", "400"))


def as_postgres(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture
def postgresql(start_program: Callable[..., Program]) -> Iterator[int]:
    """A server of its own; its port."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="txlb-postgresql-"))  # pytest's own are closed to other users
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data = str(folder / "data")
        initdb = [str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        subprocess.run(
            as_postgres(*initdb, "--no-sync"), check=True, capture_output=True, timeout=60, cwd="/"
        )
        port = free_port()
        settings = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": "50"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = [str(binaries / "postgres"), "-D", data, "-p", str(port), "-k", str(folder), *options]
        program = start_program(as_postgres(*server))
        eventually(lambda: "ready to accept connections" in program.output, "PostgreSQL is ready")
        yield port
        program.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def balanced(start_balancer: Start, port: int) -> Balancer:
    listener = {"id": "db", "bind": "127.0.0.1:0", "protocol": "tcp"}
    rule = {"id": "db", "listeners": ["db"], "backends": ["b0"]}
    return start_balancer([port], workers=2, listeners=[listener], routing_rules=[rule])


def psql(port: int, *commands: str) -> str:
    """What one session that executes ``commands`` prints."""
    words = [word for command in commands for word in ("-c", command)]
    call = [
        "psql",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-U",
        "postgres",
        "-d",
        "postgres",
        "-X",
        "-A",
        "-t",
        "-q",
    ]
    done = subprocess.run([*call, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_long_transaction_sees_its_own_work_and_others_only_after_it(
    start_balancer: Start, postgresql: int
) -> None:
    balancer = balanced(start_balancer, postgresql)
    psql(balancer.port, "create table t (n int)")
    steps = [f"insert into t values ({number}); select pg_sleep(0.1)" for number in range(30)]
    seen = psql(
        balancer.port, "begin", *steps, "select count(*) from t", "rollback", "select count(*) from t"
    )
    assert [line for line in seen.splitlines() if line] == ["30", "0"]
    balancer.stop()


def test_a_big_copy_both_ways_keeps_every_byte(
    start_balancer: Start, postgresql: int, tmp_path: Path
) -> None:
    balancer = balanced(start_balancer, postgresql)
    port = balancer.port
    file = tmp_path / "rows"
    psql(port, f"create table a as select g n, md5(g::text) v from generate_series(1, {ROWS}) g")
    psql(port, f"\\copy a to '{file}'")
    assert len(file.read_bytes().splitlines()) == ROWS
    psql(port, "create table b (n int, v text)", f"\\copy b from '{file}'")
    sums = psql(
        port,
        *(f"select md5(string_agg(n || v, ',' order by n)) from {table}" for table in ("a", "b")),
    ).split()
    assert len(sums) == 2 and sums[0] == sums[1]
    size = file.stat().st_size
    eventually(lambda: balancer.metric("txlb_bytes_total", direction="in") > size, "bytes in")
    eventually(lambda: balancer.metric("txlb_bytes_total", direction="out") > size, "bytes out")
    balancer.stop()


def test_a_connection_for_every_query(start_balancer: Start, postgresql: int, tmp_path: Path) -> None:
    balancer = balanced(start_balancer, postgresql)
    script = tmp_path / "one.sql"
    script.write_text("select 1;\n")
    clients = 8
    each = -(-CONNECTIONS // clients)
    call = ["pgbench", "-n", "-C", "-c", str(clients), "-t", str(each), "-f", str(script)]
    call += ["-h", "127.0.0.1", "-p", str(balancer.port), "-U", "postgres", "postgres"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert f"number of transactions actually processed: {clients * each}/{clients * each}" in done.stdout
    lines = balancer.logged(clients * each)
    assert {line["termination"] for line in lines} == {"--"}
    balancer.stop()
