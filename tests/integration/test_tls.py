"""TLS through a running txlb: curl and OpenSSL's own client in front, a TLS server behind."""

from __future__ import annotations

import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.origins import eventually
from support.tls import Authority, call, get

pytestmark = pytest.mark.integration(needs="curl,openssl")
versions = pytest.mark.parametrize("version", ["1.2", "1.3"])


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's fields, or with its body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(str(self.headers).encode())

    def do_POST(self) -> None:
        self.reply(self.rfile.read(int(self.headers["Content-Length"])))

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *ignored: Any) -> None:
        pass


@contextmanager
def backend(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.handle_error = lambda *ignored: None  # type: ignore[method-assign,assignment]
    server.daemon_threads = False
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()
        server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def listening(*certificates: dict[str, str], **settings: Any) -> list[dict[str, Any]]:
    return [{"id": "web", "bind": "127.0.0.1:0", "tls": {"certificates": certificates, **settings}}]


def curl(port: int, name: str, authority: Authority, *more: str) -> str:
    command = [
        "curl",
        "-sS",
        "-m",
        "20",
        "--cacert",
        authority.path,
        "--connect-to",
        f"{name}:443:127.0.0.1:{port}",
    ]
    done = subprocess.run([*command, *more, f"https://{name}/"], capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


def s_client(port: int, *more: str, text: str = "") -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *more]
    done = subprocess.run(command, input=text, capture_output=True, timeout=30, text=True, check=False)
    return done.stdout + done.stderr


def test_curl_by_name_and_the_backend_is_told(authority: Authority, tmp_path: Path) -> None:
    certificates = [authority.certificate("a.example"), authority.certificate("*.b.example", kind="rsa")]
    with backend() as port, Balancer(tmp_path, [port], listeners=listening(*certificates)) as txlb:
        for name in ("a.example", "x.b.example"):
            answer = curl(txlb.port, name, authority, "-v")
            assert "X-Forwarded-Proto: https" in answer
            assert re.search("ALPN: server accepted http/1.1", answer)
        assert "certificate" in curl(txlb.port, "c.example", authority)
        with open(tmp_path / "body", "wb") as file:
            file.write(bytes(range(256)) * 8192)
        out = tmp_path / "back"
        curl(txlb.port, "a.example", authority, "--data-binary", f"@{file.name}", "-o", str(out))
        assert out.read_bytes() == Path(file.name).read_bytes()


@versions
def test_no_certificate_no_answer_for_every_name_that_demands_one(
    authority: Authority, tmp_path: Path, version: str
) -> None:
    public = authority.certificate("www.example")
    private = {**authority.certificate("in.example"), "client_ca": authority.path}
    mine = authority.certificate("me", label="me", common_name="someone")
    with backend() as port, Balancer(tmp_path, [port], listeners=listening(public, private)) as txlb:
        with call(txlb.port, authority.client(version=version), "www.example") as tls:
            assert get(tls, "www.example").startswith(b"HTTP/1.1 200")
        with call(txlb.port, authority.client(version=version), "www.example") as tls:
            assert get(tls, "in.example").startswith(b"HTTP/1.1 421")
        with pytest.raises(OSError):  # noqa: SIM117
            with call(txlb.port, authority.client(version=version), "in.example") as tls:
                get(tls, "in.example")
        forged = "X-SSL-Client-Verify: FORGED\r\nConnection: close"
        with call(txlb.port, authority.client(mine, version), "in.example") as tls:
            answer = get(tls, "in.example", more=forged)
        assert b"X-SSL-Client-CN: someone" in answer
        assert b"FORGED" not in answer
        with call(txlb.port, authority.client(version=version), "www.example") as tls:
            assert b"FORGED" not in get(tls, "www.example", more=forged)
        eventually(
            lambda: txlb.metrics().total("txlb_errors_total", kind="tls_client_certificate") == 1,
            "it is counted",
        )


@versions
def test_openssl_resumes_and_may_not_renegotiate(authority: Authority, tmp_path: Path, version: str) -> None:
    flag = "-tls" + version.replace(".", "_")
    session = str(tmp_path / "session")
    with (
        backend() as port,
        Balancer(tmp_path, [port], listeners=listening(authority.certificate("a.example"))) as txlb,
    ):
        request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        common = ("-servername", "a.example", flag, "-ign_eof", "-crlf")
        first = s_client(txlb.port, *common, "-sess_out", session, text=request.replace("\r", ""))
        assert "200 OK" in first
        again = s_client(txlb.port, *common, "-sess_in", session, text=request.replace("\r", ""))
        assert "Reused, TLSv" + version in again
        if version == "1.2":
            refused = s_client(txlb.port, "-servername", "a.example", flag, text="R\n")
            assert "200 OK" not in refused
        old = s_client(txlb.port, "-servername", "a.example", "-tls1_1", text="Q\n")
        assert "Cipher is (NONE)" in old or "no protocols available" in old or "alert" in old
        eventually(
            lambda: txlb.metrics().total("txlb_tls_handshakes_total", result="resumed") == 1, "it is counted"
        )


@versions
def test_keys_are_agreed_on_in_few_groups(authority: Authority, tmp_path: Path, version: str) -> None:
    flag = "-tls" + version.replace(".", "_")
    certificate = authority.certificate("a.example", kind="rsa")  # one of P-256 needs that group of its own
    with backend() as port, Balancer(tmp_path, [port], listeners=listening(certificate)) as txlb:
        for group in ("X25519", "P-256", "P-384"):
            said = s_client(txlb.port, "-servername", "a.example", flag, "-groups", group, text="Q\n")
            assert "Cipher is (NONE)" not in said, group
        for group in ("P-521", "X448"):
            said = s_client(txlb.port, "-servername", "a.example", flag, "-groups", group, text="Q\n")
            assert "Cipher is (NONE)" in said, group


def test_a_new_certificate_is_used_without_a_reload_a_broken_one_is_not(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.certificate("a.example", label="a")
    with backend() as port, Balancer(tmp_path, [port], listeners=listening(pair)) as txlb:
        expiry = txlb.metrics()["txlb_certificate_expiry_seconds", (("name", pair["chain"]),)]
        assert expiry > 86400
        Path(pair["key"]).write_text("broken")
        eventually(lambda: "stays in force" in txlb.program.output, "the broken key is told", 20)
        assert "X-Forwarded-Proto" in curl(txlb.port, "a.example", authority)
        authority.certificate("b.example", label="a")
        eventually(
            lambda: "X-Forwarded-Proto" in curl(txlb.port, "b.example", authority), "it is in force", 20
        )
        assert "broken" not in txlb.program.output.replace("broken one", "")


def test_backends_are_verified(authority: Authority, tmp_path: Path) -> None:
    context = authority.server(authority.certificate("b.example"))
    with backend(context) as port:
        backends = [
            {"id": "good", "host": "127.0.0.1", "port": port,
             "tls": {"ca": authority.path, "server_name": "b.example"}},
            {"id": "bad", "host": "127.0.0.1", "port": port,
             "tls": {"ca": authority.path, "server_name": "other.example"}},
        ]  # fmt: skip
        rules = [
            {"id": "good", "host": "good.example", "backends": ["good"]},
            {"id": "bad", "host": "bad.example", "backends": ["bad"]},
        ]
        certificates = listening(authority.certificate("good.example", "bad.example"))
        with Balancer(tmp_path, listeners=certificates, backends=backends, routing_rules=rules) as txlb:
            assert "X-Forwarded-Proto: https" in curl(txlb.port, "good.example", authority)
            assert "502" in curl(txlb.port, "bad.example", authority, "-i")
            eventually(
                lambda: "backend bad: TLS: its certificate is not for other.example" in txlb.program.output,
                "the reason is told",
                10,
            )
