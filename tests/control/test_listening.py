"""`txlb.control.listening`: all or nothing, and sockets that stay while their bind does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ports import free_port, listening_socket

from txlb.control import listening
from txlb.control.listening import ListeningSockets, binds_of
from txlb.core.model import ListenerSpec, Snapshot
from txlb.errors import ListenError


def snapshot_of(**listeners: str) -> Snapshot:
    """A listener per keyword, its binds separated by spaces."""
    return Snapshot(
        listeners=tuple(ListenerSpec(key, tuple(text.split())) for key, text in listeners.items())
    )


@pytest.fixture
def sockets() -> Iterator[ListeningSockets]:
    one = ListeningSockets(2)
    yield one
    one.close()


def test_a_share_has_the_sockets_with_that_index_of_every_bind(sockets: ListeningSockets):
    snapshot = snapshot_of(a="127.0.0.1:0 127.0.0.2:0", b="127.0.0.3:0")
    sockets.open(binds_of(snapshot))
    first, second, both = (sockets.share(snapshot, indexes) for indexes in ((0,), (1,), (0, 1)))
    assert [len(group) for group in first.values()] == [2, 1]
    assert not set(first["a"]) & set(second["a"])
    assert set(both["a"]) == {*first["a"], *second["a"]}


def test_one_bind_that_fails_closes_those_of_the_same_call_only(sockets: ListeningSockets):
    kept, new = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    sockets.open([kept])
    with pytest.raises(ListenError):
        sockets.open([kept, new, "192.0.2.1:80"])
    assert sockets.surplus(Snapshot()) == [kept]
    other = ListeningSockets(1)
    other.open([new])  # it is free again
    other.close()


def test_a_bind_keeps_its_sockets_when_it_moves_to_another_listener(sockets: ListeningSockets):
    before, after = snapshot_of(a="127.0.0.1:0"), snapshot_of(b="127.0.0.1:0")
    sockets.open(binds_of(before))
    assert sockets.open(binds_of(after)) == []
    assert sockets.share(before, (0,))["a"] == sockets.share(after, (0,))["b"]
    assert sockets.surplus(after) == []


def test_surplus_is_what_no_listener_has(sockets: ListeningSockets):
    sockets.open(["127.0.0.1:0", "127.0.0.2:0"])
    assert sockets.surplus(snapshot_of(a="127.0.0.2:0")) == ["127.0.0.1:0"]
    sockets.close(["127.0.0.1:0"])
    assert sockets.surplus(Snapshot()) == ["127.0.0.2:0"]


def test_a_shared_bind_gives_every_worker_all_its_sockets(tmp_path: Path):
    passed = [listening_socket(), listening_socket()]
    sockets = ListeningSockets(2, {"web": passed}.__getitem__)
    snapshot = snapshot_of(a=f"unix:{tmp_path}/a 127.0.0.1:0", b="systemd:web")
    sockets.open(binds_of(snapshot))
    first, both = sockets.share(snapshot, (0,)), sockets.share(snapshot, (0, 1))
    assert [len(group) for group in first.values()] == [2, 2]
    assert [len(group) for group in both.values()] == [3, 2], "each once, whoever's sockets are served too"
    assert first["b"] == both["b"] == passed
    assert sockets.addresses("systemd:web").count(", ") == 1
    sockets.close()
    assert not (tmp_path / "a").exists()


def test_a_unix_socket_that_is_anothers_by_now_is_not_removed(tmp_path: Path):
    path = tmp_path / "a"
    sockets = ListeningSockets(1)
    sockets.open([f"unix:{path}"])
    path.unlink()
    path.write_text("another's")
    sockets.close()
    assert path.read_text() == "another's"


def udp_and_tcp(steer: str = "connection") -> Snapshot:
    return Snapshot(
        listeners=(
            ListenerSpec("tcp", ("127.0.0.1:0",), steer=steer),
            ListenerSpec("udp", ("127.0.0.1:0",), "udp", steer=steer),
        )
    )


def test_udp_and_tcp_on_the_same_address_are_two_groups(sockets: ListeningSockets):
    snapshot = udp_and_tcp()
    assert sockets.prepare(snapshot) == ["127.0.0.1:0", "udp:127.0.0.1:0"]
    share = sockets.share(snapshot, (0, 1))
    assert [sock.type for sock in share["tcp"]] == [socket.SOCK_STREAM] * 2
    assert [sock.type for sock in share["udp"]] == [socket.SOCK_DGRAM] * 2
    assert sockets.addresses_of(snapshot.listeners[1]).startswith("udp:127.0.0.1:")
    assert sockets.surplus(Snapshot(listeners=snapshot.listeners[:1])) == ["udp:127.0.0.1:0"]


def test_a_listener_that_changes_its_protocol_gets_other_sockets(sockets: ListeningSockets):
    before, after = (
        snapshot_of(a="127.0.0.1:0"),
        Snapshot(listeners=(ListenerSpec("a", ("127.0.0.1:0",), "udp"),)),
    )
    sockets.prepare(before)
    assert sockets.prepare(after) == ["udp:127.0.0.1:0"]
    assert sockets.surplus(after) == ["127.0.0.1:0"]


def workers_met(sockets: ListeningSockets, snapshot: Snapshot, times: int = 40) -> int:
    """How many workers' UDP sockets ``times`` clients at one address reach."""
    group = sockets.share(snapshot, (0, 1))["udp"]
    for _ in range(times):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", group[0].getsockname())
    met = 0
    for sock in group:
        try:
            sock.recv(9)
            met += 1
            while True:
                sock.recv(9)
        except BlockingIOError:
            pass
    return met


def test_steering_follows_the_configuration(sockets: ListeningSockets):
    assert sockets.prepare(udp_and_tcp("client")) != []
    assert workers_met(sockets, udp_and_tcp()) == 1
    sockets.prepare(udp_and_tcp("connection"))
    assert workers_met(sockets, udp_and_tcp()) == 2
    sockets.prepare(udp_and_tcp("client"))
    assert workers_met(sockets, udp_and_tcp()) == 1


def test_steering_that_the_kernel_refuses_leaves_all_as_it_was(
    sockets: ListeningSockets, monkeypatch: pytest.MonkeyPatch
):
    def refuse(group: list[socket.socket], by_client: bool) -> None:
        if by_client:
            raise ListenError("refused")

    sockets.prepare(udp_and_tcp())
    monkeypatch.setattr(listening, "steer", refuse)
    new = Snapshot(listeners=(*udp_and_tcp("client").listeners, ListenerSpec("new", ("127.0.0.2:0",))))
    with pytest.raises(ListenError, match="refused"):
        sockets.prepare(new)
    assert sockets.surplus(udp_and_tcp()) == []
    sockets.prepare(udp_and_tcp())
