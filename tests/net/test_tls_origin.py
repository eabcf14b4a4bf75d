"""`txlb.net.tls_origin` with `txlb.net.connector`: backends that are, or are not, whom we expect."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.dataplane import Net, Recorder, network
from support.tls import Authority, backend_spec

from txlb.core import outcome as outcomes
from txlb.net.connector import Connecting, Receiver
from txlb.net.openssl import was_resumed
from txlb.net.stream import StreamTransport
from txlb.net.tls import TlsTransport
from txlb.net.tls_origin import TlsOrigin, client_context


class Waiting(Receiver):
    def __init__(self) -> None:
        self.protocol = Recorder()
        self.heard: list[int | str] = []
        self.resumed = False

    def connected(self, transport: StreamTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.resumed = was_resumed(transport.tls)
        self.heard.append("connected")
        transport.take_over(self.protocol)

    def connect_failed(self, outcome: int) -> None:
        self.heard.append(outcome)


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def backend(context: ssl.SSLContext, ending: str = "notify") -> Iterator[tuple[int, list[str | None]]]:
    """Greets whoever gets through and closes; the names it was asked for."""
    asked: list[str | None] = []
    context.sni_callback = lambda sock, name, mine: asked.append(name)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(sock, server_side=True) as tls:
                    tls.sendall(b"hello")
                    if ending == "notify":
                        tls.unwrap()
                    else:
                        socket.socket.shutdown(tls, socket.SHUT_WR)
                        tls.recv(1)
            except OSError:
                sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1], asked
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def origin_of(host: str = "b.example", **settings: Any) -> TlsOrigin:
    spec = backend_spec(**settings)
    return TlsOrigin(spec, host, client_context(spec))


def connect(net: Net, port: int, origin: TlsOrigin, timeout: float = 5.0) -> Waiting:
    waiting = Waiting()
    Connecting(net.loop, waiting, 60.0, origin).begin("127.0.0.1", port, timeout)
    net.run_until(lambda: waiting.heard)
    return waiting


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_backend_that_is_whom_we_expect(net: Net, authority: Authority, version: str) -> None:
    origin = origin_of(ca=authority.path)
    with backend(authority.server(authority.certificate("b.example"), version=version)) as (port, asked):
        for again in (False, True):
            waiting = connect(net, port, origin)
            assert (waiting.heard, waiting.resumed) == (["connected"], again)
            net.run_until(lambda w=waiting: "end" in w.protocol.heard)
            assert waiting.protocol.data == b"hello"
            assert not waiting.protocol.transport.is_truncated()
            waiting.protocol.transport.loseConnection()
            net.settle()
    assert asked == ["b.example"] * 2


def test_an_end_without_close_notify_is_told(net: Net, authority: Authority) -> None:
    with backend(authority.server(authority.certificate("b.example")), "fin") as (port, _):
        waiting = connect(net, port, origin_of(ca=authority.path))
        net.run_until(lambda: "end" in waiting.protocol.heard)
        assert waiting.protocol.transport.is_truncated()
        waiting.protocol.transport.abortConnection()
        net.settle()


def test_names_and_addresses(net: Net, authority: Authority) -> None:
    context = authority.server(authority.certificate("b.example", "127.0.0.1"))
    with backend(context) as (port, asked):
        for host, settings, good in (
            ("127.0.0.1", {}, True),
            ("127.0.0.2", {}, False),
            ("127.0.0.1", {"server_name": "b.example"}, True),
            ("b.example", {"server_name": "c.example"}, False),
            ("c.example", {"verify": False}, True),
        ):
            origin = origin_of(host, ca=authority.path, **settings)
            waiting = connect(net, port, origin)
            assert waiting.heard == (["connected"] if good else [outcomes.CONNECT_TLS]), host
            assert bool(origin.take_problem(100.0)) != good
            if good:
                waiting.protocol.transport.abortConnection()
                net.settle()
        assert asked == [None, None, "b.example", "c.example", "c.example"]


def test_an_unknown_ca_is_no_backend_of_ours(net: Net, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    origin = origin_of(ca=other.path)
    with backend(authority.server(authority.certificate("b.example"))) as (port, _):
        assert connect(net, port, origin).heard == [outcomes.CONNECT_TLS]
        assert "certificate verify failed" in origin.take_problem(100.0)
        assert connect(net, port, origin).heard == [outcomes.CONNECT_TLS]
        assert origin.take_problem(130.0) == ""  # known
        assert connect(net, port, origin).heard == [outcomes.CONNECT_TLS]
        assert origin.take_problem(170.0) != ""
        assert connect(net, port, origin_of()).heard == [outcomes.CONNECT_TLS]  # what the system trusts


def test_what_we_show_of_ourselves(net: Net, authority: Authority) -> None:
    context = authority.server(authority.certificate("b.example"), clients=authority.path)
    mine = authority.certificate("txlb.example")
    with backend(context) as (port, _):
        waiting = connect(net, port, origin_of(ca=authority.path, client_certificate=mine))
        net.run_until(lambda: waiting.protocol.data)
        waiting.protocol.transport.abortConnection()
        net.settle()


def test_a_backend_that_speaks_no_tls_and_one_that_says_nothing(net: Net, authority: Authority) -> None:
    origin = origin_of(ca=authority.path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        waiting = Waiting()
        Connecting(net.loop, waiting, 60.0, origin).begin("127.0.0.1", port, 2.0)
        far, _ = server.accept()
        far.sendall(b"220 hello\r\n")
        net.run_until(lambda: waiting.heard)
        assert waiting.heard == [outcomes.CONNECT_TLS]
        silent = Waiting()
        Connecting(net.loop, silent, 60.0, origin).begin("127.0.0.1", port, 2.0)
        quiet, _ = server.accept()
        net.settle()
        net.elapse(3.0)
        assert silent.heard == [outcomes.CONNECT_TIMEOUT]
        assert net.loop.handlers == {}
        cancelled = Waiting()
        connecting = Connecting(net.loop, cancelled, 60.0, origin)
        connecting.begin("127.0.0.1", port, 2.0)
        other, _ = server.accept()
        net.settle()
        connecting.cancel()
        assert net.loop.handlers == {}
        for sock in (far, quiet, other):
            sock.close()
