"""`txlb.control.tls_probes`: whom an ``https`` check takes for well, and why not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.dataplane import Net, network
from support.tls import Authority

from txlb.control.probes import expected_of, preface_to, sign_of_life
from txlb.control.tls_probes import TlsProbe
from txlb.core import health_counts as results
from txlb.core.model import BackendSpec, BackendTlsSpec, CertificateSpec, HealthCheckSpec
from txlb.net.probing import ProbeReceiver
from txlb.net.tls_origin import TlsOrigin, client_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHECK = HealthCheckSpec("https", path="/health")


class Heard(ProbeReceiver):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, str]] = []

    def probed(self, key: Any, result: int, reason: str) -> None:
        assert key == "key"
        self.told.append((result, reason))


@dataclass
class Scene:
    net: Net
    ca: Authority
    heard: Heard

    def begin(self, port: int, trust: str = "", **more: Any) -> Any:
        pem = Path(trust or self.ca.path).read_text()
        tls = BackendTlsSpec(ca_pem=pem, **{"server_name": "b.example", **more})
        spec = BackendSpec("b", "127.0.0.1", port, address="127.0.0.1", tls=tls, proxy_protocol=self.proxy)
        origin = TlsOrigin(tls, spec.host, client_context(tls))
        expected = sign_of_life(spec) if self.life else expected_of(spec, CHECK)
        probe = TlsProbe(self.net.loop, self.heard, ("127.0.0.1", port), origin, expected, preface_to(spec))
        return probe.start("key")

    proxy: str | None = None
    life: bool = False  # any sign of it is good

    def result(self) -> tuple[int, str]:
        self.net.run_until(lambda: self.heard.told)
        self.net.run_until(lambda: not self.net.loop.handlers)
        assert self.heard.sockets == 0
        (one,) = self.heard.told
        return one


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with network() as net:
        yield Scene(net, Authority(tmp_path), Heard())


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """One connection, in a thread; what goes wrong with TLS there is the probe's doing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10.0)

        def run() -> None:
            sock, _ = listening.accept()
            sock.settimeout(10.0)
            with sock:
                try:
                    serve(sock)
                except OSError:
                    pass

        thread = threading.Thread(target=run)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10.0)
        assert not thread.is_alive()


def answering(context: ssl.SSLContext, *pieces: bytes, proxy: bytes = b"") -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        if proxy:
            assert sock.recv(len(proxy)) == proxy
        with context.wrap_socket(sock, server_side=True) as secure:
            request = secure.recv(65536)
            if not request:  # it does not like us
                return
            assert request.startswith(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:")
            for piece in pieces:
                secure.sendall(piece)
            if pieces:
                secure.recv(1)

    return serve


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_good_answer(scene: Scene, version: str) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"), version=version)
    with serving(answering(context, OK[:20], OK[20:])) as port:
        scene.begin(port)
        assert scene.result() == (results.SUCCESS, "")


def test_an_answer_that_never_ends_is_not_waited_for(scene: Scene) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"))
    with serving(answering(context, b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 65536] * 1000)) as port:
        scene.begin(port)
        assert scene.result() == (results.SUCCESS, "")


@pytest.mark.parametrize(
    ("pieces", "result", "reason"),
    [
        ((OK.replace(b"200", b"503"),), results.STATUS, "status 503"),
        ((b"hello\nhello\n",), results.MALFORMED, "no HTTP answer"),
        ((), results.CLOSED, "closed before its answer was whole"),
    ],
)
def test_bad_answers(scene: Scene, pieces: tuple[bytes, ...], result: int, reason: str) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"))
    with serving(answering(context, *pieces)) as port:
        scene.begin(port)
        assert scene.result() == (result, reason)


def test_the_backend_is_verified(scene: Scene, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    context = scene.ca.server(scene.ca.certificate("b.example"))
    with serving(answering(context, OK)) as port:
        scene.begin(port, trust=other.path)
        result, reason = scene.result()
    assert result == results.FAILED
    assert reason.startswith("TLS: ") and "verify failed" in reason


def test_its_name_is_verified(scene: Scene) -> None:
    context = scene.ca.server(scene.ca.certificate("other.example"))
    with serving(answering(context, OK)) as port:
        scene.begin(port)
        assert scene.result() == (results.FAILED, "TLS: its certificate is not for b.example")


def test_it_need_not_be_verified(scene: Scene) -> None:
    context = scene.ca.server(scene.ca.certificate("other.example"))
    with serving(answering(context, OK)) as port:
        scene.begin(port, verify=False)
        assert scene.result() == (results.SUCCESS, "")


def test_a_certificate_of_ours_is_shown(scene: Scene) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"), clients=scene.ca.path)
    mine = scene.ca.certificate("txlb.example")
    shown = CertificateSpec(
        mine["chain"], mine["key"], Path(mine["chain"]).read_text(), Path(mine["key"]).read_text()
    )
    with serving(answering(context, OK)) as port:
        scene.begin(port, client_certificate=shown)
        assert scene.result() == (results.SUCCESS, "")


def test_the_proxy_header_comes_before_tls(scene: Scene) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"))
    scene.proxy = "v1"
    with serving(answering(context, OK, proxy=b"PROXY UNKNOWN\r\n")) as port:
        scene.begin(port)
        assert scene.result() == (results.SUCCESS, "")


def test_one_that_does_not_speak_tls(scene: Scene) -> None:
    with serving(lambda sock: sock.sendall(OK)) as port:
        scene.begin(port)
        result, reason = scene.result()
    assert result == results.FAILED
    assert reason.startswith("TLS: ")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 501 No\r\n\r\n", b"garbage", b""])
def test_a_sign_of_life(scene: Scene, answer: bytes) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"))

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            assert secure.recv(65536).startswith(b"OPTIONS * HTTP/1.1\r\n")
            secure.sendall(answer)

    scene.life = True
    with serving(serve) as port:
        scene.begin(port)
        assert scene.result() == (results.SUCCESS, "")


def test_refused(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    scene.begin(port)
    assert scene.result() == (results.REFUSED, "connection refused")


def test_its_time_is_over_in_the_handshake(scene: Scene) -> None:
    def serve(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with serving(serve) as port:
        attempt = scene.begin(port)
        scene.net.settle()
        attempt.expire(0.2)
        assert scene.result() == (results.TIMEOUT, "no TLS connection within 200 ms")


def test_its_time_is_over_before_the_answer(scene: Scene) -> None:
    context = scene.ca.server(scene.ca.certificate("b.example"))
    asked = threading.Event()

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            secure.recv(65536)
            asked.set()
            secure.recv(1)

    with serving(serve) as port:
        attempt = scene.begin(port)
        scene.net.run_until(asked.is_set)
        attempt.expire(2.0)
        assert scene.result() == (results.TIMEOUT, "no answer within 2000 ms")


def test_who_cancels_hears_nothing(scene: Scene) -> None:
    with serving(lambda sock: None) as port:
        attempt = scene.begin(port)
        attempt.cancel()
        attempt.cancel()
        socket.create_connection(("127.0.0.1", port)).close()
        scene.net.settle()
    assert (scene.heard.told, scene.heard.sockets) == ([], 0)
