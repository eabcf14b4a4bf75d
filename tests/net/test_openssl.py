"""`txlb.net.openssl`: the fast way and pyOpenSSL's methods do the same."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from OpenSSL import SSL
from support.tls import Authority, TlsPeer, spec_of

from txlb.net import openssl
from txlb.net.openssl import DONE, RECORD, WANTS_READ, decrypt, encrypt, engine_of, handshake, restrict_groups
from txlb.net.tls_contexts import ServerTls, hardened


class Pair:
    """A server's connection and its client, which is not pyOpenSSL's."""

    def __init__(self, authority: Authority, direct: bool) -> None:
        self.near, far = socket.socketpair()
        for end in (self.near, far):
            end.setblocking(False)
        self.tls: Any = ServerTls(spec_of(authority.certificate("a.example")), "web", True).connection(
            self.near
        )
        self.engine = engine_of(self.tls) if direct else None
        self.client = TlsPeer(far, authority.client(), "a.example")

    def shake(self) -> list[int]:
        """What the steps answered."""
        steps = []
        while not steps or steps[-1] != DONE:
            self.client.poll()
            steps.append(handshake(self.tls, self.engine))
        self.client.poll()
        return steps

    def close(self) -> None:
        self.near.close()
        self.client.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[True, False], ids=["direct", "by methods"])
def pair(authority: Authority, request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(authority, request.param)
    try:
        yield pair
    finally:
        pair.close()


def test_this_version_of_pyopenssl_has_what_it_takes(authority: Authority) -> None:
    pair = Pair(authority, True)
    assert openssl.DIRECT
    assert pair.engine is not None
    pair.close()


def test_a_handshake_says_what_it_waits_for(pair: Pair) -> None:
    assert handshake(pair.tls, pair.engine) == WANTS_READ
    assert pair.shake()[-1] == DONE


def test_what_is_no_handshake_is_an_error(pair: Pair) -> None:
    raw = socket.socket(fileno=os.dup(pair.client.sock.fileno()))
    raw.send(b"GET / HTTP/1.1\r\n\r\n")
    raw.close()
    with pytest.raises(SSL.Error) as raised:
        handshake(pair.tls, pair.engine)
    assert "http request" in str(raised.value)


def test_records_both_ways(pair: Pair) -> None:
    pair.shake()
    with pytest.raises(SSL.WantReadError):
        decrypt(pair.tls, pair.engine)
    pair.client.send(b"a" * (RECORD + 1))
    pair.client.poll()
    assert decrypt(pair.tls, pair.engine) == b"a" * RECORD
    assert decrypt(pair.tls, pair.engine) == b"a"
    assert encrypt(pair.tls, pair.engine, b"hello", 5) == 5
    rest = memoryview(b"0123456789")[4:]
    assert encrypt(pair.tls, pair.engine, rest, 6) == 6
    pair.client.poll()
    assert pair.client.data == b"hello456789"


def test_no_room_is_an_error_to_wait_on(pair: Pair) -> None:
    pair.shake()
    with pytest.raises(SSL.WantWriteError):
        while True:
            encrypt(pair.tls, pair.engine, bytes(RECORD), RECORD)


def test_a_client_that_is_gone_is_an_error(pair: Pair) -> None:
    pair.shake()
    pair.client.close()
    with pytest.raises(SSL.Error):
        encrypt(pair.tls, pair.engine, b"hello", 5)


def test_the_first_list_of_groups_that_is_known() -> None:
    context = hardened(SSL.TLS1_2_VERSION)
    assert restrict_groups(context, (b"NO-SUCH-GROUP", b"P-256"))
    assert not restrict_groups(context, (b"NO-SUCH-GROUP",))
    assert openssl.LIB.ERR_get_error() == 0, "nothing is left for the next call to find"
