"""`txlb.net.probing`: what is good, what is not, and that no endpoint costs more than it may."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.dataplane import Net, network

from txlb.core import health_counts as results
from txlb.net.probing import LINGER, MOST, Expected, ProbeReceiver, Probing

REQUEST = b"GET /health HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
GOOD = Expected(REQUEST, frozenset(range(200, 400)))
CONNECT = Expected(b"", frozenset())
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


class Heard(ProbeReceiver):
    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.told: list[tuple[Any, int, str]] = []

    def probed(self, key: Any, result: int, reason: str) -> None:
        assert not self.inside
        self.told.append((key, result, reason))

    @property
    def result(self) -> tuple[int, str]:
        ((key, result, reason),) = self.told
        assert key == "key"
        return result, reason


class Scene:
    """A listening socket, and one probe of it at a time."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.heard = Heard()

    def begin(self, expected: Expected = GOOD, address: str = "127.0.0.1", port: int = 0) -> Probing:
        probing = Probing(self.net.loop, self.heard, "key", expected)
        self.heard.inside = True
        probing.begin(address, port or self.port)
        self.heard.inside = False
        return probing

    def accept(self) -> socket.socket:
        """The probe's connection, its request read."""
        self.server.settimeout(10.0)
        sock, _ = self.server.accept()
        sock.settimeout(10.0)
        self.net.settle()
        assert sock.recv(65536) == REQUEST
        return sock

    def wait(self) -> tuple[int, str]:
        self.net.run_until(lambda: self.heard.told)
        return self.heard.result

    def over(self) -> bool:
        return self.heard.sockets == 0 and not self.net.loop.handlers


@pytest.fixture
def scene() -> Iterator[Scene]:
    with network() as net:
        one = Scene(net)
        yield one
        one.server.close()
        assert one.over()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_connecting_is_good_where_nothing_is_asked(scene: Scene) -> None:
    scene.begin(CONNECT)
    assert scene.wait() == (results.SUCCESS, "")
    sock, _ = scene.server.accept()
    assert sock.recv(1) == b""  # FIN, not a reset
    sock.close()


def test_what_is_sent_without_waiting_for_an_answer(scene: Scene) -> None:
    scene.begin(Expected(b"PROXY UNKNOWN\r\n", frozenset()))
    assert scene.wait() == (results.SUCCESS, "")
    sock, _ = scene.server.accept()
    assert (sock.recv(99), sock.recv(1)) == (b"PROXY UNKNOWN\r\n", b"")
    sock.close()


LIFE = Expected(REQUEST, frozenset(), True)


@pytest.mark.parametrize("answer", [OK, OK.replace(b"200", b"501"), b"\0garbage", b""])
def test_where_anything_is_good_only_silence_is_not(scene: Scene, answer: bytes) -> None:
    probing = scene.begin(LIFE)
    sock = scene.accept()
    scene.net.settle()
    assert scene.heard.told == []
    sock.sendall(answer)
    sock.close()
    assert scene.wait() == (results.SUCCESS, "")
    scene.heard.told.clear()
    probing = scene.begin(LIFE)
    with scene.accept():
        probing.expire(0.2)
        assert scene.wait() == (results.TIMEOUT, "no answer within 200 ms")


def test_a_reset_is_a_sign_of_life_and_a_refusal_is_not(
    scene: Scene, reset: Callable[[socket.socket], None], closed_port: int
) -> None:
    scene.begin(LIFE)
    reset(scene.accept())
    assert scene.wait() == (results.SUCCESS, "")
    scene.heard.told.clear()
    scene.begin(LIFE, port=closed_port)
    assert scene.wait() == (results.REFUSED, "connection refused")


def test_ipv6(scene: Scene) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        scene.begin(CONNECT, "::1", server.getsockname()[1])
        assert scene.wait() == (results.SUCCESS, "")


@pytest.mark.parametrize("expected", [CONNECT, GOOD])
def test_refused(scene: Scene, closed_port: int, expected: Expected) -> None:
    scene.begin(expected, port=closed_port)
    assert scene.wait() == (results.REFUSED, "connection refused")


def test_unreachable_is_told_later(scene: Scene) -> None:
    scene.begin(address="255.255.255.255")
    assert scene.heard.told == []
    scene.net.settle()
    result, reason = scene.heard.result
    assert result == results.UNREACHABLE
    assert reason.startswith("cannot connect: E")


def test_a_good_answer_is_told_at_once_and_the_other_side_may_close_first(scene: Scene) -> None:
    scene.begin()
    sock = scene.accept()
    sock.sendall(OK)
    assert scene.wait() == (results.SUCCESS, "")
    assert scene.heard.sockets == 1
    sock.close()
    scene.net.run_until(scene.over)
    assert len(scene.heard.told) == 1


def test_one_that_has_closed_already_needs_no_second_look(scene: Scene) -> None:
    scene.begin()
    sock = scene.accept()
    sock.sendall(OK)
    sock.close()
    assert scene.wait() == (results.SUCCESS, "")
    assert scene.over()


def test_the_same_answer_is_judged_by_what_is_wanted(scene: Scene) -> None:
    answers = [
        (GOOD, OK, results.SUCCESS),
        (GOOD, OK, results.SUCCESS),
        (Expected(REQUEST, frozenset((204,))), OK, results.STATUS),
        (GOOD, OK.replace(b"200", b"500"), results.STATUS),
        (GOOD, OK, results.SUCCESS),
    ]
    for expected, answer, result in answers:
        scene.begin(expected)
        with scene.accept() as sock:
            sock.sendall(answer)
            assert scene.wait()[0] == result
        scene.net.run_until(scene.over)
        assert (scene.heard.good, scene.heard.good_for) == (OK, GOOD.statuses)
        scene.heard.told.clear()


def test_only_a_whole_first_piece_is_remembered(scene: Scene) -> None:
    for cut in (10, 31):
        scene.begin()
        with scene.accept() as sock:
            sock.sendall(OK[:cut])
            scene.net.settle()
            sock.sendall(OK[cut:])
            assert scene.wait() == (results.SUCCESS, "")
        scene.net.run_until(scene.over)
        assert scene.heard.good == b""
        scene.heard.told.clear()


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux has it")
def test_the_request_carries_the_acknowledgement(scene: Scene) -> None:
    scene.server.setblocking(False)
    held_back = 0
    for _ in range(5):  # should we be stopped for 40 ms in between, the kernel acknowledges by itself
        probing = scene.begin()
        try:
            scene.server.accept()[0].close()
        except BlockingIOError:
            held_back += 1
            with scene.accept():
                probing.cancel()
        probing.cancel()
    assert held_back
    scene.begin(CONNECT).cancel()
    scene.server.accept()[0].close()


def test_one_that_does_not_close_is_closed(scene: Scene) -> None:
    scene.begin()
    with scene.accept() as sock:
        sock.sendall(OK)
        scene.wait()
        scene.net.elapse(LINGER + 0.3)
        assert scene.over()
        assert sock.recv(1) == b""


def test_one_that_streams_for_ever_is_good_and_cut_off(scene: Scene) -> None:
    scene.begin()
    with scene.accept() as sock:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        scene.wait()
        sock.setblocking(False)
        sent = 0
        while not scene.over():
            try:
                sent += sock.send(b"x" * 65536)
            except BlockingIOError:
                pass
            except OSError as why:
                assert why.errno in (errno.ECONNRESET, errno.EPIPE)
            scene.net.turn()
    assert len(scene.heard.told) == 1


def test_the_answer_may_come_in_any_pieces(scene: Scene) -> None:
    scene.begin()
    with scene.accept() as sock:
        for index in range(len(OK)):
            if not scene.heard.told:
                sock.sendall(OK[index : index + 1])
                scene.net.settle()
        assert scene.wait() == (results.SUCCESS, "")
    scene.net.run_until(scene.over)


@pytest.mark.parametrize("cut", [0, 10, 25, 31])
def test_interim_answers_are_passed_over(scene: Scene, cut: int) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK
    scene.begin()
    with scene.accept() as sock:
        sock.sendall(answer[:cut])
        scene.net.settle()
        assert scene.heard.told == []
        sock.sendall(answer[cut:])
        assert scene.wait() == (results.SUCCESS, "")
    scene.net.run_until(scene.over)


@pytest.mark.parametrize("status", [404, 500, 503, 101])
def test_another_status_is_not_good(scene: Scene, status: int) -> None:
    scene.begin()
    with scene.accept() as sock:
        sock.sendall(b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\n\r\n" % status)
        assert scene.wait() == (results.STATUS, f"status {status}")


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"220 mail ESMTP\n",
        b"\x16\x03\x01\x00\x05\x01\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad field\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ],
)
def test_garbage_is_not_good(scene: Scene, garbage: bytes) -> None:
    scene.begin()
    with scene.accept() as sock:
        sock.sendall(garbage)
        result, reason = scene.wait()
    assert result == results.MALFORMED
    assert reason


@pytest.mark.parametrize("piece", [b"x" * 1000, b"X-Field: value\r\n" * 60, b"HTTP/1.1 100 C\r\n\r\n" * 60])
def test_a_head_that_never_ends_is_bounded(scene: Scene, piece: bytes) -> None:
    scene.begin()
    with scene.accept() as sock:
        sock.sendall(b"HTTP/1.1 200 OK\r\n" if b"100" not in piece else b"")
        sent = 0
        while not scene.heard.told:
            assert sent < 4 * MOST
            sent += sock.send(piece)
            scene.net.settle()
        assert scene.heard.result[0] == results.MALFORMED
        assert scene.over()


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_an_early_close_is_not_good(scene: Scene, before: bytes) -> None:
    scene.begin()
    sock = scene.accept()
    sock.sendall(before)
    sock.close()
    assert scene.wait() == (results.CLOSED, "closed before its answer was whole")


def test_a_reset_is_not_good(scene: Scene, reset: Callable[[socket.socket], None]) -> None:
    scene.begin()
    reset(scene.accept())
    assert scene.wait() == (results.CLOSED, "no whole answer: ECONNRESET")


@pytest.fixture
def reset() -> Callable[[socket.socket], None]:
    def run(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    return run


def test_its_time_is_over(scene: Scene) -> None:
    probing = scene.begin()
    with scene.accept():
        probing.expire(0.2)
        assert scene.wait() == (results.TIMEOUT, "no answer within 200 ms")
        assert scene.over()


def test_its_time_is_over_before_it_is_connected(scene: Scene) -> None:
    scene.begin(CONNECT).expire(2.0)
    assert scene.heard.result == (results.TIMEOUT, "no connection within 2000 ms")


def test_who_cancels_hears_nothing(scene: Scene) -> None:
    scene.begin().cancel()
    scene.net.settle()
    scene.server.accept()[0].close()
    probing = scene.begin()
    with scene.accept() as sock:
        sock.sendall(OK)
        probing.cancel()
        probing.cancel()
        scene.net.settle()
    assert scene.heard.told == []


def test_cancelled_while_it_waits_for_the_close(scene: Scene) -> None:
    probing = scene.begin()
    with scene.accept() as sock:
        sock.sendall(OK)
        scene.wait()
        probing.cancel()
        assert scene.over()


def test_want_of_descriptors_says_nothing_about_the_backend(scene: Scene) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        scene.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    scene.net.settle()
    assert scene.heard.result == (results.VOID, "cannot probe: EMFILE")
