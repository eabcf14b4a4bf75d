"""`txlb.forwarding.secure`: from the handshake to the protocol, on real sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.dataplane import Net, Peer
from support.streams import Stage
from support.tls import Authority, TlsPeer, spec_of

from txlb.net.handshakes import Arrival
from txlb.net.tls_contexts import ServerTls


class Scene:
    """A TCP listener with TLS; clients are the test's."""

    def __init__(self, folder: Path) -> None:
        self.here = Stage()
        self.listener = self.here.listener
        self.net: Net = self.here.net
        self.authority = Authority(folder)
        self.pair = self.authority.certificate("a.example")
        self.peers: list[TlsPeer] = []
        self.listen()

    def listen(self, **settings: Any) -> None:
        self.listener.tls = ServerTls(spec_of(self.pair, **settings), "db", False)

    def arrive(self) -> Peer:
        """A client that has connected and said nothing."""
        near, peer = self.net.pair()
        self.here.gate.open += 1
        self.here.acceptor.accepted(near, near.getpeername())
        return peer

    def client(self, mine: dict[str, str] | None = None, session: Any = None, version: str = "") -> TlsPeer:
        plain = self.arrive()
        self.net.peers.remove(plain)
        context = session.context if session is not None else self.authority.client(mine, version)
        return self.handshake(plain.sock, context, None if session is None else session.session)

    def handshake(self, sock: socket.socket, context: ssl.SSLContext, session: Any = None) -> TlsPeer:
        peer = TlsPeer(sock, context, "a.example", session=session)
        self.net.peers.append(peer)  # type: ignore[arg-type]
        self.peers.append(peer)
        self.net.settle()
        return peer

    @property
    def errors(self) -> dict[str, int]:
        kinds = ("handshake", "timeout", "client_certificate", "crowded", "plain_http")
        counts = {kind: getattr(self.listener, f"errors_tls_{kind}") for kind in kinds}
        return {kind: count for kind, count in counts.items() if count}

    def assert_gone(self) -> None:
        self.net.settle()
        self.net.assert_no_failure()
        assert self.here.gate.open == self.listener.connections == 0
        assert not self.net.loop.handlers and not self.listener.crowd.arrivals


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    with ended(scene):
        yield scene


@contextmanager
def ended(scene: Scene) -> Iterator[None]:
    try:
        yield
        for peer in scene.peers:
            peer.close()
        for other in (*scene.net.peers, *scene.here.origins[0].peers):
            if isinstance(other, Peer) and other.sock.fileno() >= 0:
                other.reset()
        scene.net.settle()
        scene.assert_gone()
    finally:
        scene.net.close()


def test_the_protocol_is_made_when_the_handshake_is_done(scene: Scene) -> None:
    plain = scene.arrive()
    scene.net.settle()
    assert (scene.here.gate.open, scene.listener.connections_total) == (1, 0)
    assert not scene.here.origins[0].peers, "and no backend is connected before"
    scene.net.peers.remove(plain)
    scene.handshake(plain.sock, scene.authority.client())
    assert scene.listener.connections_total == scene.listener.connections == 1
    assert (scene.listener.tls_full, scene.listener.tls_resumed) == (1, 0)
    assert scene.listener.touched and scene.here.origins[0].peers


def test_what_comes_with_the_handshake_reaches_the_protocol(scene: Scene) -> None:
    peer = scene.client()
    peer.send(b"hello")
    scene.net.settle()
    backend = scene.here.origins[0].last
    assert backend.data == b"hello"
    backend.send(b"welcome")
    scene.net.settle()
    assert peer.data == b"welcome"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_who_comes_again_resumes_and_is_counted_so(scene: Scene, version: str) -> None:
    first = scene.client(version=version)
    scene.here.origins[0].last.send(b"x")  # on TLS 1.3 the tickets come with the first bytes
    scene.net.settle()
    scene.client(session=first.sock)
    assert (scene.listener.tls_full, scene.listener.tls_resumed) == (1, 1)


def test_a_certificate_is_shown_or_the_client_does_not_come_in(scene: Scene) -> None:
    scene.listen(client_ca=scene.authority.path)
    with_one = scene.client(scene.authority.certificate("client.example"))
    assert with_one.secure and scene.listener.connections == 1
    protocol = next(
        handler.protocol  # type: ignore[attr-defined]
        for handler in scene.net.loop.handlers.values()
        if hasattr(getattr(handler, "protocol", None), "certificate")
    )
    assert "client.example" in str(protocol.certificate.extensions)
    without = scene.client()
    without.send(b"hello")
    scene.net.settle()
    assert without.ending not in ("", "notify")
    assert scene.listener.connections_total == 1
    assert scene.errors == {"client_certificate": 1}


def test_a_certificate_of_somebody_else_is_none(scene: Scene, tmp_path: Path) -> None:
    scene.listen(client_ca=scene.authority.path)
    (tmp_path / "other").mkdir()
    scene.client(Authority(tmp_path / "other").certificate("client.example"))
    assert scene.listener.connections_total == 0
    assert scene.errors == {"client_certificate": 1}


def test_where_it_is_optional_a_client_may_have_none(scene: Scene) -> None:
    scene.listen(client_ca=scene.authority.path, client_auth="optional")
    scene.client()
    assert scene.listener.connections == 1
    assert scene.errors == {}


def test_it_is_looked_at_once_more_whatever_openssl_was_told(scene: Scene) -> None:
    scene.listen(client_ca=scene.authority.path, client_auth="optional")
    tls = scene.listener.tls
    assert tls is not None
    for realm in tls.realms:
        realm.required = True  # OpenSSL does not know
    scene.client()
    assert scene.listener.connections_total == 0
    assert scene.errors == {"client_certificate": 1}


@pytest.mark.parametrize(
    ("words", "kind"),
    [(b"\x00\x01garbage that is no record", "handshake"), (b"GET / HTTP/1.1\r\n\r\n", "plain_http")],
)
def test_what_is_no_handshake_is_counted_and_closed(scene: Scene, words: bytes, kind: str) -> None:
    peer = scene.arrive()
    peer.send(words)
    scene.net.run_until(lambda: peer.ending)
    assert scene.errors == {kind: 1}
    assert scene.listener.touched and scene.listener.connections_total == 0


def test_a_client_that_leaves_in_the_middle(scene: Scene) -> None:
    peer = scene.arrive()
    scene.net.settle()
    peer.reset()
    scene.net.settle()
    assert scene.errors == {"handshake": 1}
    assert scene.here.gate.open == 0


def test_a_handshake_that_takes_too_long(scene: Scene) -> None:
    peer = scene.arrive()
    scene.net.elapse(scene.listener.tls_handshake + 1.0)
    assert peer.ending
    assert scene.errors == {"timeout": 1}


def test_the_oldest_makes_room_where_too_many_are_under_way(scene: Scene) -> None:
    scene.listener.crowd.limit = 2
    first, *others = [scene.arrive() for _ in range(3)]
    scene.net.settle()
    assert first.ending and not any(peer.ending for peer in others)
    assert scene.errors == {"crowded": 1}
    assert sum(isinstance(handler, Arrival) for handler in scene.net.loop.handlers.values()) == 2
