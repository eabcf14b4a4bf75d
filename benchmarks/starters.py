"""How each proxy is configured and started.

``PROXIES`` holds a starter for each name; a new peer is one starter here and one file under ``peers/``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .contenders import (
    DIRECT,
    Case,
    Contender,
    Programs,
    common_values,
    file_limit,
    fill,
    make_certificate,
    start_backend,
)
from .procs import BenchmarkError, Workshop, free_datagram_port, free_port

#: What of HAProxy's does the same as an algorithm of ours, with any number of servers.
HAPROXY_ALGORITHMS = {
    "round_robin": "static-rr",  # roundrobin ends at 4095 servers; of those without a limit the cheapest
    "least_connections": "leastconn",
    "random": "random(1)",
    "power_of_two": "random(2)",
    "peak_ewma": "random(2)",  # it has none by latency; this is the nearest
    "ip_hash": "source\n    hash-type consistent",
    "consistent_hash": "uri\n    hash-type consistent",
}
START_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"


def start_haproxy(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    port, log_port = free_port(), free_port()
    log = workshop.directory / f"{label}.log"
    sink = workshop.start(
        f"{label}-log", [sys.executable, str(Path(__file__).parent / "sink.py"), str(log_port), str(log)]
    )
    servers = "\n".join(
        f"    server s{number} {host}:{backend_port}" for number, host in enumerate(case.hosts())
    )
    values = common_values(label, port) | {"LOG_PORT": str(log_port), "SERVERS": servers}
    values |= {"ALGORITHM": "roundrobin" if case.backends == 1 else HAPROXY_ALGORITHMS[case.algorithm]}
    splice = label.startswith("haproxy-splice") or (case.bulk and case.protocol == "tcp")
    values |= {
        "CONNECTIONS": str(file_limit() // 2 - 300),
        "BUFFER": "65536" if case.bulk and not splice else "16384",
        "SPLICE": "option splice-request" if splice else "no option splice-request",
        "TLS": "",
        "SCHEME": "http",
    }
    template = "haproxy.cfg"
    if case.protocol == "tcp":
        template = "haproxy-tcp.cfg"
        values["SPLICE"] = "option splice-auto" if splice else ""
    elif case.protocol == "https":
        certificate = make_certificate(workshop)["BOTH"]
        values |= {"TLS": f"ssl crt {certificate} alpn http/1.1", "SCHEME": "https"}
    config = workshop.write(f"{label}.cfg", fill(template, values))
    process = workshop.start(label, ["haproxy", "-db", "-f", str(config)], proxy=True)
    return serving(case, Contender(label, label.split("@")[0], port, process, log, [sink]))


def start_nginx(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    port = free_datagram_port() if case.protocol == "udp" else free_port()
    log = workshop.directory / f"{label}.log"
    servers = "\n".join(f"        server {host}:{backend_port} max_fails=0;" for host in case.hosts())
    values = common_values(label, port) | {"LOG": str(log), "SERVERS": servers}
    # its round robin looks at every backend for each request, and at every kept connection: with many of them
    # random over few kept ones is the cheapest
    many = case.backends > 1
    values |= {"ALGORITHM": "random;" if many else "", "KEEPALIVE": "64" if many else "512"}
    values |= {"TLS": "", "CERTIFICATE": ""}
    template = "nginx.conf"
    if case.protocol in ("tcp", "udp"):
        template = "nginx-stream.conf"
        values["BUFFER"] = "256k" if case.bulk else "16k"
        values["LISTEN"] = "udp" if case.protocol == "udp" else "backlog=4096"
    elif case.protocol == "https":
        files = make_certificate(workshop)
        values["TLS"] = "ssl"
        values["CERTIFICATE"] = (
            f"ssl_certificate {files['CHAIN']}; ssl_certificate_key {files['KEY']}; "
            "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;"
        )
    config = workshop.write(f"{label}.conf", fill(template, values))
    command = ["nginx", "-p", str(workshop.directory), "-e", f"{label}.error", "-c", str(config)]
    process = workshop.start(label, command, proxy=True)
    return serving(case, Contender(label, "nginx", port, process, log))


def start_envoy(
    workshop: Workshop, label: str, case: Case, backend_port: int, programs: Programs
) -> Contender:
    if programs.envoy is None:
        raise BenchmarkError("envoy needs --envoy")
    port = free_port()
    log = workshop.directory / f"{label}.log"
    address = "{address: {socket_address: {address: %s, port_value: %d}}}"
    servers = "\n".join(" " * 14 + "- endpoint: " + address % (host, backend_port) for host in case.hosts())
    values = common_values(label, port) | {"LOG": str(log), "SERVERS": servers}
    config = workshop.write(f"{label}.yaml", fill("envoy.yaml", values))
    command = [programs.envoy, "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    process = workshop.start(label, [*command, "--log-level", "warning"], proxy=True)
    process.wait_ready(port)
    return Contender(label, "envoy", port, process, log)


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
    port = free_datagram_port() if case.protocol == "udp" else free_port()
    log = workshop.directory / f"{label}.log"
    servers = "\n".join(
        f"  - {{id: b{number}, host: {host}, port: {backend_port}, health_check: off}}"
        for number, host in enumerate(case.hosts())
    )
    ids = ", ".join(f"b{number}" for number in range(case.backends))
    values = common_values(label, port) | {"LOG": str(log), "SERVERS": servers, "IDS": ids, "TLS": ""}
    values["ALGORITHM"] = case.algorithm
    if case.algorithm == "consistent_hash":
        values["ALGORITHM"] = "{name: consistent_hash, hash_key: path}"
    template = "txlb.yaml"
    if case.protocol in ("tcp", "udp"):
        template = "txlb-stream.yaml"
        values["PROTOCOL"] = case.protocol
    elif case.protocol == "https":
        files = make_certificate(workshop)
        values["TLS"] = f", tls: {{certificates: [{{chain: {files['CHAIN']}, key: {files['KEY']}}}]}}"
    config = workshop.write(f"{label}.yaml", fill(template, values))
    command = [python, "-c", START_TWISTD, "-n", "--pidfile=", "txlb", f"--config={config}"]
    process = workshop.start(label, command, proxy=True)
    return serving(case, Contender(label, label.split("@")[0], port, process, log))


def serving(case: Case, contender: Contender) -> Contender:
    """``contender``, once it serves what the case is about."""
    contender.line_per_unit = case.protocol in ("http", "https")
    contender.scheme = "https" if case.protocol == "https" else "http"
    if contender.process is not None and case.protocol != "udp":
        contender.process.wait_ready(contender.port, scheme=contender.scheme)
    return contender


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
    "haproxy-splice": start_haproxy,
    "nginx": start_nginx,
    "envoy": start_envoy,
}


def start_contender(
    workshop: Workshop, proxy: str, case: Case, programs: Programs, suffix: str = ""
) -> Contender:
    """The proxy in front of a fresh backend; ``direct`` is that backend alone."""
    label = proxy + suffix
    backend_port = case.backend_port or start_backend(workshop, label, case.answer)
    if proxy == DIRECT:
        return Contender(label, DIRECT, backend_port, None)
    return PROXIES[proxy](workshop, label, case, backend_port, programs)


def missing(proxy: str, programs: Programs) -> str | None:
    """Why a proxy cannot take part here, or None."""
    if proxy in ("haproxy", "haproxy-splice", "nginx"):
        program = proxy.split("-")[0]
        return None if shutil.which(program) else f"{program} is not installed"
    if proxy == "txlb-pure":
        return None if programs.txlb_pure_python else "no --txlb-pure-python"
    if proxy == "envoy":
        return None if programs.envoy else "no --envoy"
    return None
