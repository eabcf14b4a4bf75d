"""TLS routed by server name and relayed untouched: curl and openssl through txlb to nginx, which has keys."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.balancer import Balancer, Nginx
from support.hello import client_hello
from support.origins import eventually
from support.ports import free_port
from support.processes import find_tool
from support.wire import Wire

from txlb.core.client_hello import UNRECOGNIZED_NAME
from txlb.core.proxy_announcement import Announced, announce

pytestmark = pytest.mark.integration(needs="nginx,curl,openssl")

NAMES = {"a": "a.example", "b": "x.b.example", "rest": "any.example"}


class Site:
    """txlb in front of three TLS servers with a certificate each."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        ports = {name: free_port() for name in NAMES}
        servers = ""
        for name, host in NAMES.items():
            issued = authority.issue_cert(host)
            issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
            servers += (
                f"server {{ listen 127.0.0.1:{ports[name]} ssl proxy_protocol;"
                f" ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {folder}/{name}.pem;"
                f" ssl_certificate_key {folder}/{name}.pem; set_real_ip_from 127.0.0.0/8;"
                " real_ip_header proxy_protocol;"
                f' location / {{ return 200 "{name} $ssl_server_name $remote_addr"; }} }}\n'
            )
        stack.enter_context(Nginx(folder / "nginx", servers)).ready(ports["a"])
        (folder / "txlb").mkdir()
        rules: list[dict[str, Any]] = [
            {"id": "a", "listeners": ["tls", "inner"], "host": "a.example", "backends": ["a"]},
            {"id": "b", "listeners": ["tls", "inner"], "host": "*.b.example", "backends": ["b"]},
            {"id": "rest", "listeners": ["tls"], "backends": ["rest"]},
        ]
        inner = {"proxy_protocol": True, "trusted": ["127.0.0.1"], "bind": "127.0.0.2:0"}
        self.balancer = stack.enter_context(
            Balancer(
                folder / "txlb",
                listeners=[
                    {"id": "tls", "bind": "127.0.0.1:0", "protocol": "tcp", "sni": True},
                    {"id": "inner", "protocol": "tcp", "sni": True, **inner},
                ],
                backends=[
                    {"id": name, "host": "127.0.0.1", "port": port, "proxy_protocol": "v2"}
                    for name, port in ports.items()
                ],
                routing_rules=rules,
            )
        )

    @property
    def port(self) -> int:
        return self.balancer.port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


def curl(site: Site, host: str, *more: str) -> str:
    tool = find_tool("curl")
    assert tool is not None
    command = [tool, "-sS", "--cacert", str(site.ca), "--connect-to", f"::127.0.0.1:{site.port}", *more]
    done = subprocess.run(
        [*command, f"https://{host}/"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("host", "backend"),
    [("a.example", "a"), ("A.Example", "a"), ("x.b.example", "b"), ("any.example", "rest")],
)
def test_curl_reaches_the_server_that_it_asks_for(site: Site, host: str, backend: str) -> None:
    for version in ("--tlsv1.3", "--tls-max"):
        more = (version,) if version == "--tlsv1.3" else (version, "1.2")
        assert curl(site, host, *more) == f"{backend} {host.lower()} 127.0.0.1"


def test_the_log_names_the_server_and_the_rule(site: Site) -> None:
    curl(site, "x.b.example")
    lines = site.balancer.logged(1, lambda line: line["rule"] == "b")
    assert (lines[-1]["server_name"], lines[-1]["backend"], lines[-1]["protocol"]) == (
        "x.b.example",
        "b",
        "tcp",
    )
    assert lines[-1]["bytes_in"] > 200
    assert lines[-1]["bytes_out"] > 1000


@pytest.mark.parametrize(
    ("more", "subject"), [(["-servername", "a.example"], "a.example"), (["-noservername"], "any.example")]
)
def test_openssl_sees_the_certificate_of_the_backend(site: Site, more: list[str], subject: str) -> None:
    tool = find_tool("openssl")
    assert tool is not None
    command = [tool, "s_client", "-connect", f"127.0.0.1:{site.port}", "-CAfile", str(site.ca), *more]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)
    assert "Verify return code: 0 (ok)" in done.stdout, done.stderr
    certificate = done.stdout[done.stdout.index("-----BEGIN") :]
    names = subprocess.run(
        [tool, "x509", "-noout", "-ext", "subjectAltName"],
        input=certificate,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert f"DNS:{subject}" in names.stdout


def test_a_hello_in_single_bytes_and_big_data_both_ways(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.ca))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
    with Wire.to(site.port) as wire:
        wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = True
        while True:
            try:
                connection.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                if first:
                    first = False
                    for octet in data:
                        wire.send(bytes((octet,)))
                elif data:
                    wire.send(data)
                incoming.write(wire.more())
        connection.write(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        wire.send(outgoing.read())
        answer = b""
        while b"a a.example" not in answer:
            incoming.write(wire.more())
            try:
                answer += connection.read(65536)
            except ssl.SSLWantReadError:
                pass


def test_behind_another_proxy(site: Site) -> None:
    """The PROXY header first, then the hello; the client's address reaches the backend."""
    context = ssl.create_default_context(cafile=str(site.ca))
    with socket.create_connection(("127.0.0.2", site.balancer.ports["inner"]), 10, ("127.0.0.1", 0)) as plain:
        plain.sendall(announce(1, Announced("192.0.2.77", 4711, "192.0.2.1", 443)))
        with context.wrap_socket(plain, server_hostname="x.b.example") as secure:
            secure.sendall(b"GET / HTTP/1.1\r\nHost: x.b.example\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := secure.recv(65536):
                answer += data
    assert answer.endswith(b"b x.b.example 192.0.2.77")


def errors(site: Site, kind: str) -> float:
    return site.balancer.metric("txlb_errors_total", kind=kind)


def test_a_name_that_nobody_serves_gets_an_alert(site: Site) -> None:
    before = errors(site, "unrecognized_name")
    header = announce(2, Announced("192.0.2.77", 4711, "192.0.2.1", 443))
    for name in ("other.example", "b.example", None):
        with Wire(
            socket.create_connection(("127.0.0.2", site.balancer.ports["inner"]), 10, ("127.0.0.1", 0))
        ) as wire:
            wire.send(header + client_hello(name))
            assert wire.rest() == UNRECOGNIZED_NAME
    eventually(lambda: errors(site, "unrecognized_name") == before + 3, "they are counted")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
        b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(65536),
        client_hello("a.example")[:-20],
    ],
    ids=["http", "ssl-2", "oversized", "unfinished"],
)
def test_what_is_no_hello_is_closed_and_counted(site: Site, data: bytes) -> None:
    before = errors(site, "client_hello")
    output = site.balancer.program.output
    with Wire.to(site.port) as wire:
        try:
            wire.send(data)
            assert wire.more() == b""
        except (ConnectionResetError, BrokenPipeError):
            pass
    eventually(lambda: errors(site, "client_hello") == before + 1, "it is counted")
    assert site.balancer.program.output == output, "but never logged"
