"""`txlb.net.sockets`: groups that share a port among themselves and with nobody else."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ports import listening_socket

from txlb.errors import ListenError
from txlb.net import sockets
from txlb.net.sockets import bind_udp, close_all, describe, listen_tcp, listen_unix, parse_bind


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    group: list[socket.socket] = []
    yield group
    close_all(group)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_all_sockets_of_a_group_share_the_port_that_the_first_one_got(host: str, opened: list[socket.socket]):
    opened += listen_tcp(f"{host}:0", 4)
    assert len({one.getsockname()[1] for one in opened}) == 1
    assert describe(opened[0]).startswith(f"{host}:")
    for one in opened:
        assert not one.getblocking()
        assert not one.get_inheritable()
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_every_socket_of_a_group_gets_connections(opened: list[socket.socket]):
    opened += listen_tcp("127.0.0.1:0", 2)
    clients = [socket.create_connection(opened[0].getsockname()) for _ in range(64)]
    accepted = [0, 0]
    for index, one in enumerate(opened):
        try:
            while True:
                one.accept()[0].close()
                accepted[index] += 1
        except BlockingIOError:
            pass
    close_all(clients)
    assert sum(accepted) == 64
    assert min(accepted) > 0


@pytest.mark.parametrize("open_group", [listen_tcp, bind_udp])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize(("first", "second"), [(1, 1), (4, 4), (1, 4), (4, 1)])
def test_a_second_instance_of_the_same_user_is_refused(
    open_group: Callable[[str, int], list[socket.socket]],
    host: str,
    first: int,
    second: int,
    opened: list[socket.socket],
):
    opened += open_group(f"{host}:0", first)
    with pytest.raises(ListenError, match=r"cannot listen on .*: address already in use"):
        open_group(describe(opened[0]), second)


def test_every_udp_socket_of_a_group_gets_datagrams_and_all_share_a_port(opened: list[socket.socket]):
    opened += bind_udp("127.0.0.1:0", 2)
    assert opened[0].getsockname() == opened[1].getsockname()
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    for client in clients:
        client.sendto(b"x", opened[0].getsockname())
    got = [0, 0]
    for index, one in enumerate(opened):
        assert not one.getblocking()
        assert not one.get_inheritable()
        try:
            while one.recv(9):
                got[index] += 1
        except BlockingIOError:
            pass
    close_all(clients)
    assert sum(got) == 64
    assert min(got) > 0


def test_tcp_and_udp_may_share_a_port(opened: list[socket.socket]):
    # TCP may have used a port of UDP's a moment ago, hardly the reverse.
    opened += listen_tcp("127.0.0.1:0", 2)
    opened += bind_udp(describe(opened[0]), 2)


def test_a_udp_port_that_another_has_is_refused_by_name(opened: list[socket.socket]):
    opened.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    opened[0].bind(("127.0.0.1", 0))
    with pytest.raises(ListenError, match=r"\(udp\): address already in use"):
        bind_udp(describe(opened[0]), 2)


def test_another_server_on_the_port_refuses_ours(opened: list[socket.socket]):
    opened.append(listening_socket())
    with pytest.raises(ListenError, match="already in use"):
        listen_tcp(describe(opened[0]), 2)


def test_a_port_just_given_up_is_free_again():
    group = listen_tcp("127.0.0.1:0", 2)
    bind = describe(group[0])
    client = socket.create_connection(group[0].getsockname())
    close_all(group)  # with a connection in a queue: it ends in TIME_WAIT or reset
    client.close()
    again = listen_tcp(bind, 2)
    close_all(again)


def test_an_address_of_another_host_is_named_as_such():
    with pytest.raises(ListenError, match="not one of this host's"):
        listen_tcp("192.0.2.1:0")


def test_the_hint_for_low_ports_is_given_only_for_low_ports():
    denied = PermissionError(13, "Permission denied")
    assert "CAP_NET_BIND_SERVICE" in sockets._reason(denied, 80)
    assert sockets._reason(denied, 8080) == "permission denied"


def test_ipv6_wildcard_leaves_ipv4_alone(opened: list[socket.socket]):
    opened += listen_tcp("[::]:0")
    port = opened[0].getsockname()[1]
    opened += listen_tcp(f"0.0.0.0:{port}")


@pytest.mark.parametrize(
    ("bind", "parsed"),
    [
        ("10.1.2.3:80", (socket.AF_INET, "10.1.2.3", 80)),
        ("[::1]:80", (socket.AF_INET6, "::1", 80)),
        ("*:80", (socket.AF_INET, "0.0.0.0", 80)),
        (":80", (socket.AF_INET, "0.0.0.0", 80)),
        ("localhost:80", (socket.AF_INET, "127.0.0.1", 80)),
    ],
)
def test_binds_are_understood(bind: str, parsed: tuple[object, ...]):
    assert parse_bind(bind) == parsed


@pytest.mark.parametrize(
    "bind", ["80", "x:80", "::1:80", "[::1]", "[10.0.0.1]:80", "1.2.3.4:", "1.2.3.4:65536", "a:٣"]
)
def test_what_is_no_bind_is_refused(bind: str):
    with pytest.raises(ListenError, match="cannot listen on"):
        parse_bind(bind)


def test_a_unix_socket_replaces_a_stale_one_but_not_one_in_use_nor_a_file(tmp_path: Path):
    path = str(tmp_path / "admin")
    listen_unix(path).close()  # stale
    one = listen_unix(path)
    assert os.stat(path).st_mode & 0o777 == 0o660
    with pytest.raises(ListenError, match="already in use"):
        listen_unix(path)
    one.close()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match="not a socket"):
        listen_unix(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(ListenError, match="absolute"):
        listen_unix("relative")
