from __future__ import annotations

import socket
from ipaddress import ip_network

from support.dataplane import get, ok, stage

from txlb.net.listener import ListeningSocket


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
