"""PROXY protocol and TLS together: the header comes before the handshake, on both sides."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.balancer import Balancer, Nginx
from support.ports import free_port

from txlb.core.proxy_announcement import Announced, announce
from txlb.core.proxy_protocol import WHOLE, HeaderReader

pytestmark = pytest.mark.integration(needs="nginx")


class Recorder:
    """A server that keeps the PROXY header of each connection, and answers one HTTP request."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.headers: list[bytes] = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(10)
                reader = HeaderReader()
                raw = b""
                while b"\r\n\r\n" not in raw[reader.used :]:
                    data = sock.recv(65536)
                    if not data:
                        break  # a health check: it connects, and that is all
                    raw += data
                    reader = HeaderReader()
                    reader.feed(raw)
                if b"\r\n\r\n" not in raw[reader.used :]:
                    continue
                self.headers.append(raw[: reader.used])
                sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(10)


class Site:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        issued = authority.issue_cert("lb.example")
        issued.cert_chain_pems[0].write_to_path(str(folder / "lb.pem"))
        issued.private_key_pem.write_to_path(str(folder / "lb.key"))
        inner = authority.issue_cert("backend.example", "127.0.0.1")
        inner.private_key_and_cert_chain_pem.write_to_path(str(folder / "backend.pem"))
        self.client = folder / "client.pem"
        authority.issue_cert(
            "someone@example", common_name="Someone"
        ).private_key_and_cert_chain_pem.write_to_path(str(self.client))
        self.recorder = Recorder()
        stack.callback(self.recorder.close)
        port = free_port()
        server = (
            f"server {{ listen 127.0.0.1:{port} ssl proxy_protocol; ssl_certificate {folder}/backend.pem;"
            f" ssl_certificate_key {folder}/backend.pem;"
            ' location / { return 200 "$proxy_protocol_addr $proxy_protocol_port"; } }'
        )
        stack.enter_context(Nginx(folder / "nginx", server)).ready(port)
        certificates = [{"chain": str(folder / "lb.pem"), "key": str(folder / "lb.key")}]
        tls = {"certificates": certificates, "client_ca": str(self.ca), "client_auth": "optional"}
        proxied = {"proxy_protocol": True, "trusted": ["127.0.0.1"]}
        (folder / "txlb").mkdir()
        self.balancer = stack.enter_context(
            Balancer(
                folder / "txlb",
                listeners=[
                    {"id": "web", "bind": "127.0.0.1:0", "tls": tls, **proxied},
                    {"id": "raw", "bind": "127.0.0.2:0", "protocol": "tcp", "tls": tls, **proxied},
                ],
                backends=[
                    {"id": "told", "host": "127.0.0.1", "port": self.recorder.port, "proxy_protocol": "v2"},
                    {
                        "id": "secure",
                        "host": "127.0.0.1",
                        "port": port,
                        "proxy_protocol": "v1",
                        "tls": {"ca": str(self.ca), "server_name": "backend.example"},
                    },
                ],
                routing_rules=[
                    {"id": "told", "listeners": ["web"], "backends": ["told"]},
                    {"id": "secure", "listeners": ["web"], "path_prefix": "/secure", "backends": ["secure"]},
                    {"id": "raw", "listeners": ["raw"], "backends": ["secure"]},
                ],
            )
        )

    def get(self, listener: str, path: str, certificate: bool = False) -> bytes:
        """One request over TLS behind a PROXY header of a client at 192.0.2.77."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate:
            context.load_cert_chain(self.client)
        host = "127.0.0.1" if listener == "web" else "127.0.0.2"
        address = (host, self.balancer.ports[listener])
        with socket.create_connection(address, 10, ("127.0.0.1", 0)) as plain:
            plain.sendall(announce(2, Announced("192.0.2.77", 4711, "192.0.2.1", 443)))
            with context.wrap_socket(plain, server_hostname="lb.example") as secure:
                request = f"GET {path} HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n\r\n"
                secure.sendall(request.encode())
                answer = b""
                while data := secure.recv(65536):
                    answer += data
        return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


def tlvs(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        size = int.from_bytes(data[1:3], "big")
        found[data[0]] = data[3 : 3 + size]
        data = data[3 + size :]
    return found


@pytest.mark.parametrize("listener", ["web", "raw"])
def test_before_the_handshake_with_client_and_backend_alike(site: Site, listener: str) -> None:
    assert site.get(listener, "/secure").endswith(b"192.0.2.77 4711")


@pytest.mark.parametrize("certificate", [False, True])
def test_a_backend_is_told_of_the_clients_tls(site: Site, certificate: bool) -> None:
    site.recorder.headers.clear()
    assert site.get("web", "/", certificate).endswith(b"ok")
    (header,) = site.recorder.headers
    reader = HeaderReader()
    assert reader.feed(header) == WHOLE
    assert reader.header is not None
    assert (reader.header.source, reader.header.destination_port) == ("192.0.2.77", 443)
    found: dict[int, Any] = tlvs(header[28:])
    assert found[0x02] == b"lb.example"
    ssl_facts = found[0x20]
    details = tlvs(ssl_facts[5:])
    assert details[0x21] == b"TLSv1.3"
    assert details[0x23].startswith(b"TLS_")
    if certificate:
        assert ssl_facts[:5] == b"\x07\0\0\0\0"
        assert details[0x22] == b"Someone"
    else:
        assert ssl_facts[:5] == b"\x01\0\0\0\x01"
        assert 0x22 not in details
