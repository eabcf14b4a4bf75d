"""`txlb.forwarding.udp.port`: who becomes a flow, which address answers, what a stopped socket does."""

from __future__ import annotations

import socket

import pytest
from support.datagrams import received, udp_network


def test_on_a_wildcard_answers_leave_from_the_address_that_was_asked() -> None:
    with udp_network(bind="0.0.0.0:0") as udp:
        port = udp.address[1]
        client = udp.client()
        for host in ("127.0.0.1", "127.0.0.7", "127.9.9.9"):
            client.sendto(host.encode(), (host, port))
        udp.net.settle()
        assert udp.listener.connections == 3  # one client, three addresses of ours: three flows
        for data, flow in received(udp.sockets[0]):
            udp.sockets[0].sendto(data, flow)
        udp.net.settle()
        answers = received(client)
        assert sorted(answers) == sorted((host.encode(), (host, port)) for host in
                                         ("127.0.0.1", "127.0.0.7", "127.9.9.9"))  # fmt: skip


def test_on_an_ipv6_wildcard_too() -> None:
    with udp_network(bind="[::]:0") as udp:
        client = udp.client("::1")
        client.sendto(b"?", ("::1", udp.address[1]))
        udp.net.settle()
        ((data, flow),) = received(udp.sockets[0])
        udp.sockets[0].sendto(data, flow)
        udp.net.settle()
        assert [(data, peer[:2]) for data, peer in received(client)] == [(b"?", ("::1", udp.address[1]))]


def test_a_source_at_its_limit_is_refused_and_others_are_not() -> None:
    with udp_network(max_flows_per_source=2) as udp:
        for _ in range(5):
            udp.send(udp.client("127.0.0.1"), b"?")
        udp.send(udp.client("127.0.0.2"), b"?")
        assert udp.listener.connections == 3
        assert udp.listener.dropped_source == 3


def test_a_full_table_evicts_and_says_so() -> None:
    with udp_network(max_flows=3) as udp:
        clients = [udp.client() for _ in range(5)]
        for client in clients:
            udp.send(client, b"?")
        assert udp.listener.connections == 3
        assert udp.listener.flows_evicted == 2
        assert [line["reason"] for line in udp.logged()] == ["flow_evicted"] * 2


def test_flows_keep_to_the_descriptors_they_may_have() -> None:
    with udp_network() as udp:
        udp.gate.flow_limit = 2
        for _ in range(4):
            udp.send(udp.client(), b"?")
        assert udp.gate.flows == 2
        assert udp.listener.flows_evicted == 2
        udp.gate.flow_limit = 0
        udp.listener.table.max_flows = 100
    with udp_network() as udp:
        udp.gate.flow_limit = 0  # others have them all, and we have none to give back
        udp.send(udp.client(), b"?")
        assert udp.listener.dropped_resources == 1
        assert udp.listener.connections == 0


def test_a_flood_of_sources_is_bounded() -> None:
    with udp_network(max_flows=50) as udp:
        known = udp.client("127.0.0.1")
        udp.ask(known, b"a")
        udp.ask(known, b"b")  # it has settled
        for number in range(500):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
                flood.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
                flood.sendto(b"x", udp.address)
            if number % 50 == 0:
                udp.net.settle()
        udp.net.settle()
        assert udp.listener.connections == 50
        received(udp.sockets[0])
        assert udp.ask(known, b"c") == [b"re:c"]
        assert udp.backends[0].requests == 501  # it still had its flow
        assert len(udp.listener.table.sources) == 50


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "0.0.0.0:0"])
def test_what_claims_to_come_from_a_backend_or_from_ourselves_is_dropped(bind: str) -> None:
    with udp_network(bind=bind) as udp:
        target = ("127.0.0.1", udp.address[1])
        udp.sockets[0].sendto(b"I am a backend", target)
        udp.control_copy.sendto(b"I am you", target)  # from the listener's very address
        udp.net.settle()
        assert udp.listener.dropped_forbidden == 2
        assert udp.listener.connections == 0


def test_a_stopped_port_reads_no_more_but_answers_until_it_is_quiet() -> None:
    with udp_network() as udp:
        client = udp.client()
        udp.send(client, b"?")
        ((_, flow),) = received(udp.sockets[0])
        udp.port.stop()
        for _ in range(3):
            udp.elapse(0.7)
            udp.sockets[0].sendto(b"answer", flow)
            udp.net.settle()
        assert len(received(client)) == 3
        udp.send(client, b"not read here")
        assert received(udp.sockets[0]) == []
        udp.elapse(3.0)
        assert udp.gate.flows == 0
        assert udp.gate.lingering == []


def test_a_stopped_port_without_flows_closes_at_once() -> None:
    with udp_network() as udp:
        udp.port.stop()
        udp.port.stop()
        assert udp.port.sock is None
        assert udp.listener.ports == []


def test_a_new_copy_of_the_same_socket_takes_the_flows_over() -> None:
    with udp_network() as udp:
        client = udp.client()
        assert udp.ask(client, b"a") == [b"re:a"]
        old = udp.port
        old.stop()
        udp.port = udp.serve()
        assert old.sock is None
        udp.elapse(5.0)
        assert udp.ask(client, b"b") == [b"re:b"]
        assert udp.backends[0].requests == 1


def test_what_waits_in_the_queue_is_there_for_the_next_holder() -> None:
    with udp_network() as udp:
        udp.port.stop()
        client = udp.client()
        client.sendto(b"patience", udp.address)
        udp.port = udp.serve()
        assert udp.ask(client, b"b") == [b"re:patience", b"re:b"]


def test_what_the_kernel_dropped_is_counted() -> None:
    with udp_network() as udp:
        udp.control_copy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client = udp.client()
        udp.send(client, b"?")
        for _ in range(100):
            client.sendto(b"x" * 1000, udp.address)
        udp.net.settle()
        udp.elapse(2.0)
        assert udp.listener.dropped_queue > 0
        assert udp.listener.dropped_queue + udp.listener.datagrams_in == 101
