"""The contenders: how each proxy is configured and started in front of a backend of its own.

A contender is a proxy with a case (how many backends, how large an answer). ``PROXIES`` holds a builder for
each name; a new peer is one builder and one file under ``peers/``.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .procs import BenchmarkError, Process, Workshop, free_port

PEER_FILES = Path(__file__).parent / "peers"
PEERS = ("haproxy", "nginx", "envoy")
DIRECT = "direct"
START_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
NGINX_KEEPALIVE = 512


@dataclass(frozen=True)
class Programs:
    """Where the programs are that do not come from PATH."""

    txlb_python: str = sys.executable
    txlb_pure_python: str | None = None
    envoy: str | None = None


@dataclass(frozen=True)
class Case:
    """What a contender has to serve."""

    backends: int = 1
    answer: int = 64


@dataclass
class Contender:
    """A running proxy (or the bare backend, for the direct path) and its log."""

    label: str
    proxy: str
    port: int
    process: Process | None
    log: Path | None = None
    discounted: list[Process] = field(default_factory=list)
    sent: int = 0
    logged: int = 0

    def drain_log(self) -> None:
        """Count the lines so far and start the file over, so that long series do not fill the memory."""
        if self.log is not None and self.log.exists():
            with self.log.open("r+b") as lines:
                while piece := lines.read(1 << 20):
                    self.logged += piece.count(b"\n")
                lines.truncate(0)


def fill(template: str, values: dict[str, str]) -> str:
    """The peer file with every ``@NAME@`` replaced; a name without a value is an error."""

    def value(match: re.Match[str]) -> str:
        return values[match.group(1)]

    return re.sub(r"@([A-Z_]+)@", value, (PEER_FILES / template).read_text())


def addresses(count: int) -> Iterator[str]:
    """``count`` distinct addresses within 127.0.0.0/8, one backend each."""
    for number in range(count):
        yield f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def file_limit() -> int:
    """The open files a process may have; the soft limit is raised to the hard one, which children inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536


def common_values(name: str, port: int) -> dict[str, str]:
    files = file_limit()
    return {"NAME": name, "PORT": str(port), "FILES": str(files), "CONNECTIONS": str(files - 500)}


def start_backend(workshop: Workshop, label: str, answer: int) -> int:
    name = f"backend-{label}"
    port = free_port()
    part = "x" * min(answer, 1024)
    if answer % len(part):
        raise BenchmarkError(f"an answer of {answer} bytes is not made of whole parts of {len(part)}")
    values = common_values(name, port) | {
        "ANSWER": str(answer),
        "PART": part,
        "PARTS": "$part" * (answer // len(part)),
    }
    config = workshop.write(f"{name}.conf", fill("backend.conf", values))
    workshop.start(
        name, ["nginx", "-p", str(workshop.directory), "-e", f"{name}.error", "-c", str(config)]
    ).wait_ready(port)
    return port


def start_haproxy(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    port, log_port = free_port(), free_port()
    log = workshop.directory / f"{label}.log"
    sink = workshop.start(
        f"{label}-log", [sys.executable, str(Path(__file__).parent / "sink.py"), str(log_port), str(log)]
    )
    servers = "\n".join(
        f"    server s{number} {host}:{backend_port}" for number, host in enumerate(addresses(case.backends))
    )
    values = common_values(label, port) | {"LOG_PORT": str(log_port), "SERVERS": servers}
    # roundrobin ends at 4095 servers; static-rr has no limit and costs the same
    values |= {
        "ALGORITHM": "roundrobin" if case.backends == 1 else "static-rr",
        "CONNECTIONS": str(file_limit() // 2 - 100),
    }
    config = workshop.write(f"{label}.cfg", fill("haproxy.cfg", values))
    process = workshop.start(label, ["haproxy", "-db", "-f", str(config)], proxy=True)
    process.wait_ready(port)
    return Contender(label, "haproxy", port, process, log, [sink])


def start_nginx(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    port = free_port()
    log = workshop.directory / f"{label}.log"
    servers = "\n".join(
        f"        server {host}:{backend_port} max_fails=0;" for host in addresses(case.backends)
    )
    values = common_values(label, port) | {"LOG": str(log), "SERVERS": servers}
    values |= {"ALGORITHM": "", "KEEPALIVE": str(NGINX_KEEPALIVE)}
    config = workshop.write(f"{label}.conf", fill("nginx.conf", values))
    command = ["nginx", "-p", str(workshop.directory), "-e", f"{label}.error", "-c", str(config)]
    process = workshop.start(label, command, proxy=True)
    process.wait_ready(port)
    return Contender(label, "nginx", port, process, log)


def is_compiled(python: str, directory: Path) -> bool:
    """Whether txlb as that interpreter has it installed is the compiled one; an error if it has none."""
    probe = "import txlb.core.pool as module; print(module.__file__)"
    done = subprocess.run(
        [python, "-c", probe], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{python} has no txlb installed:\n{done.stderr[-500:]}")
    return done.stdout.strip().endswith((".so", ".pyd"))


def start_txlb(
    workshop: Workshop, label: str, case: Case, backend_port: int, python: str, compiled: bool
) -> Contender:
    if is_compiled(python, workshop.directory) is not compiled:
        raise BenchmarkError(
            f"{python} has txlb installed {'un' if compiled else ''}compiled; not what {label} stands for"
        )
    port = free_port()
    log = workshop.directory / f"{label}.log"
    servers = "\n".join(
        f"  - {{id: b{number}, host: {host}, port: {backend_port}}}"
        for number, host in enumerate(addresses(case.backends))
    )
    ids = ", ".join(f"b{number}" for number in range(case.backends))
    values = common_values(label, port) | {"LOG": str(log), "SERVERS": servers, "IDS": ids}
    config = workshop.write(f"{label}.yaml", fill("txlb.yaml", values))
    command = [python, "-c", START_TWISTD, "-n", "--pidfile=", "txlb", f"--config={config}"]
    process = workshop.start(label, command, proxy=True)
    process.wait_ready(port)
    return Contender(label, label.split("@")[0], port, process, log)


def start_compiled(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    return start_txlb(workshop, label, case, backend_port, programs.txlb_python, compiled=True)


def start_pure(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    if programs.txlb_pure_python is None:
        raise BenchmarkError("txlb-pure needs --txlb-pure-python")
    return start_txlb(workshop, label, case, backend_port, programs.txlb_pure_python, compiled=False)


Starter = Callable[[Workshop, str, Case, int, Programs], Contender]
PROXIES: dict[str, Starter] = {
    "txlb": start_compiled,
    "txlb-pure": start_pure,
    "haproxy": start_haproxy,
    "nginx": start_nginx,
}


def start_contender(
    workshop: Workshop, proxy: str, case: Case, programs: Programs, suffix: str = ""
) -> Contender:
    """The proxy in front of a fresh backend; ``direct`` is that backend alone."""
    label = proxy + suffix
    backend_port = start_backend(workshop, label, case.answer)
    if proxy == DIRECT:
        return Contender(label, DIRECT, backend_port, None)
    return PROXIES[proxy](workshop, label, case, backend_port, programs)


def missing(proxy: str, programs: Programs) -> str | None:
    """Why a proxy cannot take part here, or None."""
    if proxy in ("haproxy", "nginx"):
        return None if shutil.which(proxy) else f"{proxy} is not installed"
    if proxy == "txlb-pure":
        return None if programs.txlb_pure_python else "no --txlb-pure-python"
    if proxy == "envoy":
        return None if programs.envoy else "no --envoy"
    return None
