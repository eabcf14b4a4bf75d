"""`txlb.control.api.tls`: the admin port behind a certificate, and what cannot be used."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from support.admin import READ_TOKEN, Admin, token_file
from twisted.internet.threads import deferToThread

from txlb.control.admin import AdminListener
from txlb.control.api.tls import CertificateError, read_context
from txlb.core.model import AdminSpec, AdminTlsSpec

AdminOn = Callable[[AdminSpec | str], Admin]


class Files:
    """A certificate for localhost, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.spec = AdminTlsSpec(str(folder / "chain.pem"), str(folder / "key.pem"))
        self.issue()

    def issue(self) -> None:
        leaf = self.authority.issue_cert("localhost", "127.0.0.1")
        (self.folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
        (self.folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def ask(
    port: int, context: ssl.SSLContext, alpn: list[str] | None = None, path: str = "/health"
) -> tuple[bytes, str, int]:
    """The answer to GET, the protocol agreed on, the certificate's serial number."""
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    request = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as one,
    ):
        one.settimeout(5)
        one.sendall(request % (path.encode(), READ_TOKEN.encode()))
        answer = b""
        while part := one.recv(65536):
            answer += part
        certificate = one.getpeercert()
        assert certificate
        return answer, one.selected_alpn_protocol() or "", int(str(certificate["serialNumber"]), 16)


@pytest_twisted.ensureDeferred
async def test_it_is_served_to_who_trusts_the_authority(admin_on: AdminOn, files: Files, tmp_path: Path):
    admin = admin_on(AdminSpec("127.0.0.1:0", token_file(tmp_path), files.spec))
    await admin.started
    for alpn, agreed in (
        (None, ""),
        (["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], "http/1.1"),
        (["x"], ""),
    ):
        answer, protocol, _ = await deferToThread(ask, admin.address, files.client(), alpn)
        assert answer.startswith(b"HTTP/1.1 200")
        assert protocol == agreed
    with pytest.raises(ssl.SSLError):
        await deferToThread(ask, admin.address, ssl.create_default_context())


@pytest_twisted.ensureDeferred
async def test_a_reload_takes_the_new_certificate_and_tokens(admin_on: AdminOn, files: Files, tmp_path: Path):
    tokens = token_file(tmp_path)
    admin = admin_on(AdminSpec("127.0.0.1:0", tokens, files.spec))
    await admin.started
    _, _, before = await deferToThread(ask, admin.address, files.client())
    files.issue()
    commit = admin.listener.prepare()
    assert (await deferToThread(ask, admin.address, files.client()))[2] == before
    metrics = (await deferToThread(ask, admin.address, files.client(), None, "/metrics"))[0].decode()
    (left,) = re.findall(rf'txlb_certificate_expiry_seconds{{name="{files.spec.chain}"}} (\S+)', metrics)
    assert float(left) > 86400
    commit()
    answer, _, after = await deferToThread(ask, admin.address, files.client())
    assert after != before
    assert answer.startswith(b"HTTP/1.1 200")
    Path(tokens).write_text(f"other read sha256:{'0' * 64}\n")
    admin.listener.prepare()()
    answer, _, _ = await deferToThread(ask, admin.address, files.client())
    assert answer.startswith(b"HTTP/1.1 401")


def test_tls_1_3_alone_can_be_asked_for(files: Files):
    assert read_context(AdminTlsSpec(files.spec.chain, files.spec.key, "1.3"))


def test_what_cannot_be_used_is_said(files: Files, tmp_path: Path):
    junk = tmp_path / "junk"
    junk.write_text("no PEM")
    other = tmp_path / "other"
    other.mkdir()
    stranger = Files(other)
    for chain, key, why in (
        (str(tmp_path / "absent"), files.spec.key, "absent cannot be read: No such file"),
        (str(junk), files.spec.key, "junk is no usable PEM certificate"),
        (files.spec.chain, str(junk), "junk is no usable PEM key"),
        (files.spec.chain, stranger.spec.key, "is not the key of|no usable PEM key"),
    ):
        with pytest.raises(CertificateError, match=why):
            read_context(AdminTlsSpec(chain, key))
        with pytest.raises(CertificateError, match=why):
            AdminListener(AdminSpec("127.0.0.1:0", None, AdminTlsSpec(chain, key))).bind()
