"""Streams of any length, both ways at once, over TCP and TLS: nothing is lost or changed, memory stays flat.

``TXLB_TEST_BULK_GIB`` says how long (1/16 GiB each way).
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.balancer import Balancer
from support.dataplane import Peer
from support.memory import flat
from support.origins import Origin, Visit
from support.tls import Authority, TlsPeer

MIB = 1 << 20
SIZE = int(float(os.environ.get("TXLB_TEST_BULK_GIB", "0.0625")) * 1024) * MIB


class Stream:
    """Bytes that are the same each time, and never repeat within 64 MiB."""

    def __init__(self, seed: bytes) -> None:
        self.block = hashlib.shake_256(seed).digest(MIB)

    def piece(self, number: int) -> bytes:
        shift = number * 16411 % MIB
        return self.block[shift:] + self.block[:shift]

    def digest(self, size: int) -> str:
        whole = hashlib.sha256()
        for number in range(size // MIB):
            whole.update(self.piece(number))
        return whole.hexdigest()


UP, DOWN = Stream(b"up"), Stream(b"down")


class Backend:
    """Sends all of `DOWN` and takes all that comes, both at once."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.size = SIZE

    def __call__(self, visit: Visit) -> None:
        size = self.size
        heard = hashlib.sha256()

        def send() -> None:
            for number in range(size // MIB):
                visit.send(DOWN.piece(number))

        sending = threading.Thread(target=send)
        sending.start()
        while data := visit.more():
            heard.update(data)
        sending.join()
        self.digests.append(heard.hexdigest())


def converse(peer: Peer | TlsPeer, size: int) -> tuple[int, str]:
    """Send all of `UP` and take all that comes, both at once: its size and digest."""
    heard = hashlib.sha256()
    received = number = 0
    finished = False
    while not peer.ending:
        if not peer.unsent and number < size // MIB:
            peer.unsent = UP.piece(number)
            number += 1
        elif not peer.unsent and not finished:
            finished = True
            peer.finish()
        happened = peer.poll()
        received += len(peer.data)
        heard.update(peer.data)
        peer.data = b""
        if not happened and not peer.ending:
            ready = select.select([peer.sock], [peer.sock] if peer.unsent else [], [], 60)
            assert ready[0] or ready[1], f"nothing moves after {received} bytes"
    return received, heard.hexdigest()


@pytest.mark.timeout(60 + 120 * (SIZE >> 30))
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_bulk_both_ways_at_once(
    start_balancer: Callable[..., Balancer], origin: Origin, tmp_path: Path, kind: str
) -> None:
    authority = Authority(tmp_path)
    listener: dict[str, Any] = {"id": "tcp", "bind": "127.0.0.1:0", "protocol": "tcp"}
    if kind == "tls":
        listener["tls"] = {"certificates": [authority.certificate("a.example")]}
    rule = {"id": "all", "listeners": ["tcp"], "backends": ["b0"]}
    balancer = start_balancer([origin.port], listeners=[listener], routing_rules=[rule])

    def connect() -> Peer | TlsPeer:
        sock = socket.create_connection(("127.0.0.1", balancer.port), 10)
        return Peer(sock) if kind == "tcp" else TlsPeer(sock, authority.client(), "a.example")

    backend = Backend()
    with origin.serving(backend):
        for size in (4 * MIB, SIZE):  # the first one, so that what is allocated once is
            backend.size = size
            peer = connect()
            try:
                with flat(balancer) as watched:
                    answer = converse(peer, size)
            finally:
                peer.close()
            assert answer == (size, DOWN.digest(size))
            assert peer.ending == ("fin" if kind == "tcp" else "notify")
            print(f"{kind}: {size // MIB} MiB each way, worker {watched.before / MIB:.1f} MiB before,")
            print(f"at most {watched.peak / MIB:.1f} MiB meanwhile")
    assert backend.digests == [UP.digest(4 * MIB), UP.digest(SIZE)]
    lines = balancer.logged(2)
    assert [(line["bytes_in"], line["bytes_out"], line["termination"]) for line in lines] == [
        (size, size, "--") for size in (4 * MIB, SIZE)
    ]
