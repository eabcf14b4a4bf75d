from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from support.dataplane import Peer
from support.hello import client_hello
from support.streams import Stage, stage
from support.tls import Authority, TlsPeer, backend_spec

from txlb.core.proxy_protocol import WHOLE, HeaderReader
from txlb.forwarding.accept import HelloAcceptor
from txlb.forwarding.client import BackendProtocol, ClientProtocol
from txlb.forwarding.tcp.record import TcpRecord
from txlb.forwarding.tcp.session import EARLY
from txlb.net.tls_origin import TlsOrigin, client_context

BULK = bytes(range(256)) * 65536  # 16 MiB


def test_it_connects_at_once_and_relays_both_ways() -> None:
    with stage() as here:
        client, backend = here.pair()
        backend.send(b"welcome")  # the server speaks first
        here.net.settle()
        assert client.take() == b"welcome"
        client.send(b"select")
        here.net.settle()
        assert backend.take() == b"select"
        client.finish()
        here.net.settle()
        assert backend.ending == "fin"
        backend.send(b"last words")
        backend.finish()
        here.net.settle()
        assert client.take() == b"last words"
        assert client.ending == "fin"
        record = here.record()
        assert (record["protocol"], record["rule"], record["backend"], record["tries"]) == (
            "tcp",
            "rule",
            "b0",
            1,
        )
        assert (record["bytes_in"], record["bytes_out"]) == (6, 17)
        assert (record["termination"], record["reason"]) == ("--", None)


def test_what_comes_before_the_backend_is_there_is_kept() -> None:
    with stage() as here:
        client, backend = here.pair(b"early" * 1000)
        assert backend.take() == b"early" * 1000
        client.send(b"late")
        here.net.settle()
        assert backend.take() == b"late"


def test_early_bytes_are_bounded_and_none_is_lost() -> None:
    with stage() as here:
        data = bytes(range(256)) * 8192
        near, client = here.net.pair()
        client.send(data)
        here.gate.open += 1
        here.origins[0].accepting = False
        here.acceptor.accepted(near, near.getpeername())
        here.net.run_until(lambda: here.backends[0].connections)
        here.origins[0].accepting = True
        here.net.run_until(lambda: here.origins[0].peers and len(here.origins[0].last.data) == len(data))
        assert here.origins[0].last.data == data
        assert len(data) > EARLY


def test_a_failed_connect_goes_to_the_next_backend_with_everything_kept() -> None:
    with stage(backends=3) as here:
        here.origins[0].close()
        here.origins[1].close()
        client = here.client(b"hello")
        here.net.run_until(lambda: here.origins[2].peers)
        backend = here.origins[2].last
        here.net.run_until(lambda: backend.data)
        assert backend.take() == b"hello"
        assert here.pool.retries == 2
        client.finish()
        backend.finish()
        assert (here.record()["tries"], here.record()["backend"]) == (3, "b2")


def arrives(here: Stage, data: bytes) -> Peer:
    """A client whose backend is chosen and being connected to."""
    near, client = here.net.pair()
    here.gate.open += 1
    here.acceptor.accepted(near, near.getpeername())
    client.send(data)
    return client


def test_a_backend_that_turns_unhealthy_while_connecting_is_left() -> None:
    with stage(backends=2) as here:
        client = arrives(here, b"hello")
        here.backends[0].healthy = False
        here.net.run_until(lambda: here.origins[1].peers and here.origins[1].last.data)
        assert here.origins[1].last.data == b"hello"
        assert (here.origins[0].last.data, here.origins[0].last.ending) == (b"", "reset")
        assert (here.pool.retries, here.backends[0].errors) == (1, 0)
        assert here.backends[0].active_connections == 0
        client.finish()
        here.origins[1].last.finish()
        assert (here.record()["tries"], here.record()["backend"]) == (2, "b1")


def test_who_was_chosen_in_a_panic_or_is_the_only_one_is_used_though_unhealthy() -> None:
    for panic, others in ((1.0, 2), (0.0, 1)):
        with stage(backends=others) as here:
            here.pool.panic_threshold = panic
            for backend in here.backends:
                backend.healthy = panic == 0.0
            here.pool.rebuild()
            arrives(here, b"hello")
            here.backends[0].healthy = False
            here.net.run_until(lambda here=here: here.origins[0].peers and here.origins[0].last.data)
            assert here.pool.retries == 0


def test_no_backend_left_is_a_reset() -> None:
    with stage(backends=2) as here:
        for origin in here.origins:
            origin.close()
        client = here.client(b"hello")
        here.net.run_until(lambda: client.ending)
        assert client.ending == "reset"
        record = here.record()
        assert (record["termination"], record["reason"]) == ("SC", "connect_refused")
        assert (record["bytes_in"], here.listener.bytes_in) == (5, 5)
        assert here.listener.errors == {502: 1}


def test_no_eligible_backend() -> None:
    with stage() as here:
        here.backends[0].healthy = False
        here.pool.standing_changed()
        here.pool.rebuild()
        client = here.client()
        assert client.ending == "reset"
        assert here.record()["reason"] == "no_backend"


def test_a_client_that_leaves_while_connecting() -> None:
    with stage() as here:
        near, client = here.net.pair()
        peer = near.getpeername()
        here.gate.open += 1
        client.reset()
        here.acceptor.accepted(near, peer)
        here.net.settle()
        assert here.record()["reason"] == "client_abort"


def test_fin_before_the_backend_is_there_is_passed_on() -> None:
    with stage() as here:
        near, client = here.net.pair()
        client.send(b"one shot")
        client.finish()
        here.gate.open += 1
        here.acceptor.accepted(near, near.getpeername())
        here.net.settle()
        backend = here.origins[0].last
        assert (backend.take(), backend.ending) == (b"one shot", "fin")
        backend.send(b"answer")
        backend.finish()
        here.net.settle()
        assert (client.take(), client.ending) == (b"answer", "fin")


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_reset_of_one_side_is_a_reset_of_the_other(side: str) -> None:
    with stage() as here:
        client, backend = here.pair(b"x")
        first, other = (client, backend) if side == "client" else (backend, client)
        first.reset()
        here.net.settle()
        assert other.ending == "reset"
        assert here.record()["termination"] == ("CT" if side == "client" else "ST")


def test_silence_of_both_ends_it() -> None:
    with stage() as here:
        here.listener.tunnel_idle = 10.0
        client, backend = here.pair(b"x")
        here.net.elapse(9.0)
        backend.send(b"y")
        here.net.settle()
        here.net.elapse(9.0)
        assert not client.ending
        here.net.elapse(2.0)
        assert client.ending == backend.ending == "reset"
        assert here.record()["reason"] == "tunnel_idle"


def test_a_slow_reader_stops_the_other_from_being_read() -> None:
    with stage() as here:
        client, backend = here.pair()
        client.reading = False
        backend.send(bytes(16 << 20))
        here.net.settle()
        assert backend.unsent, "the rest is not taken"
        client.reading = True
        here.net.run_until(lambda: len(client.data) == 16 << 20)


@pytest.mark.parametrize("from_client", [True, False])
def test_bulk_is_moved_by_the_kernel_counted_and_ends_as_ever(from_client: bool) -> None:
    data = bytes(range(256)) * 65536
    with stage() as here:
        client, backend = here.pair()
        sender, receiver = (client, backend) if from_client else (backend, client)
        sender.send(data)
        here.net.run_until(lambda: here.net.loop.pipes.kept or len(receiver.data) == len(data))
        here.net.run_until(lambda: len(receiver.data) == len(data))
        receiver.send(b"the other direction goes on")
        here.net.settle()
        assert sender.take() == b"the other direction goes on"
        sender.send(b"thin again")
        sender.finish()
        here.net.settle()
        assert receiver.take() == data + b"thin again"
        assert (receiver.ending, sender.ending) == ("fin", "")
        receiver.finish()
        here.net.settle()
        assert sender.ending == "fin"
        assert len(here.net.loop.pipes.kept) == 1, "it was spliced"
        record = here.record()
        counts = [len(data) + 10, 27]
        assert [record["bytes_in"], record["bytes_out"]] == (counts if from_client else counts[::-1])
        assert here.backends[0].bytes_out == record["bytes_in"]
        assert here.backends[0].bytes_in == record["bytes_out"]


@pytest.mark.parametrize("first", ["client", "backend"])
@pytest.mark.parametrize("resets", ["sender", "receiver"])
def test_a_reset_in_the_middle_of_bulk(first: str, resets: str) -> None:
    with stage() as here:
        client, backend = here.pair()
        sender, receiver = (client, backend) if first == "client" else (backend, client)
        receiver.reading = False
        sender.send(bytes(64 << 20))
        here.net.settle()
        assert sender.unsent
        assert not here.net.turn(), "nothing spins"
        (sender if resets == "sender" else receiver).reset()
        receiver.reading = True
        other = receiver if resets == "sender" else sender
        other.unsent = b""  # its own write would meet the reset first, and swallow it
        here.net.run_until(lambda: other.ending)
        assert other.ending == "reset"


def test_a_proxy_header_comes_first() -> None:
    with stage() as here:
        here.backends[0].proxy_protocol = 1
        client, backend = here.pair(b"hello")
        host, port = client.sock.getsockname()
        to_host, to_port = client.sock.getpeername()
        assert backend.take() == f"PROXY TCP4 {host} {to_host} {port} {to_port}\r\nhello".encode()


def test_the_end_of_a_shutdown() -> None:
    with stage() as here:
        _, backend = here.pair(b"x")
        ((session, protocol),) = [
            (handler.protocol.session, handler.protocol)  # type: ignore[attr-defined]
            for handler in here.net.loop.handlers.values()
            if isinstance(getattr(handler, "protocol", None), ClientProtocol)
        ]
        assert (protocol.listener_id(), protocol.backend_id()) == ("db", "b0")
        protocol.drain()
        here.net.settle()
        assert not session.ended
        protocol.cut_off()
        here.net.loop.run_deferred()
        here.net.settle()
        assert backend.ending == "reset"
        assert here.record()["reason"] == "shutdown"


def test_the_server_name_is_announced_where_tls_is_passed_through() -> None:
    with stage() as here:
        here.backends[0].proxy_protocol = 2
        here.listener.sni = True
        near, client = here.net.pair()
        hello = client_hello("a.example")
        client.send(hello)
        here.gate.open += 1
        HelloAcceptor(here.listener, here.gate, here.acceptor).accepted(near, near.getpeername())
        here.net.settle()
        data = here.origins[0].last.take()
        reader = HeaderReader()
        assert reader.feed(data) == WHOLE
        assert data[reader.used :] == hello
        assert b"\x02\x00\x09a.example" in data[: reader.used]


@pytest.mark.parametrize("size", [10, 1 << 20], ids=["copied", "spliced"])
def test_bytes_are_counted_while_it_lasts(size: int) -> None:
    with stage() as here:
        client, backend = here.pair()
        listener, server = here.listener, here.backends[0]
        for turn in (1, 2):
            listener.touched = server.touched = False
            client.send(bytes(size))
            backend.send(bytes(size * 2))
            here.net.run_until(lambda turn=turn: len(client.data) == turn * size * 2)
            here.net.run_until(lambda turn=turn: len(backend.data) == turn * size)
            assert (listener.bytes_in, listener.bytes_out) == (turn * size, turn * size * 2)
            assert (server.bytes_out, server.bytes_in) == (turn * size, turn * size * 2)
            assert listener.touched and server.touched, "the tick writes them down"
        client.finish()
        backend.finish()
        assert (here.record()["bytes_in"], here.record()["bytes_out"]) == (2 * size, 4 * size)
        assert (listener.bytes_in, listener.bytes_out) == (2 * size, 4 * size), "and not twice"


def bulk_both_ways(here: Stage) -> tuple[Peer, Peer]:
    """A connection whose both directions are spliced, with bytes in both pipes."""
    client, backend = here.pair()
    client.reading = backend.reading = False
    client.send(bytes(64 << 20))
    backend.send(bytes(64 << 20))
    here.net.settle()
    held = [getattr(handler, "incoming", None) for handler in here.net.loop.handlers.values()]
    assert [splice is not None and splice.held > 0 for splice in held] == [True, True]
    return client, backend


@pytest.mark.parametrize("how", ["tunnel_idle", "shutdown of the client", "drain of the backend"])
def test_what_ends_a_connection_whose_both_directions_are_spliced(how: str) -> None:
    with stage() as here:
        here.sources.send_timeout = here.listener.send_timeout = 0.0
        here.listener.tunnel_idle = 10.0
        client, backend = bulk_both_ways(here)
        client.unsent = backend.unsent = b""  # their own writes would meet the reset first, and swallow it
        assert here.net.loop.pipes.open == 2, "they count"
        if how == "tunnel_idle":
            here.net.elapse(11.0)
        else:
            kind: type = ClientProtocol if how.endswith("client") else BackendProtocol
            for handler in list(here.net.loop.handlers.values()):
                protocol = getattr(handler, "protocol", None)
                if isinstance(protocol, kind):
                    protocol.cut_off()  # type: ignore[attr-defined]
            here.net.loop.run_deferred()
        client.reading = backend.reading = True
        here.net.run_until(lambda: client.ending and backend.ending)
        assert client.ending == backend.ending == "reset"
        assert here.record()["reason"] == ("tunnel_idle" if how == "tunnel_idle" else "shutdown")
        assert here.net.loop.pipes.open == 0, "what was in them is lost, and they with it"


def test_bytes_are_copied_when_all_pipes_are_in_use() -> None:
    with stage() as here:
        here.net.loop.pipes.set_limit(1)
        client, backend = here.pair()
        client.reading = backend.reading = False
        client.send(BULK)
        backend.send(BULK)
        here.net.settle()
        assert here.net.loop.pipes.open == 1
        client.reading = backend.reading = True
        here.net.run_until(lambda: client.data == BULK and backend.data == BULK)


@pytest.mark.parametrize("fault", ["another name", "no TLS at all"])
def test_a_backend_whose_tls_fails_is_one_that_cannot_be_connected(tmp_path: Path, fault: str) -> None:
    authority = Authority(tmp_path)
    settings = backend_spec(ca=authority.path, server_name="b.example")
    with stage() as here:
        here.backends[0].secure = TlsOrigin(settings, "127.0.0.1", client_context(settings))
        here.pool.max_retries = 0
        here.origins[0].accepting = False
        client = here.client(b"secret")
        sock, _ = here.origins[0].sock.accept()
        if fault == "another name":
            context = authority.server(authority.certificate("other.example"))
            peer: Any = TlsPeer(sock, context, server=True)
        else:
            peer = Peer(sock)
            peer.send(b"220 mail.example ESMTP\r\n")
        here.net.peers.append(peer)
        here.net.run_until(lambda: client.ending)
        assert client.ending == "reset"
        record = here.record()
        assert (record["termination"], record["reason"]) == ("SC", "connect_tls")
        assert here.listener.errors == {502: 1}
        assert here.backends[0].connect_failures == 1
        assert b"secret" not in peer.data
        here.net.peers.remove(peer)
        peer.close()


def test_a_backend_whose_tls_fails_is_left_for_another(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    settings = backend_spec(ca=authority.path, server_name="b.example")
    with stage(backends=2) as here:
        here.backends[0].secure = TlsOrigin(settings, "127.0.0.1", client_context(settings))
        here.client(b"hello")
        here.origins[0].last.send(b"220 mail.example ESMTP\r\n")
        here.net.run_until(lambda: here.origins[1].peers and here.origins[1].last.data)
        assert here.origins[1].last.data == b"hello"
        assert here.pool.retries == 1


def test_what_has_ended_is_gone_without_the_collector() -> None:
    with stage() as here:
        client, backend = here.pair(b"hello")  # what lives on is there from now on
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                one = here.client(b"hello")
                here.origins[0].last.close()
                here.net.settle()
                one.close()
                here.net.settle()
            client.close()
            backend.close()
            here.net.settle()
            left = [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, TcpRecord)]
        finally:
            gc.enable()
        assert left == []
