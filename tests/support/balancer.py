"""A running txlb, started as a user does: ``twistd -n txlb --config=FILE``, and looked at from outside.

Rules:

* Ports are the kernel's choice (``bind`` with port 0), read from what txlb prints.
* `stop` asserts a clean end: exit status 0, no process left, no fault of txlb's own in its output.
* The access log is a file; a line is read once it is whole.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError

from support.origins import eventually
from support.processes import Program, accepts, child_environment, find_tool, twistd
from support.wire import Wire

#: How long starting and stopping may take: less than ``timeouts.shutdown`` (30 s by default), for only what
#: is stuck makes txlb use that up.
PATIENCE = 25.0

LISTENER = {"id": "web", "bind": "127.0.0.1:0"}
_ADDRESS = re.compile(r"(?:listener (\S+)|(admin API)) on ([^\s,]+)")
STREAM_MODULE = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_FAULTS = ("Traceback", "fault in txlb", "Unhandled", "Unexpected error")


class Metrics(dict[tuple[str, tuple[tuple[str, str], ...]], float]):
    """One scrape: samples by name and labels."""

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples called ``name`` that have ``labels``."""
        wanted = set(labels.items())
        return sum(value for (key, found), value in self.items() if key == name and wanted <= set(found))


class Balancer:
    """One txlb and what it says about itself."""

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int] = (),
        workers: int = 1,
        prefix: Sequence[str] = (),
        token: str = "",
        options: Sequence[str] = (),
        interpreter: str = "",
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """``ports``: of backends ``b0`` … behind one rule, not checked, so that they see nothing but what the
        test sends; ``settings``: top-level keys.

        ``token``: for the admin port. ``options``: of twistd. ``interpreter``: another than this, with
        ``environment``.
        """
        self.folder = folder
        self.token = token
        self.log_path = folder / "access.log"
        self.workers = workers
        self.config: dict[str, Any] = {
            "workers": workers,
            "admin": {"bind": "127.0.0.1:0"},
            "access_log": {"path": str(self.log_path)},
            "listeners": [LISTENER],
            "backends": [
                {"id": f"b{index}", "host": "127.0.0.1", "port": port, "health_check": "off"}
                for index, port in enumerate(ports)
            ],
            "routing_rules": [{"id": "all", "backends": [f"b{index}" for index in range(len(ports))]}],
            **settings,
        }
        path = folder / "txlb.yaml"
        path.write_text(json.dumps(self.config))
        self.path = path
        env = child_environment(PYTHONFAULTHANDLER="1", **(environment or {}))
        command = twistd(*options, "txlb", f"--config={path}")
        command[0] = interpreter or command[0]
        self.program = Program([*prefix, *command], env=env, cwd=folder)
        self._stopped = False
        self.ports: dict[str, int] = {}
        try:
            self._wait()
        except BaseException:
            self.program.stop(signal.SIGKILL)
            raise

    def _wait(self) -> None:
        wanted = len(self.config["listeners"]) + 1
        deadline = time.monotonic() + PATIENCE
        while len(self.ports) < wanted:
            code = self.program.returncode
            assert code is None, f"txlb ended with {code}:\n{self.program.output}"
            assert time.monotonic() < deadline, f"txlb does not serve:\n{self.program.output}"
            time.sleep(0.02)
            for listener, _, address in _ADDRESS.findall(self.program.output):
                port = address.rpartition(":")[2]
                self.ports[listener or "admin"] = int(port) if port.isdecimal() else 0
        eventually(lambda: self.admin("/health")[0] == 200, "GET /health answers 200")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *ignored: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def reload(self, **settings: Any) -> None:
        """With other settings."""
        self.config.update(settings)
        self.path.write_text(json.dumps(self.config))
        before = self.health()["generation"]
        self.program.send_signal(signal.SIGHUP)
        eventually(lambda: self.health()["generation"] > before, "the reload")

    @property
    def port(self) -> int:
        return self.ports[self.config["listeners"][0]["id"]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, receive_buffer: int = 0) -> Wire:
        return Wire.to(self.port, receive_buffer=receive_buffer)

    # -- what it says ------------------------------------------------------------------------

    def admin(self, path: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['admin']}{path}")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def call(
        self, method: str, path: str, body: Any = None, within: float = 70.0, **fields: str
    ) -> tuple[int, Any]:
        """Status and JSON of a call of the admin API; ``body`` goes as JSON."""
        status, found, _ = self.call_whole(method, path, body, within, **fields)
        return status, found

    def call_whole(
        self, method: str, path: str, body: Any = None, within: float = 70.0, **fields: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """`call`, and the fields of the answer."""
        connection = HTTPConnection("127.0.0.1", self.ports["admin"], timeout=within)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if method not in ("GET", "HEAD"):
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(raw) if raw else None, answer.headers

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.admin("/health")[1])
        return found

    def connections(self) -> int:
        """Client connections open now."""
        count: int = self.health()["active_connections"]
        return count

    def metrics(self) -> Metrics:
        found = Metrics()
        for line in self.admin("/metrics")[1].decode().splitlines():
            if (match := _SAMPLE.match(line)) and not line.startswith("#"):
                found[match[1], tuple(_LABEL.findall(match[2] or ""))] = float(match[3])
        return found

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics().total(name, **labels)

    def log(self) -> list[dict[str, Any]]:
        """The access log so far."""
        if not self.log_path.exists():
            return []
        whole, _, _ = self.log_path.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def logged(
        self, count: int = 1, when: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> list[dict[str, Any]]:
        """The lines ``when`` holds for, as soon as there are ``count``."""
        eventually(
            lambda: len([line for line in self.log() if when(line)]) >= count, f"{count} lines in the log"
        )
        return [line for line in self.log() if when(line)]

    def line(self, target: str) -> dict[str, Any]:
        """The one line about ``target``, waited for."""
        found = self.logged(1, lambda line: line["target"] == target)
        assert len(found) == 1, found
        return found[0]

    # -- processes ----------------------------------------------------------------------------

    def worker_pids(self) -> list[int]:
        """Pids of what forwards: the workers, or the control process with ``workers: 0``."""
        return children(self.program.pid) if self.workers else [self.program.pid]

    def resident(self) -> int:
        """Resident bytes of the process that forwards most."""
        return max(resident(pid) for pid in self.worker_pids())

    def cpu(self) -> float:
        """CPU seconds that the forwarding processes used so far."""
        return sum(cpu_seconds(pid) for pid in self.worker_pids())

    def faults(self) -> list[str]:
        """Lines of the output that speak of a fault of txlb's own."""
        return [line for line in self.program.output.splitlines() if any(word in line for word in _FAULTS)]

    def stop(self, within: float = PATIENCE) -> None:
        """SIGTERM, and a clean end; it is gone afterwards, whatever this finds fault with."""
        if self._stopped:
            return
        pids = [self.program.pid, *children(self.program.pid)]
        try:
            if self.program.returncode is None:
                self.program.send_signal(signal.SIGTERM)
            self.ended(within)
            left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        finally:
            self.kill()
        assert not left, f"left behind: {left}"

    def ended(self, within: float = PATIENCE) -> None:
        """Wait until it has ended by itself: with 0 and without a fault."""
        eventually(lambda: self.program.returncode is not None, "txlb ends", within)
        assert self.program.returncode == 0, self.program.output
        assert not self.faults(), self.program.output

    def kill(self) -> None:
        self._stopped = True
        self.program.stop(signal.SIGKILL)


class Nginx:
    """An nginx in the foreground with these ``http`` and ``stream`` directives; stopped by ``with``."""

    def __init__(self, folder: Path, servers: str, workers: int = 1, stream: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "nginx.conf").write_text(
            f"{STREAM_MODULE if stream else ''}\n"
            f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes {workers};\n"
            "events { worker_connections 4096; }\n"
            "http { access_log off; keepalive_requests 1000000; client_max_body_size 0;\n"
            f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
            f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n"
            f"scgi_temp_path {folder}/scgi;\n"
            f"{servers}\n}}\n" + (f"stream {{\n{stream}\n}}\n" if stream else "")
        )
        tool = find_tool("nginx")
        assert tool is not None
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        self.program = Program(
            [tool, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log", *user], cwd=folder
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.program.stop()

    def ready(self, port: int) -> Self:
        wait_for_port(port, self.program)
        return self

    @property
    def pid(self) -> int:
        return self.program.pid


def start_haproxy(folder: Path, sections: str) -> Program:
    """A HAProxy in the foreground; the caller stops it."""
    tool = find_tool("haproxy")
    assert tool is not None
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "haproxy.cfg"
    config.write_text(
        f"defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n{sections}\n"
    )
    return Program([tool, "-db", "-f", str(config)], cwd=folder)


def wait_for_port(port: int, program: Program | None = None) -> None:
    """Wait until ``port`` accepts connections."""
    deadline = time.monotonic() + PATIENCE
    while not accepts(port):
        if program is not None:
            assert program.returncode is None, program.output
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Pids of the children of ``pid``."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def resident(pid: int) -> int:
    """Resident bytes of ``pid``."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """CPU seconds that ``pid`` used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
