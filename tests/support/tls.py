"""Certificates made for one test, and TLS peers of the standard library's (an OpenSSL of its own)."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import trustme

from txlb.config.certificates import TlsFiles
from txlb.config.tls import BackendTls, Tls
from txlb.core.model import BackendTlsSpec, TlsSpec

READS = 16  # of a peer, one after another


class Authority:
    """A CA of the test's, and the files of what it signs."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.path = str(folder / f"{name}.pem")
        Path(self.path).write_bytes(self.ca.cert_pem.bytes())

    def certificate(self, *names: str, kind: str = "ec", label: str = "", **more: Any) -> dict[str, str]:
        """``{"chain": PATH, "key": PATH}`` of a certificate for ``names``."""
        key_type = trustme.KeyType.RSA if kind == "rsa" else trustme.KeyType.ECDSA
        issued = self.ca.issue_cert(*names, key_type=key_type, **more)
        return self.write(issued, label or f"{names[0]}-{kind}".replace("*", "any"))

    def write(self, issued: trustme.LeafCert, label: str) -> dict[str, str]:
        chain, key = self.folder / f"{label}.pem", self.folder / f"{label}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        key.write_bytes(issued.private_key_pem.bytes())
        return {"chain": str(chain), "key": str(key)}

    def client(
        self, mine: dict[str, str] | None = None, version: str = "", alpn: tuple[str, ...] = ()
    ) -> ssl.SSLContext:
        """A client's context that trusts us; ``version``: this one only."""
        context = ssl.create_default_context(cafile=self.path)
        if mine is not None:
            context.load_cert_chain(mine["chain"], mine["key"])
        if version:
            only = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
            context.minimum_version = context.maximum_version = only
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def server(self, mine: dict[str, str], clients: str = "", version: str = "") -> ssl.SSLContext:
        """A server's context; ``clients``: a CA whose certificates it demands."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(mine["chain"], mine["key"])
        if clients:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
        if version:
            only = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
            context.minimum_version = context.maximum_version = only
        return context


def call(
    port: int,
    context: ssl.SSLContext,
    name: str | None,
    session: ssl.SSLSession | None = None,
    timeout: float = 10.0,
) -> ssl.SSLSocket:
    """A TLS connection to a port here."""
    if name is None:
        context.check_hostname = False
    sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    try:
        return context.wrap_socket(sock, server_hostname=name, session=session)
    except BaseException:
        sock.close()
        raise


def get(sock: ssl.SSLSocket, host: str, path: str = "/", more: str = "") -> bytes:
    """One answer, whole: to a request that says close unless ``more`` says otherwise."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more or 'Connection: close'}\r\n\r\n".encode())
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


class TlsPeer:
    """The far end of a connection, in TLS, served by `support.dataplane.Net.turn`."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        name: str | None = None,
        server: bool = False,
        session: ssl.SSLSession | None = None,
    ) -> None:
        sock.setblocking(False)
        if name is None:
            context.check_hostname = False
        self.sock = context.wrap_socket(
            sock,
            server,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,  # else a cut looks like an end in order
            server_hostname=name,
            session=session,
        )
        self.data = b""
        self.unsent = b""
        self.reading = True
        self.secure = False
        self.ending = ""  # "notify", "cut" (without close_notify), "reset", or what OpenSSL says

    def poll(self) -> bool:
        """Go on as far as can be; whether anything happened."""
        if self.sock.fileno() < 0 or self.ending not in ("", "notify"):
            return False
        try:
            if not self.secure:
                self.sock.do_handshake()
                self.secure = True
                return True
            happened = False
            try:
                while self.unsent:
                    self.unsent = self.unsent[self.sock.send(self.unsent[:65536]) :]
                    happened = True
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass  # who does not take what we write may wait for us to read
            for _ in range(READS):
                if not self.reading or self.ending:
                    break
                if self.is_reset():
                    self.ending = "reset"
                    return True
                piece = self.sock.recv(65536)
                if not piece:
                    self.ending = "notify"
                self.data += piece
                happened = True
            return happened
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLZeroReturnError:
            self.ending = "notify"
        except ssl.SSLEOFError:
            self.ending = "cut"
        except ssl.SSLError as why:
            self.ending = why.reason or "error"
        except OSError:
            self.ending = "reset"
        return True

    def is_reset(self) -> bool:
        """The ssl module would call it a cut."""
        try:
            socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    def send(self, data: bytes) -> None:
        self.unsent += data

    def notify(self) -> None:
        """close_notify, then FIN."""
        try:
            self.sock.setblocking(False)
            self.sock.unwrap()
        except (OSError, ValueError):
            pass
        self.finish()

    def finish(self) -> None:
        """FIN without close_notify."""
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.sock.close()

    def close(self) -> None:
        self.sock.close()


def spec_of(*pairs: dict[str, str], **settings: Any) -> TlsSpec:
    """What the configuration loader makes of it."""
    files = TlsFiles("/")
    spec = files.listener(Tls.model_validate({"certificates": pairs, **settings}), ())
    assert files.errors == []
    return spec


def backend_spec(**settings: Any) -> BackendTlsSpec:
    files = TlsFiles("/")
    spec = files.backend(BackendTls.model_validate(settings), ())
    assert files.errors == []
    return spec
