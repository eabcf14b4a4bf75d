"""The rows with TLS of the truth table in docs/tcp.md, each done on real sockets, in TLS 1.2 and 1.3."""

from __future__ import annotations

import select
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.closing import counted, logged, table
from support.dataplane import Peer
from support.streams import Stage, stage
from support.tls import Authority, TlsPeer, backend_spec, spec_of

from txlb.forwarding.client import BackendProtocol, ClientProtocol
from txlb.net.lingering import LINGER_TIME, SEVER_TIME
from txlb.net.tls_contexts import ServerTls
from txlb.net.tls_origin import TlsOrigin, client_context

WORD = b"some bytes"
PIECE = bytes(range(256)) * 64
OTHER = {"client": "backend", "backend": "client"}


class Row(NamedTuple):
    """One line of the table."""

    secure: str
    state: str
    event: str
    client: str
    backend: str
    log: str
    counted: str


class Scene:
    """One connection, with TLS on one side or on both."""

    def __init__(self, here: Stage, authority: Authority, version: str, secure: str) -> None:
        self.here = here
        self.net = here.net
        self.secure = {"client": secure != "backend", "backend": secure != "client"}
        if self.secure["client"]:
            here.listener.tls = ServerTls(spec_of(authority.certificate("a.example")), "db", False)
        if self.secure["backend"]:
            settings = backend_spec(ca=authority.path, server_name="b.example")
            here.backends[0].secure = TlsOrigin(settings, "127.0.0.1", client_context(settings))
        self.sent = {"client": b"", "backend": b""}
        self.peers: dict[str, Any] = {}
        here.origins[0].accepting = False
        near, client = self.net.pair()
        here.gate.open += 1
        here.acceptor.accepted(near, near.getpeername())
        if self.secure["client"]:
            self.take("client", TlsPeer(client.sock, authority.client(version=version), "a.example"), client)
            self.net.run_until(lambda: self.peers["client"].secure)
        else:
            self.peers["client"] = client
        self.net.run_until(lambda: select.select([here.origins[0].sock], [], [], 0)[0])
        sock, _ = here.origins[0].sock.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.secure["backend"]:
            context = authority.server(authority.certificate("b.example"), version=version)
            self.take("backend", TlsPeer(sock, context, server=True))
        else:
            self.take("backend", Peer(sock))
        for side in ("client", "backend"):
            self.send(side, WORD)
        self.net.run_until(lambda: all(self.is_delivered(side) for side in self.sent))

    def take(self, side: str, peer: Any, instead: Any = None) -> None:
        if instead is not None:
            self.net.peers.remove(instead)
        self.peers[side] = peer
        self.net.peers.append(peer)

    def send(self, side: str, data: bytes) -> None:
        self.sent[side] += data
        self.peers[side].send(data)

    def is_delivered(self, side: str) -> bool:
        found: bool = self.peers[OTHER[side]].data == self.sent[side]
        return found

    def transport(self, side: str) -> Any:
        kind = ClientProtocol if side == "client" else BackendProtocol
        (found,) = [
            handler
            for handler in self.net.loop.handlers.values()
            if isinstance(getattr(handler, "protocol", None), kind)
        ]
        return found

    def enter(self, state: str) -> None:
        if "bytes waiting" in state:
            side = state.partition("'")[0]
            self.peers[OTHER[side]].reading = False
            while not self.transport(OTHER[side]).pending_size:
                self.send(side, PIECE)
                self.net.settle()
            self.net.run_until(lambda: not self.peers[side].unsent)
        elif state != "open":
            side, _, how = state.partition(" ")
            if how == "cut off":
                self.finish(side, politely=False)
            else:
                self.finish(side, politely=True)
            if how == "gone":
                self.peers[side].reset()
        self.net.settle()

    def finish(self, side: str, politely: bool) -> None:
        peer = self.peers[side]
        if self.secure[side] and politely:
            peer.notify()
        else:
            peer.finish()

    def happen(self, event: str) -> None:
        side, _, how = event.partition(" ")
        if how == "RST":
            self.peers[side].reset()
        else:
            assert self.secure[side] == (how != "FIN"), event
            self.finish(side, politely=how == "close_notify")
        self.net.settle()

    # -- what is seen ---------------------------------------------------------------------------

    def check(self, row: Row) -> None:
        for side, seen in (("client", row.client), ("backend", row.backend)):
            if seen:
                self.check_side(side, seen)
        self.net.settle()
        if row.log != "goes on":
            self.net.elapse(4 * LINGER_TIME)  # a client's TLS may answer a cut with an alert, or not
        lines = logged(self.here)
        if row.log == "goes on":
            assert lines == []
        else:
            assert [f"{line['termination']} {line['reason'] or ''}".strip() for line in lines] == [row.log]
        assert counted(self.here) == ({row.counted} if row.counted else set())

    def check_side(self, side: str, seen: str) -> None:
        peer = self.peers[side]
        peer.reading = True
        wanted = self.sent[OTHER[side]]
        whole = seen != "RST"
        if whole:
            self.net.run_until(lambda: len(peer.data) >= len(wanted))
            assert peer.data == wanted, side
        if seen == "nothing yet":
            self.net.settle()
            assert peer.ending == "", side
            return
        self.net.elapse(SEVER_TIME * 5)
        self.net.run_until(lambda: peer.ending)
        assert peer.ending == self.ending(side, seen), side
        if peer.ending == "notify":
            socket.socket.setblocking(peer.sock, True)
            assert socket.socket.recv(peer.sock, 1) == b"", "FIN behind it"
            socket.socket.setblocking(peer.sock, False)

    def ending(self, side: str, seen: str) -> str:
        """How a peer calls it."""
        end = seen.removeprefix("all, then ")
        assert end != "FIN" if self.secure[side] else end in ("FIN", "RST"), "not the words for this side"
        return {"FIN": "fin", "RST": "reset", "close_notify": "notify", "FIN alone": "cut"}[end]


ROWS = [Row(*cells) for cells in table("closing with TLS")]


def test_the_table_is_read_whole() -> None:
    assert len(ROWS) > 20
    assert len({row[:3] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"TLS with {row.secure}, {row.state}: {row.event}")
def test_a_row(row: Row, version: str, tmp_path: Path) -> None:
    with stage() as here:
        scene = Scene(here, Authority(tmp_path), version, row.secure)
        scene.enter(row.state)
        scene.happen(row.event)
        scene.check(row)
