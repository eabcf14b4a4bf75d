"""The truth table of closing states in docs/tcp.md: each row is done on real sockets, copied and spliced."""

from __future__ import annotations

import errno
import re
import socket
from typing import Any, NamedTuple

import pytest
from support.closing import counted, logged, table
from support.dataplane import Peer
from support.streams import Stage, stage

from txlb.forwarding.client import BackendProtocol, ClientProtocol
from txlb.net.lingering import LINGER_TIME

WORD = b"some bytes"
BULK = bytes(range(256)) * 4096  # 1 MiB: large reads, so the kernel takes over
PIECE = BULK[: 1 << 14]


class Row(NamedTuple):
    """One line of the table."""

    state: str
    event: str
    client: str
    backend: str
    log: str
    counted: str


class Scene:
    """One connection in one of the states."""

    def __init__(self, here: Stage, spliced: bool) -> None:
        self.here = here
        self.spliced = spliced
        here.net.loop.pipes.enabled = spliced
        self.client: Peer
        self.backend: Peer | None = None
        self.sent = {"client": b"", "backend": b""}
        self.full: list[socket.socket] = []

    # -- states -----------------------------------------------------------------------------

    def connect(self) -> None:
        self.client, self.backend = self.here.pair()
        if self.spliced:
            for side in ("client", "backend"):
                self.send(side, BULK)
                self.here.net.run_until(lambda: self.is_delivered("client") and self.is_delivered("backend"))

    def connecting(self) -> None:
        """The backend's queue is full: it neither accepts nor refuses."""
        origin = self.here.origins[0]
        origin.accepting = False
        origin.sock.listen(0)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", origin.port))
            self.full.append(filler)
        self.client = self.here.client()
        self.send("client", WORD)
        self.here.net.settle()
        assert self.here.backends[0].active_connections == 1
        assert self.here.backends[0].connections == 0

    def peer(self, side: str) -> Peer:
        found = self.client if side == "client" else self.backend
        assert found is not None
        return found

    def send(self, side: str, data: bytes) -> None:
        self.sent[side] += data
        self.peer(side).send(data)

    def wait(self, side: str) -> None:
        """Have bytes of ``side`` wait: its peer does not read."""
        other = self.peer(OTHER[side])
        other.reading = False
        while not self.is_waiting(side):
            self.send(side, BULK if self.spliced else PIECE)
            self.here.net.settle()
        other_transport = self.transport(OTHER[side])
        incoming = getattr(other_transport, "incoming", None)
        assert (incoming is not None and incoming.held > 0) == self.spliced

    def is_waiting(self, side: str) -> bool:
        transport = self.transport(OTHER[side])
        incoming = getattr(transport, "incoming", None)
        held = incoming is not None and incoming.held > 0
        return held if self.spliced else bool(transport.pending_size)

    def transport(self, side: str) -> Any:
        kind = ClientProtocol if side == "client" else BackendProtocol
        (found,) = [
            handler
            for handler in self.here.net.loop.handlers.values()
            if isinstance(getattr(handler, "protocol", None), kind)
        ]
        return found

    def is_delivered(self, side: str) -> bool:
        return self.peer(OTHER[side]).data == self.sent[side]

    def enter(self, state: str) -> None:
        first, _, rest = state.partition(", ")
        if first == "connecting":
            self.connecting()
            if rest:
                self.client.finish()
                self.here.net.settle()
            return
        self.connect()
        waiting = re.search(r"(client|backend)'s bytes", state)
        closed = re.match(r"(client|backend|both) (half-closed|gone)", state)
        sides = [] if closed is None else ["client", "backend"] if closed[1] == "both" else [closed[1]]
        if waiting is not None or "its bytes" in state:
            self.wait(waiting[1] if waiting is not None else sides[0])
        for side in sides:
            self.finish(side)
        if "gone" in state:
            self.peer(sides[0]).reset()
            self.here.net.settle()

    # -- what ends ----------------------------------------------------------------------------

    def finish(self, side: str) -> None:
        """FIN of a side, told: what it has not sent yet would be before it, so it is not sent."""
        peer = self.peer(side)
        if peer.unsent:
            self.sent[side] = self.sent[side][: -len(peer.unsent)]
            peer.unsent = b""
        peer.finish()
        self.here.net.settle()

    def happen(self, event: str) -> None:
        here = self.here
        side, _, how = event.partition(" ")  # "nothing moves", "txlb stops", "backend silent": alike
        if how == "FIN":
            self.finish(side)
        elif how == "RST":
            self.peer(side).reset()
            other = self.peer(OTHER[side]) if self.backend is not None else None
            if other is not None:
                other.unsent = b""  # its own write would meet the reset first, and swallow it
            here.net.settle()
        elif how == "sends":
            for _ in range(4):
                self.send(side, BULK if self.spliced else PIECE)
                here.net.settle()
        elif how == "s pass":
            here.net.elapse(LINGER_TIME * 4)
        elif how == "moves":
            here.net.elapse(here.listener.tunnel_idle + 1.0)
        elif how == "takes nothing":
            here.net.elapse(here.listener.send_timeout * 2 + 1.0)
        elif how == "stops":
            for handler in list(here.net.loop.handlers.values()):
                protocol = getattr(handler, "protocol", None)
                if isinstance(protocol, (ClientProtocol, BackendProtocol)):
                    protocol.cut_off()
            here.net.loop.run_deferred()
            here.net.settle()
        elif how == "silent":
            here.net.elapse(here.sources.connect_timeout + 1.0)
        else:
            raise AssertionError(event)

    def admit(self) -> None:
        """The queue has room again; the kernel asks once more after a second."""
        for filler in self.full:
            filler.close()
        self.full = []
        origin = self.here.origins[0]
        origin.accepting = True
        self.here.net.run_until(lambda: any(peer.data for peer in origin.peers))
        (self.backend,) = [peer for peer in origin.peers if peer.data]

    # -- what is seen ---------------------------------------------------------------------------

    def check(self, row: Row) -> None:
        net = self.here.net
        if row.state.startswith("connecting") and row.backend.startswith("all"):
            self.admit()
        for side, seen in (("client", row.client), ("backend", row.backend)):
            if not seen:
                continue
            if seen == "nothing":
                assert self.here.backends[0].active_connections == 0
                continue
            peer = self.peer(side)
            peer.reading = True
            wanted = self.sent[OTHER[side]]
            if seen == "RST" and re.search("half-closed|gone", row.state) and peer.ending == "fin":
                error = peer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                assert error in (errno.EPIPE, errno.ECONNRESET), side  # behind the FIN that it has
                continue
            if seen in ("all, then FIN", "RST"):
                net.run_until(lambda peer=peer: peer.ending)
                assert peer.ending == ("fin" if seen == "all, then FIN" else "reset"), side
            else:
                net.run_until(lambda peer=peer, wanted=wanted: len(peer.data) >= len(wanted))
                net.settle()
                assert peer.ending == "", side
            if seen != "RST":
                assert peer.data == wanted, side
            else:
                assert wanted.startswith(peer.data), side
        net.settle()
        if "both half-closed" in row.state and self.spliced:
            net.run_until(lambda: logged(self.here))  # what the pipe has held up is still to be read
        lines = logged(self.here)
        if row.log == "goes on":
            assert lines == []
        else:
            assert [f"{line['termination']} {line['reason'] or ''}".strip() for line in lines] == [row.log]
        assert counted(self.here) == ({row.counted} if row.counted else set())


OTHER = {"client": "backend", "backend": "client"}
ROWS = [Row(*cells) for cells in table("closing")]


def test_the_table_is_read_whole() -> None:
    assert len(ROWS) > 40
    assert len({row[:2] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("spliced", [False, True], ids=["copied", "spliced"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.state}: {row.event}")
def test_a_row(row: Row, spliced: bool) -> None:
    if row.state.startswith("connecting") and spliced:
        return  # nothing moves yet: the same as copied
    with stage() as here:
        here.listener.send_timeout = 20.0
        here.sources.send_timeout = 20.0
        scene = Scene(here, spliced)
        if row.event == "backend refuses":
            refuse(scene, "half-closed" in row.state)
        else:
            scene.enter(row.state)
            scene.happen(row.event)
        scene.check(row)
        for filler in scene.full:
            filler.close()


def refuse(scene: Scene, finished: bool) -> None:
    """A connect on loopback is refused at once: what comes before it is there when it begins."""
    here = scene.here
    here.origins[0].close()
    near, scene.client = here.net.pair()
    scene.send("client", WORD)
    if finished:
        scene.client.finish()
    here.gate.open += 1
    here.acceptor.accepted(near, near.getpeername())
    here.net.settle()
