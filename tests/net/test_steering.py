"""`txlb.net.steering`: one client, one worker, over real sockets of both families and both protocols."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from txlb.errors import ListenError
from txlb.net.sockets import bind_udp, close_all, listen_tcp
from txlb.net.steering import steer

WORKERS = 4
Open = Callable[[str, int], list[socket.socket]]
IPV6_FREEBIND = 78


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    group: list[socket.socket] = []
    yield group
    close_all(group)


def receivers(group: list[socket.socket], target: tuple[str, int], source: str, times: int = 4) -> set[int]:
    """The indexes of the sockets that ``times`` clients at ``source`` reach."""
    clients = []
    udp = group[0].type == socket.SOCK_DGRAM
    for _ in range(times):
        client = socket.socket(group[0].family, group[0].type)
        clients.append(client)
        if ":" in source:
            client.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        client.bind((source, 0))
        client.connect(target)
        if udp:
            client.send(b"x")
    found = set()
    for index, sock in enumerate(group):
        try:
            while True:
                if udp:
                    sock.recv(9)
                else:
                    sock.accept()[0].close()
                found.add(index)
        except BlockingIOError:
            pass
    close_all(clients)
    return found


def spread(group: list[socket.socket], target: tuple[str, int], sources: list[str]) -> Counter[int]:
    """How many sources meet each socket; each of them meets one only."""
    counts: Counter[int] = Counter()
    for source in sources:
        (index,) = receivers(group, target, source)
        counts[index] += 1
    return counts


@pytest.mark.parametrize("open_group", [bind_udp, listen_tcp])
def test_a_client_always_meets_the_same_socket_and_clients_are_spread(
    open_group: Open, opened: list[socket.socket]
) -> None:
    opened += open_group("127.0.0.1:0", WORKERS)
    steer(opened, True)
    target = opened[0].getsockname()
    for pattern in ("127.0.9.{}", "127.0.{}.9", "127.{}.0.9"):  # addresses that differ in few bits
        counts = spread(opened, target, [pattern.format(number) for number in range(1, 65)])
        assert len(counts) == WORKERS
        assert max(counts.values()) < 2 * 64 / WORKERS


@pytest.mark.parametrize("open_group", [bind_udp, listen_tcp])
def test_steering_can_be_switched_off_again(open_group: Open, opened: list[socket.socket]) -> None:
    opened += open_group("127.0.0.1:0", WORKERS)
    target = opened[0].getsockname()
    steer(opened, False)  # it was off: nothing happens
    steer(opened, True)
    assert len(receivers(opened, target, "127.0.0.9", times=40)) == 1
    steer(opened, True)  # again, as a reload may do
    steer(opened, False)
    assert len(receivers(opened, target, "127.0.0.9", times=40)) > 1


@pytest.mark.parametrize("open_group", [bind_udp, listen_tcp])
def test_a_copy_elsewhere_keeps_the_group_as_it_is(open_group: Open, opened: list[socket.socket]) -> None:
    opened += open_group("127.0.0.1:0", WORKERS)
    steer(opened, True)
    target = opened[0].getsockname()
    before = [receivers(opened, target, f"127.0.9.{number}") for number in range(1, 20)]
    opened[1].dup().close()  # a worker that had it died
    assert [receivers(opened, target, f"127.0.9.{number}") for number in range(1, 20)] == before


def test_one_ipv6_client_meets_one_socket(opened: list[socket.socket]) -> None:
    opened += bind_udp("[::1]:0", WORKERS)
    steer(opened, True)
    assert len(receivers(opened, opened[0].getsockname()[:2], "::1", times=40)) == 1


def test_a_single_socket_needs_no_steering(opened: list[socket.socket]) -> None:
    opened += bind_udp("127.0.0.1:0", 1)
    steer(opened, True)
    assert receivers(opened, opened[0].getsockname(), "127.0.0.9") == {0}


def test_a_refusal_of_the_kernel_says_what_to_write() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))  # without SO_REUSEPORT: there is no group
        with pytest.raises(ListenError, match=r"steer: client: the kernel refuses .*steer: connection"):
            steer([one, one], True)


def in_a_network_of_its_own() -> None:
    """What `test_many_ipv6_clients` runs: every address below 2001:db8::/32 is ours here."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "-6", "route", "add", "local", "2001:db8::/32", "dev", "lo"], check=True)
    for open_group in (bind_udp, listen_tcp):
        group = open_group("[::]:0", WORKERS)
        steer(group, True)
        target = ("2001:db8::1", group[0].getsockname()[1])
        for pattern in ("2001:db8::5:{:x}", "2001:db8:{:x}::1", "2001:db8:0:{:x}::7", "2001:db8::{:x}:0:0:1"):
            counts = spread(group, target, [pattern.format(number) for number in range(1, 65)])
            assert len(counts) == WORKERS, (pattern, counts)
            assert max(counts.values()) < 2 * 64 / WORKERS, (pattern, counts)
        close_all(group)


def may_make_networks() -> bool:
    """Containers often may not."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-rn", "true"], check=False).returncode == 0


def test_many_ipv6_clients_are_spread_and_each_stays() -> None:
    if may_make_networks():
        command = ["unshare", "-rn", sys.executable, __file__]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    in_a_network_of_its_own()
