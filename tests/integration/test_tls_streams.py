"""TLS around plain TCP through a running txlb, towards clients and towards backends; resumption by worker."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer, Nginx, start_haproxy, wait_for_port
from support.origins import Origin, Visit, answering, echo, eventually
from support.ports import free_port
from support.processes import find_tool
from support.tls import Authority, TlsPeer, call, get

pytestmark = pytest.mark.integration(needs="openssl")
versions = pytest.mark.parametrize("version", ["1.2", "1.3"])
MIB = 1 << 20


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def streams(folder: Path, port: int, *certificates: dict[str, str], **tls: Any) -> Balancer:
    """A tcp listener; ``certificates`` of its own, ``tls`` to its backend."""
    listener: dict[str, Any] = {"id": "tcp", "bind": "127.0.0.1:0", "protocol": "tcp"}
    if certificates:
        listener["tls"] = {"certificates": certificates}
    backend: dict[str, Any] = {"id": "b0", "host": "127.0.0.1", "port": port, "health_check": "off"}
    if tls:
        backend["tls"] = tls
    rule = {"id": "all", "listeners": ["tcp"], "backends": ["b0"]}
    return Balancer(folder, listeners=[listener], backends=[backend], routing_rules=[rule])


def count(visit: Visit) -> None:
    """Answers the size of what came, when the end of it came."""
    total = 0
    while data := visit.more():
        total += len(data)
    visit.send(b"%d bytes\n" % total)


def reflect(visit: Visit) -> None:
    while data := visit.more():
        visit.send(data)


@versions
def test_an_alpn_offer_ends_nothing_and_a_half_close_gets_its_answer(
    authority: Authority, tmp_path: Path, origin: Origin, version: str
) -> None:
    context = authority.client(version=version, alpn=("h2", "redis"))
    with (
        origin.serving(count),
        streams(tmp_path, origin.port, authority.certificate("a.example")) as txlb,
        call(txlb.port, context, "a.example") as tls,
    ):
        assert tls.version() == f"TLSv{version}"
        assert tls.selected_alpn_protocol() is None
        tls.sendall(b"x" * 100_000)
        socket.socket.shutdown(tls, socket.SHUT_WR)
        assert tls.recv(100) == b"100000 bytes\n"
        (line,) = txlb.logged()
        assert (line["bytes_in"], line["bytes_out"]) == (100_000, 13)


def test_bulk_both_ways_is_the_same_at_the_other_end(
    authority: Authority, tmp_path: Path, origin: Origin
) -> None:
    data = os.urandom(4 * MIB)
    with (
        origin.serving(reflect),
        streams(tmp_path, origin.port, authority.certificate("a.example")) as txlb,
        socket.create_connection(("127.0.0.1", txlb.port), 10) as plain,
    ):
        # One thread: the standard library's TLS may not be read and written by two at once.
        peer = TlsPeer(plain, authority.client(), "a.example")
        try:
            peer.send(data)
            while len(peer.data) < len(data):
                assert not peer.ending, (peer.ending, len(peer.data), txlb.log())
                if not peer.poll() and len(peer.data) < len(data):
                    writing = [peer.sock] if peer.unsent else []
                    select.select([peer.sock], writing, [], 10)
        finally:
            peer.close()
    assert hashlib.sha256(peer.data).digest() == hashlib.sha256(data).digest()


def test_plain_clients_of_a_tls_server(authority: Authority, tmp_path: Path) -> None:
    """``openssl s_server`` sends lines back in reverse."""
    tool = find_tool("openssl")
    assert tool is not None
    pair, port = authority.certificate("b.example"), free_port()
    command = [tool, "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pair["chain"], "-key", pair["key"]]
    with subprocess.Popen([*command, "-rev", "-quiet"], stdin=subprocess.DEVNULL) as server:
        try:
            wait_for_port(port)
            for name, answer in (("b.example", b"olleh\n"), ("other.example", b"")):
                folder = tmp_path / name
                folder.mkdir()
                with (
                    streams(folder, port, ca=authority.path, server_name=name) as txlb,
                    txlb.connect() as wire,
                ):
                    if answer:
                        wire.send(b"hello\n")
                        assert wire.until(b"\n") == answer
                    else:
                        assert wire.is_reset()
                        assert txlb.logged()[0]["reason"] == "connect_tls"
        finally:
            server.terminate()


@pytest.mark.integration(needs="nginx,haproxy")
def test_nginx_and_haproxy_as_backends_of_http(authority: Authority, tmp_path: Path) -> None:
    pair = authority.certificate("b.example", label="b")
    mine = authority.certificate("me", label="me", common_name="balancer")
    (tmp_path / "both.pem").write_text(Path(pair["chain"]).read_text() + Path(pair["key"]).read_text())
    nginx_port, haproxy_port = free_port(), free_port()
    server = (
        f"server {{ listen 127.0.0.1:{nginx_port} ssl; ssl_certificate {pair['chain']};"
        f" ssl_certificate_key {pair['key']}; ssl_client_certificate {authority.path};"
        ' ssl_verify_client on; location / { return 200 "nginx $ssl_client_s_dn"; } }'
    )
    section = (
        f"frontend tls\n mode http\n bind 127.0.0.1:{haproxy_port} ssl crt {tmp_path}/both.pem\n"
        ' http-request return status 200 content-type text/plain string "haproxy"\n'
    )
    right = {"ca": authority.path, "server_name": "b.example"}
    settings: dict[str, tuple[int, dict[str, Any]]] = {
        "nginx": (nginx_port, {**right, "client_certificate": mine}),
        "stranger": (nginx_port, right),
        "haproxy": (haproxy_port, right),
        "wrong": (haproxy_port, {**right, "server_name": "other.example"}),
    }
    with Nginx(tmp_path / "nginx", server) as nginx:
        haproxy = start_haproxy(tmp_path / "haproxy", section)
        try:
            nginx.ready(nginx_port)
            wait_for_port(haproxy_port, haproxy)
            with Balancer(
                tmp_path,
                backends=[
                    {"id": name, "host": "127.0.0.1", "port": port, "tls": tls, "health_check": "off"}
                    for name, (port, tls) in settings.items()
                ],
                routing_rules=[
                    {"id": name, "host": f"{name}.example", "backends": [name]} for name in settings
                ],
            ) as txlb:
                answers = {}
                for name in settings:
                    with txlb.connect() as wire:
                        answers[name] = wire.ask(f"GET /{name} HTTP/1.1\nHost: {name}.example")
                assert b"CN=balancer" in answers["nginx"].body
                assert answers["stranger"].status == 400, "nginx answers who shows no certificate"
                assert answers["haproxy"].body == b"haproxy"
                assert answers["wrong"].status == 502
                assert txlb.line("/wrong")["reason"] == "connect_tls"
        finally:
            haproxy.stop()


@versions
def test_steered_clients_resume_with_any_number_of_workers(
    authority: Authority, tmp_path: Path, origin: Origin, version: str
) -> None:
    """Tickets are known to one worker only: steering brings a client back to the one that gave it its own."""
    listener = {
        "id": "web",
        "bind": "127.0.0.1:0",
        "steer": "client",
        "tls": {"certificates": [authority.certificate("a.example")]},
    }
    context = authority.client(version=version)
    clients = [f"127.0.0.{number}" for number in range(10, 18)]
    with (
        origin.serving(answering(echo)),
        Balancer(tmp_path, [origin.port], workers=4, listeners=[listener]) as txlb,
    ):
        sessions: dict[str, ssl.SSLSession | None] = dict.fromkeys(clients)
        for again in (False, True):
            for client in clients:
                plain = socket.create_connection(("127.0.0.1", txlb.port), 10, (client, 0))
                with context.wrap_socket(plain, server_hostname="a.example", session=sessions[client]) as tls:
                    assert get(tls, "a.example").startswith(b"HTTP/1.1 200")
                    assert tls.session_reused is again
                    sessions[client] = tls.session
        eventually(
            lambda: txlb.metric("txlb_tls_handshakes_total", result="resumed") == len(clients), "counted"
        )
        assert txlb.metric("txlb_tls_handshakes_total", result="full") == len(clients)
        assert len({line["worker"] for line in txlb.logged(2 * len(clients))}) > 1
