from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from support.dataplane import Lines, Net, get, network, ok, stage
from support.hello import client_hello
from support.ocsp import HOUR, Responder, stapled
from support.tls import Authority, spec_of

from txlb.core.model import ListenerSpec, Snapshot
from txlb.forwarding.accept import StreamListener
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.client import ClientProtocol
from txlb.net.listener import Gate, ListeningSocket


def test_a_client_comes_in_by_the_listening_socket_and_goes() -> None:
    with stage() as here:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listening = ListeningSocket(here.gate, here.acceptor, sock)
        listening.start()
        with socket.create_connection(sock.getsockname()) as client:
            client.sendall(get())
            here.net.run_until(lambda: here.origin.peers and here.origin.last.data)
            assert (here.gate.open, here.settings.connections, here.settings.connections_total) == (1, 1, 1)
            here.origin.last.send(ok(b"welcome"))
            here.net.settle()
            client.settimeout(5)
            assert client.recv(1000).endswith(b"welcome")
            port = client.getsockname()[1]
        here.net.settle()
        assert (here.gate.open, here.settings.connections, here.settings.connections_total) == (0, 0, 1)
        record = here.records()[0]
        assert (record["client_ip"], record["client_port"]) == ("127.0.0.1", port)
        listening.stop()


def test_an_ipv4_client_of_a_dual_stack_listener_is_an_ipv4_client() -> None:
    with stage() as here:
        here.settings.trusted = [ip_network("198.51.100.0/24")]
        for address, ip in (("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7")):
            near, peer = here.net.pair()
            here.gate.open += 1
            here.acceptor.accepted(near, (address, 4711, 0, 0))
            backend = here.asked(peer, get())
            assert f"X-Forwarded-For: {ip}\r\n".encode() in backend.take()
            backend.send(ok(b"x"))
            here.net.settle()
            assert here.records()[-1]["client_ip"] == ip


def test_the_send_time_out_is_the_listeners() -> None:
    with stage(tight=True) as here:
        here.settings.send_timeout = 3.0
        client = here.client()
        client.reading = False
        here.asked(client, get()).send(ok(bytes(1 << 21)))
        here.net.settle()
        here.net.elapse(2.5)
        assert here.gate.open == 1
        here.net.elapse(1.0)
        assert here.gate.open == 0
        assert here.terminations() == ["cD"]
        assert here.settings.errors_send_timeout == 1


def test_a_client_of_a_unix_socket_has_no_address() -> None:
    with stage() as here:
        near, peer = here.net.pair()
        here.gate.open += 1
        here.acceptor.accepted(near, "")
        backend = here.asked(peer, get())
        assert b"X-Forwarded-For: unix:\r\n" in backend.take()
        backend.send(ok(b"x"))
        here.net.settle()
        record = here.records()[-1]
        assert (record["client_ip"], record["client_port"]) == ("unix:", 0)


# -- server names ----------------------------------------------------------------------------------


class Named(ClientProtocol):
    """Keeps what it hears."""

    def __init__(self, listener: Passing, gate: Gate, server_name: bytes) -> None:
        super().__init__()
        self.listener = listener
        self.gate = gate
        self.server_name = server_name
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        if b"raise" in data:
            raise RuntimeError("no")
        self.data += data

    def connectionLost(self, reason: Any) -> None:
        self.gate.closed()


class Passing(StreamListener):
    """Serves a.example."""

    def __init__(self, net: Net) -> None:
        super().__init__("tls", net.loop, AccessLog(Lines(), "off", "worker-1", time.time))
        self.send_timeout = 60.0
        self.sni = True
        self.touched = False
        self.clients: list[Named] = []

    def client_of(self, gate: Gate, ip: str, port: int, server_name: bytes) -> ClientProtocol | None:
        if server_name != b"a.example":
            return None
        self.clients.append(Named(self, gate, server_name))
        self.clients[-1].ip, self.clients[-1].port = ip, port
        return self.clients[-1]


@contextmanager
def passing(net: Net) -> Iterator[tuple[Passing, Gate, Any]]:
    """A listener that passes TLS on, its gate, and its address."""
    listener = Passing(net)
    gate = Gate(net.loop, 10)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = server.dup()
        sock.setblocking(False)
        serving = listener.serve(gate, sock)
        yield listener, gate, server.getsockname()
        serving.stop()


def test_a_client_hello_names_the_server_and_goes_on_whole() -> None:
    with network() as net, passing(net) as (listener, gate, address):
        with socket.create_connection(address) as client:
            hello = client_hello("a.example")
            client.sendall(hello[:50])
            net.settle()
            assert not listener.clients
            client.sendall(hello[50:])
            net.run_until(lambda: listener.clients)
            client.sendall(b"and on")
            net.settle()
            (named,) = listener.clients
            assert (named.ip, named.port) == client.getsockname()
            assert named.data == hello + b"and on"
        net.run_until(lambda: not gate.open)


def test_it_comes_behind_a_proxy_header() -> None:
    with network() as net, passing(net) as (listener, gate, address):
        listener.proxy_protocol = True
        listener.trusted = [ip_network("127.0.0.1")]
        with socket.create_connection(address) as client:
            hello = client_hello("a.example")
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n" + hello)
            net.run_until(lambda: listener.clients)
            (named,) = listener.clients
            assert (named.ip, named.port) == ("192.0.2.1", 4711)
            assert named.transport.local_address() == ("192.0.2.2", 443)
            assert named.data == hello
        net.run_until(lambda: not gate.open)


def test_other_names_and_no_hello_are_refused_and_counted() -> None:
    with network() as net, passing(net) as (listener, gate, address):
        refused = (client_hello("b.example"), client_hello(), b"GET / HTTP/1.1\r\n")
        for number, data in enumerate(refused, 1):
            with socket.create_connection(address) as client:
                client.sendall(data)
                net.run_until(lambda: not gate.open and listener.touched)
                assert listener.errors_unrecognized_name == min(number, 2)
                assert listener.errors_client_hello == max(0, number - 2)
                listener.touched = False
        assert not listener.clients


def test_a_protocol_that_raises_at_the_hello_ends_its_connection_only() -> None:
    with network() as net, passing(net) as (_, gate, address):
        with socket.create_connection(address) as client:
            client.sendall(client_hello("a.example") + b"raise")
            net.run_until(lambda: net.loop.failures)
            net.run_until(lambda: not gate.open)
            assert not net.loop.handlers or len(net.loop.handlers) == 1  # the listening socket
        net.loop.failures = 0
        net.loop.last_failure = None


def test_new_certificates_are_another_generation_a_new_response_is_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = stapled(authority.certificate("a.example"), authority)
    with network() as net:
        listener = Passing(net)

        def configured() -> Any:
            listener.configure(ListenerSpec("tls", (), "tcp", tls=spec_of(pair)), Snapshot(), {})
            return listener.tls

        first = configured()
        assert configured() is first
        stapled(pair, authority, Responder(authority).response(pair, ends=99 * HOUR))
        assert configured() is first
        assert first.spec == spec_of(pair)
        authority.certificate("a.example")
        pair.pop("ocsp")
        assert configured() is not first
