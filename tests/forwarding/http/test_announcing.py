"""Backends that want a PROXY header: what they are told, and who may reuse their connections."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from support.dataplane import Peer, Stage, get, ok, post, stage

from txlb.core.proxy_protocol import WHOLE, HeaderReader


def answered(here: Stage, client: Peer, request: bytes, origin: int = 0) -> Peer:
    """One exchange; the backend's end of the connection that carried it."""
    backend = here.asked(client, request, origin)
    backend.send(ok(b"x"))
    here.net.settle()
    client.take()
    return backend


def header_of(backend: Peer) -> tuple[str, int, str, int]:
    """The header that the connection began with; it is taken off, the request stays."""
    reader = HeaderReader()
    assert reader.feed(backend.data) == WHOLE
    backend.data = backend.data[reader.used :]
    header = reader.header
    assert header is not None
    return header.source, header.source_port, header.destination, header.destination_port


@pytest.mark.parametrize("version", [1, 2])
def test_the_header_comes_first_and_once(version: int) -> None:
    with stage() as here:
        here.backend.proxy_protocol = version
        client = here.client()
        backend = answered(here, client, get("/one"))
        assert header_of(backend) == (*client.sock.getsockname(), *client.sock.getpeername())
        assert backend.take().startswith(b"GET /one ")
        assert answered(here, client, get("/two")) is backend
        assert backend.take().startswith(b"GET /two ")
        assert here.backend.idle == here.sources.idle.total == 1


def test_a_connection_is_not_reused_for_another_client_and_closes_with_its_own() -> None:
    with stage() as here:
        here.backend.proxy_protocol = 1
        clients = [here.client() for _ in range(3)]
        backends = [answered(here, client, get()) for client in clients]
        assert len({id(backend) for backend in backends}) == 3
        assert [header_of(backend)[1] for backend in backends] == [
            client.sock.getsockname()[1] for client in clients
        ]
        assert here.backend.idle == 3
        clients[0].finish()
        here.net.settle()
        assert [bool(backend.ending) for backend in backends] == [True, False, False]
        assert here.backend.idle == here.sources.idle.total == 2
        clients[1].reset()
        here.net.settle()
        assert here.backend.idle == 1


def test_clients_behind_a_trusted_proxy_do_not_share_one_either() -> None:
    with stage() as here:
        here.backend.proxy_protocol = 1
        here.settings.trusted = [ip_network("127.0.0.0/8")]
        client = here.client()
        first = answered(here, client, get("/", "X-Forwarded-For: 192.0.2.1"))
        source, port, _, _ = header_of(first)
        assert (source, port) == ("192.0.2.1", 0)
        assert answered(here, client, get("/", "X-Forwarded-For: 192.0.2.1")) is first
        other = answered(here, client, get("/", "X-Forwarded-For: 192.0.2.2"))
        assert other is not first
        assert header_of(other)[0] == "192.0.2.2"
        assert first.ending, "one is kept per client connection and backend"
        assert header_of(answered(here, client, get()))[:2] == client.sock.getsockname()


def test_a_stale_connection_is_replaced() -> None:
    with stage() as here:
        here.backend.proxy_protocol = 2
        client = here.client()
        first = answered(here, client, get())
        first.finish()
        here.net.settle()
        assert here.backend.idle == 0
        second = answered(here, client, post(b"body"))
        assert second is not first
        assert header_of(second)[:2] == client.sock.getsockname()


def test_idle_time_out_and_limits_hold_for_them_too() -> None:
    with stage() as here:
        here.backend.proxy_protocol = 1
        here.sources.idle.min_per_backend = 5
        here.sources.idle.max_per_backend = 1
        here.settings.client_idle = 1000.0
        clients = [here.client() for _ in range(2)]
        backends = [answered(here, client, get()) for client in clients]
        assert [bool(backend.ending) for backend in backends] == [False, True]
        here.net.elapse(61.0)
        assert backends[0].ending
        assert here.backend.idle == 0


def test_when_the_backend_leaves_or_wants_another_header_they_are_closed() -> None:
    with stage() as here:
        here.backend.proxy_protocol = 1
        client = here.client()
        first = answered(here, client, get())
        here.sources.idle.close(here.backend)
        here.net.settle()
        assert first.ending
        second = here.asked(client, get())
        here.backend.proxy_protocol = 0
        second.send(ok(b"x"))
        here.net.settle()
        assert second.ending, "it began with a header, which is not wanted any more"
        plain = answered(here, client, get())
        assert plain.data.startswith(b"GET / ")
        here.backend.proxy_protocol = 2
        assert header_of(answered(here, client, get()))[:2] == client.sock.getsockname()


def test_each_try_of_a_connect_announces_the_client() -> None:
    with stage(backends=2) as here:
        for backend in here.backends:
            backend.proxy_protocol = 1
        here.origins[0].sock.close()
        client = here.client()
        assert header_of(answered(here, client, get(), 1))[:2] == client.sock.getsockname()
