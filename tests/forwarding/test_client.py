from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.dataplane import Net, network

from txlb.core.proxy_announcement import Announced, TlsFacts, announce
from txlb.forwarding.client import ClientProtocol


@pytest.fixture
def net() -> Iterator[Net]:
    with network() as net:
        yield net


class Client(ClientProtocol):
    def __init__(self, ip: str, port: int) -> None:
        super().__init__()
        self.ip = ip
        self.port = port
        self.asked = 0

    def tls_facts(self) -> TlsFacts | None:
        self.asked += 1
        return None


def test_a_client_is_announced_with_where_it_connected_to(net: Net) -> None:
    client = Client("192.0.2.1", 4711)
    transport, _ = net.connect(client)
    host, port = transport.sock.getsockname()
    header = announce(1, Announced("192.0.2.1", 4711, host, port))
    assert client.announcement(1, "192.0.2.1") == header
    assert client.announcement(1, "192.0.2.1") == header
    assert client.asked == 1, "it is made once"
    assert client.announcement(1, "192.0.2.2") == announce(1, Announced("192.0.2.2", 0, host, port))
    assert client.announcement(2, "192.0.2.1") == announce(2, Announced("192.0.2.1", 4711, host, port))


def test_what_a_proxy_in_front_said_is_said_again(net: Net) -> None:
    client = Client("2001:db8::1", 1)
    transport, _ = net.connect(client)
    transport.peer = ("2001:db8::1", 1, ("2001:db8::2", 443))
    assert client.announcement(1, client.ip) == b"PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n"
    assert transport.getPeer().host == "2001:db8::1"


def test_a_client_without_an_address_is_unknown(net: Net) -> None:
    client = Client("unix:", 0)
    net.connect(client)
    assert client.announcement(1, client.ip) == b"PROXY UNKNOWN\r\n"
