"""``twistd txlb`` as operators meet it: real processes, started, signalled, refused.

Where workers matter they run the stand-in plane (`support.plane`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.http import get, get_now
from support.ports import free_port
from support.processes import Program, accepts, child_environment, pause, python, twistd
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

import txlb
from txlb.control.balancer import StartFailure
from txlb.core.model import Snapshot
from txlb.service import Options, build

TAC = str(Path(__file__).parent / "support" / "stand_in_tac.py")
DAEMON = "from twisted.scripts.twistd import run; run()"


class Configured:
    """A configuration file on free ports."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lb.yaml"
        self.port = free_port()
        self.admin = free_port()
        self.write()

    def write(self, **changes: Any) -> None:
        document: dict[str, Any] = {
            "workers": 2,
            "admin": {"bind": f"127.0.0.1:{self.admin}"},
            "timeouts": {"shutdown": "3s"},
            "access_log": {"format": "off"},
            "listeners": [{"id": "web", "bind": f"127.0.0.1:{self.port}"}],
            "backends": [{"id": "a", "host": "127.0.0.1", "port": 9}],
            "routing_rules": [{"backends": ["a"]}],
        }
        self.path.write_text(json.dumps({**document, **changes}))

    @property
    def stand_in(self) -> list[str]:
        return twistd("-y", TAC)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(sys.path)
        return child_environment(TXLB_TEST_CONFIG=str(self.path), PYTHONPATH=path)


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


Start = Callable[..., Program]


@pytest.fixture
def balancer(configured: Configured, start_program: Start) -> Callable[[], Any]:
    async def start() -> Program:
        program: Program = start_program(configured.stand_in, env=configured.environment)
        await until(lambda: healthy(configured), program)
        return program

    return start


def healthy(configured: Configured) -> bool:
    try:
        return get_now(configured.admin, "/health").status == 200
    except OSError:
        return False


async def until(true: Callable[[], bool], program: Program | None = None, within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        text = "" if program is None else program.output
        assert program is None or program.returncode is None, text
        assert time.monotonic() < deadline, text
        await pause(0.02)


def workers_of(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env or child_environment(), capture_output=True, text=True, timeout=20, check=False
    )


# -- options -------------------------------------------------------------------------------------------------


def test_a_good_file_is_ok(configured: Configured):
    done = run(*twistd("txlb", f"--config={configured.path}", "--check"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


@pytest.mark.parametrize("check", [["--check"], []])
def test_a_bad_file_is_refused_with_every_error_on_a_line(configured: Configured, check: list[str]):
    configured.write(workerz=1, timeouts={"conect": "1s"})
    done = run(*twistd("txlb", f"--config={configured.path}", *check))
    assert done.returncode == 1
    text, nothing = (done.stdout, done.stderr) if check else (done.stderr, done.stdout)
    assert nothing == ""
    assert len(text.splitlines()) == 2
    assert all(line.startswith(f"{configured.path}:1:") for line in text.splitlines())
    assert "did you mean workers?" in text
    assert "did you mean connect?" in text


@pytest.mark.parametrize("check", [["--check"], []])
def test_files_of_the_admin_port_are_checked_where_they_are_named(configured: Configured, check: list[str]):
    tokens = configured.path.parent / "tokens"
    tokens.write_text("alice read md5:x\nbob\n")
    tokens.chmod(0o600)
    pair = {"chain": "admin.pem", "key": "admin.key"}
    configured.write(admin={"bind": "127.0.0.1:0", "token_file": "tokens", "tls": {"certificates": [pair]}})
    done = run(*twistd("txlb", f"--config={configured.path}", *check))
    assert done.returncode == 1
    first, second, third = (done.stdout if check else done.stderr).splitlines()
    place = re.escape(f"{configured.path}") + r":1:\d+: admin\."
    assert re.match(place + rf"token_file: {tokens}:1:1: not a line of the form LABEL read|write", first)
    assert re.match(place + rf"token_file: {tokens}:2:1: not a line", second)
    assert re.match(place + r"tls: .*/admin\.pem cannot be read: No such file or directory$", third)


def test_files_that_would_be_written_are_checked_where_they_are_named(configured: Configured):
    configured.write(store="none/store.db", access_log={"path": "none/log"})
    done = run(*twistd("txlb", f"--config={configured.path}", "--check"))
    assert done.returncode == 1
    place, folder = re.escape(f"{configured.path}") + r":1:\d+: ", configured.path.parent / "none"
    told = done.stdout.splitlines()
    for key in ("access_log.path", "store"):
        assert any(re.match(f"{place}{key}: there is no folder {folder}: make it$", line) for line in told)
    assert not folder.exists()


def test_a_missing_file_is_named():
    done = run(*twistd("txlb", "--config=/nothing/lb.yaml"))
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["/nothing/lb.yaml: cannot be read: No such file or directory"]


def test_the_usage_says_the_command_line_once():
    done = run(*twistd("txlb", "--help"))
    assert done.returncode == 0
    usage = " ".join(done.stdout.split("Options:")[0].split())
    assert usage == "Usage: twistd [options] txlb (--config=FILE | --demo) [--check]"


def test_the_schema_is_json():
    done = run(*twistd("txlb", "--print-schema"))
    assert done.returncode == 0
    assert "listeners" in json.loads(done.stdout)["properties"]


def test_the_version_says_whether_it_is_compiled():
    done = run(*twistd("txlb", "--version"))
    assert done.returncode == 0
    assert done.stdout.startswith(f"txlb {txlb.__version__} (")
    assert "(pure)" in done.stdout or "(compiled)" in done.stdout


def test_neither_or_both_of_config_and_demo_is_an_error():
    for arguments in ([], ["--demo", "--config=x"]):
        done = run(*twistd("txlb", *arguments))
        assert done.returncode == 1
        assert "either --config=FILE or --demo" in done.stdout + done.stderr


def test_help_lists_the_plugin_and_its_options():
    assert "txlb" in run(*twistd("--help")).stdout
    text = run(*twistd("txlb", "--help")).stdout
    assert all(option in text for option in ("--config", "--demo", "--check", "--print-schema"))


def test_importing_the_service_installs_no_reactor_and_no_klein():
    code = "import sys, txlb.service; print(*sys.modules)"
    modules = run(*python("-c", code)).stdout.split()
    assert "txlb.control.node" in modules
    assert not {"twisted.internet.reactor", "klein", "prometheus_client"} & set(modules)


def test_options_make_the_path_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    options = Options()
    options.parseOptions(["--config=lb.yaml"])
    assert options["config"] == str(tmp_path / "lb.yaml")


def test_a_start_failure_is_an_error_and_an_exit():
    failure = StartFailure("no port")
    assert isinstance(failure, Exception)
    assert isinstance(failure, SystemExit)
    assert (str(failure), failure.code) == ("no port", 1)


def test_a_reactor_that_is_somebody_else_s_keeps_its_time():
    clock = Clock()
    build(Snapshot(node_id="embedded", workers=0), clock)
    assert "seconds" not in vars(clock)


# -- starting ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_it_serves_and_ends_with_zero(configured: Configured, balancer: Any):
    program = await balancer()
    assert {get_now(configured.port).words[0] for _ in range(40)} == {"worker-1", "worker-2"}
    children = workers_of(program.pid)
    assert len(children) == 2
    program.send_signal(signal.SIGTERM)
    assert await program.ended() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)


@pytest.mark.parametrize("what", ["listener", "admin"])
@pytest_twisted.ensureDeferred
async def test_a_second_instance_is_refused_with_one_line(
    configured: Configured, balancer: Any, what: str, tmp_path: Path
):
    await balancer()
    taken = configured.port if what == "listener" else configured.admin
    if what == "admin":
        configured.write(listeners=[{"id": "web", "bind": f"127.0.0.1:{free_port()}"}])
    line = f"cannot listen on 127.0.0.1:{taken}: address already in use"
    foreground = run(*twistd("txlb", f"--config={configured.path}"))
    assert foreground.returncode == 1
    assert [text for text in foreground.stderr.splitlines() if line in text] == foreground.stderr.splitlines()
    assert "Traceback" not in foreground.stdout
    pid_file, log = tmp_path / "txlb.pid", tmp_path / "txlb.log"
    daemon = python(
        "-c", DAEMON, f"--pidfile={pid_file}", f"--logfile={log}", "txlb", f"--config={configured.path}"
    )
    daemonised = run(*daemon)
    assert daemonised.returncode == 1
    assert line in daemonised.stderr + daemonised.stdout
    assert line in log.read_text()
    await until(lambda: not pid_file.exists())  # twistd removes it after it told its parent
    assert get_now(configured.port).status == 200  # the first one never noticed


@pytest_twisted.ensureDeferred
async def test_daemonised_it_serves_survives_a_kill_and_ends(configured: Configured, tmp_path: Path):
    pid_file = tmp_path / "txlb.pid"
    command = python("-c", DAEMON, f"--pidfile={pid_file}", f"--logfile={tmp_path / 'log'}", "-y", TAC)
    assert run(*command, env=configured.environment).returncode == 0
    await until(pid_file.exists)
    pid = int(pid_file.read_text())
    try:
        await until(lambda: healthy(configured))
        before = workers_of(pid)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(workers_of(pid)) == 2 and workers_of(pid) != before)
        assert get_now(configured.port).status == 200
    finally:
        os.kill(pid, signal.SIGTERM)
    await until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not pid_file.exists()


@pytest_twisted.ensureDeferred
async def test_what_others_could_reach_is_no_admin_address(configured: Configured):
    configured.write(admin={"bind": f"0.0.0.0:{configured.admin}"})
    done = run(*configured.stand_in, env=configured.environment)
    assert done.returncode == 1


# -- signals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest_twisted.ensureDeferred
async def test_requests_in_flight_are_finished(configured: Configured, balancer: Any, number: int):
    program = await balancer()
    slow = [Deferred.fromCoroutine(get(configured.port, "/slow")) for _ in range(6)]
    await pause(0.2)
    program.send_signal(number)
    answers = await gatherResults(slow)
    assert {answer.fields["connection"] for answer in answers} == {"close"}
    assert await program.ended() == 0
    with pytest.raises(ConnectionRefusedError):
        get_now(configured.port)


@pytest_twisted.ensureDeferred
async def test_while_it_stops_health_says_so(configured: Configured, balancer: Any):
    program = await balancer()
    slow = Deferred.fromCoroutine(get(configured.port, "/slow"))
    await pause(0.2)
    program.send_signal(signal.SIGTERM)
    await pause(0.1)
    assert (await get(configured.admin, "/health")).status == 503
    await slow
    assert await program.ended() == 0


@pytest_twisted.ensureDeferred
async def test_a_second_signal_ends_at_once(configured: Configured, balancer: Any):
    configured.write(timeouts={"shutdown": "30s"})
    program = await balancer()
    for pid in workers_of(program.pid):
        os.kill(pid, signal.SIGSTOP)  # they will not finish by themselves
    program.send_signal(signal.SIGTERM)
    await pause(0.4)
    assert program.returncode is None
    program.send_signal(signal.SIGTERM)
    assert await program.ended(5.0) == 0


@pytest_twisted.ensureDeferred
async def test_a_second_signal_ends_what_waits_for_a_thread_only(configured: Configured, balancer: Any):
    program = await balancer()
    configured.path.unlink()
    os.mkfifo(configured.path)  # to read it is to wait for ever
    program.send_signal(signal.SIGHUP)
    await pause(0.5)
    program.send_signal(signal.SIGTERM)
    await until(lambda: not accepts(configured.admin), program)
    await pause(0.5)
    assert program.returncode is None
    program.send_signal(signal.SIGTERM)
    assert await program.ended(5.0) == 1


@pytest_twisted.ensureDeferred
async def test_hang_up_reloads_and_reopens_logs(configured: Configured, balancer: Any):
    program = await balancer()
    other = free_port()
    listeners = [{"id": "web", "bind": [f"127.0.0.1:{configured.port}", f"127.0.0.1:{other}"]}]
    configured.write(listeners=listeners)
    program.send_signal(signal.SIGHUP)
    await until(lambda: get_now(configured.admin, "/health").json["generation"] == 2, program)
    await until(lambda: "reloaded, generation 2" in program.output, program)
    assert get_now(other).words[2] == "2"
    metrics = get_now(configured.admin, "/metrics").body.decode()
    assert "txlb_access_log_dropped_total 2.0" in metrics  # the stand-in counts reopened logs there
    configured.path.write_text("nonsense: 1")
    program.send_signal(signal.SIGHUP)
    await until(lambda: "reload refused; generation 2 stays in force" in program.output, program)
    assert f"{configured.path}:1:1: nonsense" in program.output
    assert get_now(other).words[2] == "2"


@pytest_twisted.ensureDeferred
async def test_workers_end_by_themselves_when_control_is_killed(configured: Configured, balancer: Any):
    program = await balancer()
    children = workers_of(program.pid)
    slow = Deferred.fromCoroutine(get(configured.port, "/slow"))
    await pause(0.2)
    os.kill(program.pid, signal.SIGKILL)
    assert (await slow).status == 200
    await until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), within=5.0)


@pytest_twisted.ensureDeferred
async def test_the_output_of_workers_reaches_the_log(configured: Configured, balancer: Any):
    program = await balancer()
    await until(lambda: "worker-1: " in program.output, program)
