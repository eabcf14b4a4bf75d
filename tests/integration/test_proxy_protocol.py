"""PROXY headers from and to those that others use: nginx and HAProxy, as senders and as receivers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.balancer import Balancer, Nginx, start_haproxy, wait_for_port
from support.origins import Origin, answering, echo, eventually
from support.ports import free_port
from support.wire import Wire

from txlb.core.proxy_announcement import Announced, announce, announce_nobody

pytestmark = pytest.mark.integration(needs="nginx,haproxy")
Start = Callable[..., Balancer]

CLIENT = "127.0.0.9"
TRUSTED = ["127.0.0.1", "::1"]
REQUEST = b"GET /%b HTTP/1.1\r\nHost: a.example\r\n\r\n"
RECEIVERS = ["nginx-v1", "nginx-v2", "haproxy-v1", "haproxy-v2"]


def call(port: int, source: str = CLIENT, host: str = "127.0.0.1") -> Wire:
    """A connection from that address."""
    return Wire(socket.create_connection((host, port), 10, (source, 0)))


def ask(wire: Wire, path: str) -> str:
    """The body that comes back."""
    wire.send(REQUEST % path.encode())
    return wire.answer().body.decode()


def metric(balancer: Balancer) -> float:
    return balancer.metric("txlb_errors_total", kind="proxy_protocol")


# -- received ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inbound(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    listener = {"id": "web", "bind": ["127.0.0.1:0"], "proxy_protocol": True, "trusted": TRUSTED}
    with Balancer(tmp_path_factory.mktemp("txlb"), [origin.port], listeners=[listener]) as one:
        yield one


@pytest.fixture(scope="module")
def senders(inbound: Balancer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Ports of proxies that send their clients' addresses to txlb."""
    folder = tmp_path_factory.mktemp("senders")
    ways = {
        "haproxy-v1": "send-proxy",
        "haproxy-v2": "send-proxy-v2",
        "haproxy-v2-checksum": "send-proxy-v2 proxy-v2-options crc32c",
        "haproxy-v2-checks": "send-proxy-v2 check check-send-proxy inter 50ms fall 1 rise 1",
    }
    ports = {name: free_port() for name in (*ways, "nginx-v1", "haproxy-v6")}
    ways["haproxy-v6"] = "send-proxy"
    hosts = {"haproxy-v6": "::1"}
    with ExitStack() as stack:
        sections = "".join(
            f"listen {name}\n mode tcp\n bind {hosts.get(name, '127.0.0.1')}:{ports[name]}\n"
            f" server txlb 127.0.0.1:{inbound.port} source 127.0.0.1 {how}\n"
            for name, how in ways.items()
        )
        haproxy = start_haproxy(folder / "haproxy", sections)
        stack.callback(haproxy.stop)
        stream = (
            f"server {{ listen 127.0.0.1:{ports['nginx-v1']}; proxy_pass 127.0.0.1:{inbound.port};"
            " proxy_bind 127.0.0.1; proxy_protocol on; }"
        )
        stack.enter_context(Nginx(folder / "nginx", "", stream=stream)).ready(ports["nginx-v1"])
        wait_for_port(ports["haproxy-v1"], haproxy)
        yield ports


@pytest.mark.parametrize(
    "sender", ["haproxy-v1", "haproxy-v2", "haproxy-v2-checksum", "haproxy-v2-checks", "nginx-v1"]
)
def test_the_client_that_a_proxy_tells_of_is_the_client(
    inbound: Balancer, senders: dict[str, int], origin: Origin, sender: str
) -> None:
    before = metric(inbound)
    with origin.serving(answering(echo)), call(senders[sender]) as wire:
        for turn in range(3):
            ask(wire, f"{sender}-{turn}")
        assert {request.get("x-forwarded-for") for request in origin.requests} == {CLIENT}
        line = inbound.line(f"/{sender}-0")
        assert (line["client_ip"], line["client_port"]) == wire.sock.getsockname()
    assert metric(inbound) == before, "nor do HAProxy's checks, which speak for nobody, count as errors"


def test_an_ipv6_client_of_an_ipv4_connection(
    inbound: Balancer, senders: dict[str, int], origin: Origin
) -> None:
    with origin.serving(answering(echo)), call(senders["haproxy-v6"], "::1", "::1") as wire:
        ask(wire, "v6")
        assert inbound.line("/v6")["client_ip"] == "::1"
        assert origin.requests[0].get("x-forwarded-for") == inbound.line("/v6")["client_ip"]


@pytest.mark.parametrize("version", [1, 2])
def test_header_and_request_in_any_pieces(inbound: Balancer, origin: Origin, version: int) -> None:
    header = announce(version, Announced("192.0.2.1", 4711, "192.0.2.2", 80))
    request = REQUEST % f"pieces-{version}".encode()
    with origin.serving(answering(echo)), call(inbound.port, "127.0.0.1") as wire:
        for octet in header:
            wire.send(bytes((octet,)))
        wire.send(request)
        assert wire.answer().status == 200
        with call(inbound.port, "127.0.0.1") as other:
            other.send(header + request.replace(b"pieces", b"whole"))
            assert other.answer().status == 200
        for path in (f"/pieces-{version}", f"/whole-{version}"):
            line = inbound.line(path)
            assert (line["client_ip"], line["client_port"]) == ("192.0.2.1", 4711)


@pytest.mark.parametrize("version", [1, 2])
def test_who_speaks_for_nobody_is_the_client(inbound: Balancer, origin: Origin, version: int) -> None:
    with origin.serving(answering(echo)), call(inbound.port, "127.0.0.1") as wire:
        wire.send(announce_nobody(version))
        ask(wire, f"nobody-{version}")
        line = inbound.line(f"/nobody-{version}")
        assert (line["client_ip"], line["client_port"]) == wire.sock.getsockname()


def test_what_a_client_behind_a_proxy_says_of_its_address_is_not_believed(
    inbound: Balancer, senders: dict[str, int], origin: Origin
) -> None:
    with origin.serving(answering(echo)), call(senders["haproxy-v1"]) as wire:
        wire.send(b"GET /said HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n")
        assert wire.answer().status == 200
        assert origin.requests[0].get("x-forwarded-for") == CLIENT


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (CLIENT, announce(1, Announced("192.0.2.1", 1, "192.0.2.2", 2))),
        ("127.0.0.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("127.0.0.1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"),
        ("127.0.0.1", b"PROXY UNKNOWN " + b"x" * 5000),
        ("127.0.0.1", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + bytes(70000)),
    ],
    ids=["untrusted", "none", "malformed", "endless", "huge"],
)
def test_whoever_is_not_trusted_or_sends_no_header_is_refused_and_counted(
    inbound: Balancer, origin: Origin, source: str, data: bytes
) -> None:
    before = metric(inbound)
    output = inbound.program.output
    with call(inbound.port, source) as wire:
        try:
            wire.send(data + (REQUEST % b"refused"))
            assert wire.more() == b""
        except (ConnectionResetError, BrokenPipeError):
            pass
    eventually(lambda: metric(inbound) == before + 1, "it is counted")
    assert inbound.program.output == output, "but never logged"
    assert "/refused" not in [line["target"] for line in inbound.log()]


# -- sent -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Ports of servers that answer with what the header told them."""
    folder = tmp_path_factory.mktemp("receivers")
    ports = {"nginx": free_port(), "haproxy": free_port()}
    told = "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"
    server = (
        f'server {{ listen 127.0.0.1:{ports["nginx"]} proxy_protocol; return 200 "{told} $connection"; }}'
    )
    sections = (
        f"frontend all\n mode http\n bind 127.0.0.1:{ports['haproxy']} accept-proxy\n"
        " http-request return status 200 content-type text/plain"
        ' lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_rcvd_proxy]"\n'
    )
    with ExitStack() as stack:
        stack.enter_context(Nginx(folder / "nginx", server)).ready(ports["nginx"])
        haproxy = start_haproxy(folder / "haproxy", sections)
        stack.callback(haproxy.stop)
        wait_for_port(ports["haproxy"], haproxy)
        yield ports


@pytest.fixture(scope="module")
def outbound(receivers: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    """Http listeners, of which ``inner`` takes headers; and two tcp listeners for each receiver, likewise."""
    backends: list[dict[str, Any]] = []
    listeners: list[dict[str, Any]] = [
        {"id": "web", "bind": "127.0.0.1:0"},
        {"id": "inner", "bind": "127.0.0.2:0", "proxy_protocol": True, "trusted": TRUSTED},
    ]
    rules: list[dict[str, Any]] = []
    for number, name in enumerate(RECEIVERS):
        kind, version = name.split("-")
        backends.append({"id": name, "host": "127.0.0.1", "port": receivers[kind], "proxy_protocol": version})
        tcp = [f"tcp-{name}", f"tcp-inner-{name}"]
        listeners.append({"id": tcp[0], "bind": f"127.0.1.{number}:0", "protocol": "tcp"})
        listeners.append({**listeners[1], "id": tcp[1], "bind": f"127.0.2.{number}:0", "protocol": "tcp"})
        rules.append({"id": name, "path_prefix": f"/{name}", "backends": [name]})
        rules.append({"id": f"tcp-{name}", "listeners": tcp, "backends": [name]})
    folder = tmp_path_factory.mktemp("txlb")
    with Balancer(folder, listeners=listeners, backends=backends, routing_rules=rules) as one:
        yield one


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_backend_is_told_who_the_client_is(outbound: Balancer, receiver: str) -> None:
    with call(outbound.port) as wire, call(outbound.port, "127.0.0.10") as other:
        for _ in range(3):
            for client in (wire, other):
                host, port = client.sock.getsockname()
                to, to_port = client.sock.getpeername()
                assert ask(client, receiver).split()[:4] == [host, str(port), to, str(to_port)]


def test_a_connection_that_speaks_for_a_client_is_reused_for_it(outbound: Balancer) -> None:
    with call(outbound.port) as wire:
        connections = {ask(wire, "nginx-v2").split()[4] for _ in range(5)}
        assert len(connections) == 1


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_header_that_came_in_goes_on(outbound: Balancer, receiver: str) -> None:
    header = announce(2, Announced("192.0.2.1", 4711, "198.51.100.1", 443))
    with call(outbound.ports["inner"], "127.0.0.1", "127.0.0.2") as wire:
        wire.send(header)
        assert ask(wire, receiver).split()[:4] == ["192.0.2.1", "4711", "198.51.100.1", "443"]


def test_ipv6_addresses_go_on_too(outbound: Balancer) -> None:
    header = announce(1, Announced("2001:db8::1", 4711, "2001:db8::2", 443))
    for receiver in RECEIVERS:
        with call(outbound.ports["inner"], "127.0.0.1", "127.0.0.2") as wire:
            wire.send(header)
            assert ask(wire, receiver).split()[:4] == ["2001:db8::1", "4711", "2001:db8::2", "443"]


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_through_tcp_it_is_the_same(outbound: Balancer, receiver: str) -> None:
    number = RECEIVERS.index(receiver)
    with call(outbound.ports[f"tcp-{receiver}"], CLIENT, f"127.0.1.{number}") as wire:
        told = [*wire.sock.getsockname(), *wire.sock.getpeername()]
        assert ask(wire, receiver).split()[:4] == list(map(str, told))
        assert ask(wire, receiver).split()[:4] == list(map(str, told))
    header = announce(2, Announced("2001:db8::1", 4711, "2001:db8::2", 443))
    with call(outbound.ports[f"tcp-inner-{receiver}"], "127.0.0.1", f"127.0.2.{number}") as wire:
        for octet in header:
            wire.send(bytes((octet,)))
        assert ask(wire, receiver).split()[:4] == ["2001:db8::1", "4711", "2001:db8::2", "443"]
    listener = f"tcp-inner-{receiver}"
    (line,) = outbound.logged(1, lambda line: line["listener"] == listener)
    assert (line["client_ip"], line["client_port"], line["protocol"]) == ("2001:db8::1", 4711, "tcp")
