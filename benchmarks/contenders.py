"""What takes part in a run: a contender is a proxy, or none for the direct path, before a backend of its own.

``Case`` says what it serves, ``fill`` makes its configuration from the file under ``peers/``.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .procs import BenchmarkError, Process, Workshop, free_port, run

PEER_FILES = Path(__file__).parent / "peers"
PEERS = ("haproxy", "haproxy-splice", "nginx", "envoy")
DIRECT = "direct"
LARGEST_TEXT = 65536  # that nginx takes as a text of its configuration


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
    algorithm: str = "round_robin"  # of txlb; peers get what of theirs does the same
    bulk: bool = False  # bodies of a megabyte: peers get the buffers that suit them
    protocol: str = "http"  # of the listener: http | https | tcp | udp
    backend_port: int = 0  # of a backend that is there already; 0 = each contender gets one of its own

    def hosts(self) -> Iterator[str]:
        """One address for each backend; a backend that is there already has the usual one."""
        return iter(["127.0.0.1"]) if self.backend_port else addresses(self.backends)


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
    scheme: str = "http"  # what clients speak
    line_per_unit: bool = True  # in the log; else one per connection

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


def make_certificate(workshop: Workshop) -> dict[str, str]:
    """A self-signed ECDSA certificate (P-256) for all TLS listeners of a workshop: values for peer files."""
    chain, key, both = (workshop.directory / name for name in ("tls.pem", "tls.key", "tls.both"))
    if not both.exists():
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += [
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ]
        run([*command, "-keyout", str(key), "-out", str(chain)], workshop.load_cpus, 30)
        both.write_text(chain.read_text() + key.read_text())
    return {"CHAIN": str(chain), "KEY": str(key), "BOTH": str(both)}


def start_backend(workshop: Workshop, label: str, answer: int) -> int:
    name = f"backend-{label}"
    port = free_port()
    (workshop.directory / f"{name}.bulk").write_bytes(b"x" * answer)
    part = "x" * min(answer, 1024)
    if answer % len(part):
        raise BenchmarkError(f"an answer of {answer} bytes is not made of whole parts of {len(part)}")
    if answer > LARGEST_TEXT:
        part = ""  # what is larger is at /bulk
    values = common_values(name, port) | {
        "ANSWER": str(answer),
        "PART": part,
        "PARTS": "$part" * (answer // len(part)) if part else "bulk",
    }
    config = workshop.write(f"{name}.conf", fill("backend.conf", values))
    workshop.start(
        name, ["nginx", "-p", str(workshop.directory), "-e", f"{name}.error", "-c", str(config)]
    ).wait_ready(port)
    return port
