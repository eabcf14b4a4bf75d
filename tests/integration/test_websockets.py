"""WebSockets through txlb, with the websockets library on both ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.balancer import Balancer
from support.origins import eventually
from websockets.sync.client import connect
from websockets.sync.server import Server, ServerConnection, serve


@pytest.fixture
def echo_server() -> Iterator[Server]:
    """Sends every message back; ends when the client says so."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(20)


@pytest.mark.parametrize("workers", [1, 0])
def test_messages_pings_and_the_closing_handshake(
    echo_server: Server, start_balancer: Callable[..., Balancer], workers: int
) -> None:
    balancer = start_balancer([echo_server.socket.getsockname()[1]], workers=workers)
    with connect(
        f"ws://127.0.0.1:{balancer.port}/chat?x", max_size=None, open_timeout=20, compression=None
    ) as client:
        for message in ["text", b"bytes", "", "x" * 2_000_000]:
            client.send(message)
            assert client.recv(timeout=20) == message
        for _ in range(3):
            assert client.ping().wait(20)
        eventually(
            lambda: balancer.metric("txlb_backend_connections", backend="b0") == 1, "a tunnel is counted"
        )
        client.close(1001, "bye")
        assert client.close_code == 1001
    line = balancer.line("/chat?x")
    assert (line["status"], line["termination"]) == (101, "--")
    assert line["bytes_out"] > 2_000_000
    eventually(lambda: balancer.connections() == 0, "the connection is gone")
    eventually(lambda: balancer.metric("txlb_backend_connections", backend="b0") == 0, "the tunnel is gone")


def test_many_clients_at_once(echo_server: Server, start_balancer: Callable[..., Balancer]) -> None:
    balancer = start_balancer([echo_server.socket.getsockname()[1]])
    with ExitStack() as stack:
        clients = [
            stack.enter_context(connect(f"ws://127.0.0.1:{balancer.port}/{number}", open_timeout=20))
            for number in range(20)
        ]
        for turn in range(5):
            for number, client in enumerate(clients):
                client.send(f"{number} {turn}")
            for number, client in enumerate(clients):
                assert client.recv(timeout=20) == f"{number} {turn}"
    assert len(balancer.logged(20)) == 20
