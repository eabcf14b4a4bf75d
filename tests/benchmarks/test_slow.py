from __future__ import annotations

import socket

import pytest

from benchmarks.slow import FIRST, MODES, SIP, SlowClients


@pytest.mark.parametrize("mode", MODES)
def test_slow_clients_begin_go_on_and_are_counted(mode: str):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        SlowClients(server.getsockname()[1], 3, mode) as slow,
    ):
        served = [server.accept()[0] for _ in range(3)]
        try:
            for one in served:
                one.settimeout(10)
                assert one.recv(len(FIRST[mode])) == FIRST[mode]
                if mode == "read":
                    one.sendall(b"x" * SIP)
                else:
                    assert one.recv(100)  # a sign of life
            assert slow.held() == 3
            served.pop().close()
            assert slow.held() == 2
        finally:
            for one in served:
                one.close()
    assert slow.held() == 0


def test_slow_readers_have_a_small_window():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        SlowClients(server.getsockname()[1], 1, "read"),
        server.accept()[0] as one,
    ):
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 1 << 20:
                sent += one.send(b"x" * 4096)
