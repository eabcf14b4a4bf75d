"""`txlb.net.tls`: the transport after a handshake, against an OpenSSL that is not pyOpenSSL's."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dataplane import Net, Recorder, network, segments_in
from support.tls import Authority, TlsPeer, spec_of

from txlb.net.handshakes import Arrival, Handshakes, SecureReceiver
from txlb.net.listener import Gate
from txlb.net.openssl import RECORD
from txlb.net.splicing import SplicingTransport
from txlb.net.tls import Handshake, TlsTransport
from txlb.net.tls_contexts import ServerTls

SIZE = int(os.environ.get("TXLB_BULK", 4 << 20))  # 1073741824 for a GiB


class Through(SecureReceiver):
    """Puts a protocol on whoever gets through."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.transport: TlsTransport | None = None
        self.kinds: list[int] = []

    def secured(self, transport: TlsTransport, arrival: Arrival) -> None:
        self.transport = transport
        transport.take_over(self.protocol)

    def unsecured(self, kind: int) -> None:
        self.kinds.append(kind)


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> ServerTls:
    return ServerTls(spec_of(authority.certificate("a.example")), "web", True)


def connected(
    net: Net,
    server: ServerTls,
    authority: Authority,
    protocol: Any,
    version: str = "1.3",
    send_timeout: float = 60.0,
    **buffers: int,
) -> tuple[TlsTransport, TlsPeer]:
    near, far = net.pair(**buffers)
    net.peers.remove(far)
    peer = TlsPeer(far.sock, authority.client(version=version), "a.example")
    net.peers.append(peer)  # type: ignore[arg-type]
    through = Through(protocol)
    gate = Gate(net.loop, 10)
    gate.open = 1
    arrival = Arrival(
        gate,
        Handshakes(10),
        through,
        near,
        near.getpeername(),
        send_timeout,
        Handshake(server.connection(near)),
    )
    arrival.start(5.0)
    net.run_until(lambda: through.transport is not None and peer.secure)
    assert through.transport is not None
    return through.transport, peer


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_bytes_both_ways(net: Net, server: ServerTls, authority: Authority, version: str) -> None:
    protocol = Recorder()
    transport, peer = connected(net, server, authority, protocol, version)
    assert peer.sock.version() == f"TLSv{version}"
    peer.send(b"hello")
    net.run_until(lambda: protocol.data)
    assert protocol.data == b"hello"
    transport.write(b"and back")
    net.run_until(lambda: peer.data)
    assert peer.data == b"and back"
    transport.write(bytes(100_000))  # several records
    net.run_until(lambda: len(peer.data) == 100_008)


def test_what_is_written_last_leaves_with_close_notify_and_our_fin(
    net: Net, server: ServerTls, authority: Authority
) -> None:
    transport, peer = connected(net, server, authority, Recorder())
    net.settle()
    before = segments_in(peer)
    transport.write_last(b"goodbye")
    assert segments_in(peer) == before, "the kernel waits for more"
    transport.loseConnection()
    assert segments_in(peer) == before + 1, "at once, and together"
    net.run_until(lambda: peer.ending)
    assert (peer.data, peer.ending) == (b"goodbye", "notify")


def test_nothing_decrypted_waits_for_the_next_packet(
    net: Net, server: ServerTls, authority: Authority
) -> None:
    protocol = Recorder()
    _, peer = connected(net, server, authority, protocol)
    for size in (1, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD + 7, 200_000):
        before = len(protocol.data)
        peer.send(os.urandom(size))
        net.run_until(lambda wanted=before + size: len(protocol.data) == wanted)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_bulk_both_ways_at_once_is_the_same_at_the_other_end(
    net: Net, server: ServerTls, authority: Authority, version: str
) -> None:
    protocol = Hashing()
    transport, peer = connected(
        net, server, authority, protocol, version, send_buffer=30_000, receive_buffer=30_000
    )
    block = os.urandom(1 << 20)
    sent = hashlib.sha256()
    got = hashlib.sha256()
    received = out = 0
    while received < SIZE or protocol.size < SIZE:
        if out < SIZE and not peer.unsent:
            peer.send(block)
            sent.update(block)
            out += len(block)
        if protocol.wanted and protocol.written < SIZE:
            transport.write(block)
            protocol.written += len(block)
        if not net.turn():
            net.turn(0.005)
        if peer.data:
            got.update(peer.data)
            received += len(peer.data)
            peer.data = b""
        assert transport.pending_size <= len(block) + 65536  # one write beyond the mark, no more
    assert protocol.digest.digest() == sent.digest()
    assert got.digest() == sent.digest()


class Hashing(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self.size = 0
        self.written = 0
        self.wanted = True

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self.digest.update(data)
        self.size += len(data)

    def pauseProducing(self) -> None:
        self.wanted = False

    def resumeProducing(self) -> None:
        self.wanted = True


def test_what_waits_is_sent_before_the_farewell(net: Net, server: ServerTls, authority: Authority) -> None:
    transport, peer = connected(net, server, authority, Recorder(), send_buffer=20_000, receive_buffer=20_000)
    peer.reading = False
    data = os.urandom(500_000)
    transport.write(data)
    transport.loseConnection()
    assert transport.pending_size
    peer.reading = True
    net.run_until(lambda: peer.ending)
    assert peer.ending == "notify"
    assert peer.data == data


def test_a_farewell_that_finds_no_room_is_said_later(
    net: Net, server: ServerTls, authority: Authority
) -> None:
    transport, peer = connected(net, server, authority, Recorder(), send_buffer=5_000, receive_buffer=5_000)
    peer.reading = False
    sent = b""
    while not transport.pending_size:  # until the kernel is full
        transport.write(bytes(1000))
        sent += bytes(1000)
    transport.loseConnection()
    peer.reading = True
    net.run_until(lambda: peer.ending)
    assert peer.ending == "notify"
    assert peer.data == sent


@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_half_close_the_client_first(
    net: Net, server: ServerTls, authority: Authority, version: str, politely: bool
) -> None:
    protocol = Recorder()
    transport, peer = connected(net, server, authority, protocol, version)
    peer.send(b"question")
    net.run_until(lambda: protocol.data)
    if politely:
        peer.notify()
    else:
        peer.finish()
    net.run_until(lambda: "end" in protocol.heard)
    transport.write(b"answer")
    transport.loseConnection()
    net.run_until(lambda: peer.ending)
    assert peer.data == b"answer"
    assert peer.ending == "notify"


def test_close_notify_is_a_clean_end(net: Net, server: ServerTls, authority: Authority) -> None:
    protocol = Recorder()
    transport, peer = connected(net, server, authority, protocol)
    peer.notify()
    net.run_until(lambda: "end" in protocol.heard)
    assert not transport.is_truncated()
    transport.loseConnection()
    net.settle()
    assert protocol.losses == 1


def test_half_close_ours_first(net: Net, server: ServerTls, authority: Authority) -> None:
    protocol = Recorder()
    transport, peer = connected(net, server, authority, protocol, "1.3")
    transport.write(b"all I say")
    transport.loseWriteConnection()
    net.run_until(lambda: peer.ending)
    assert (peer.data, peer.ending) == (b"all I say", "notify")
    peer.send(b"still here")
    peer.reading = False
    net.run_until(lambda: protocol.data)
    assert protocol.data == b"still here"
    assert protocol.losses == 0


def test_a_reset_is_heard_once(net: Net, server: ServerTls, authority: Authority) -> None:
    protocol = Recorder()
    _, peer = connected(net, server, authority, protocol)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.sock.close()
    net.run_until(lambda: protocol.losses)
    assert protocol.losses == 1


def test_garbage_after_the_handshake_ends_the_connection(
    net: Net, server: ServerTls, authority: Authority
) -> None:
    protocol = Recorder()
    _, peer = connected(net, server, authority, protocol)
    socket.socket.send(peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))  # beside TLS
    net.run_until(lambda: protocol.losses)
    assert protocol.data == b""
    assert protocol.losses == 1


def test_a_paused_transport_reads_nothing(net: Net, server: ServerTls, authority: Authority) -> None:
    protocol = Recorder()
    transport, peer = connected(net, server, authority, protocol)
    transport.pauseProducing()
    peer.send(b"x" * 100)
    net.settle()
    assert protocol.data == b""
    transport.resumeProducing()
    net.run_until(lambda: protocol.data)


def test_a_client_that_takes_nothing_is_cut_off(net: Net, server: ServerTls, authority: Authority) -> None:
    protocol = Recorder()
    transport, peer = connected(
        net, server, authority, protocol, send_timeout=5.0, send_buffer=20_000, receive_buffer=20_000
    )
    peer.reading = False
    transport.write(bytes(1 << 20))
    net.elapse(6.0)
    assert protocol.losses == 1


def test_nothing_is_spliced(net: Net, server: ServerTls, authority: Authority) -> None:
    transport, _ = connected(net, server, authority, Recorder())
    net.kind = SplicingTransport
    plain, _ = net.connect(Recorder())
    assert not transport.splice_to(plain, 1 << 20, Recorder())
    assert not plain.splice_to(transport, 1 << 20, Recorder())


def test_files_are_not_needed_once_they_are_read(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    spec = spec_of(authority.certificate("a.example"))
    for path in tmp_path.iterdir():
        path.unlink()
    ServerTls(spec, "web", True)
