from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dataplane import cut
from support.hello import client_hello

from txlb.core.client_hello import BAD, MAX_MESSAGE, MAX_RAW, MORE, WHOLE, HelloReader


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, data)


def sni(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names)))


def body(*extensions: bytes, session: bytes = b"s" * 32, suites: bytes = b"\x13\x01\x0a\x0a") -> bytes:
    start = b"\3\3" + bytes(32) + vector(1, session) + vector(2, suites) + b"\1\0"
    return start + (vector(2, b"".join(extensions)) if extensions else b"")


def message(hello: bytes, kind: int = 1) -> bytes:
    return bytes((kind,)) + vector(3, hello)


def records(handshake: bytes, size: int = 16384, version: bytes = b"\3\1") -> bytes:
    pieces = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16" + version + vector(2, piece) for piece in pieces)


def read(pieces: list[bytes]) -> tuple[int, bytes]:
    reader = HelloReader()
    verdict = MORE
    fed = b""
    for piece in pieces:
        verdict = reader.feed(piece)
        fed += piece
        assert reader.raw == fed
        if verdict != MORE:
            break
    return verdict, reader.server_name


GREASE = extension(0x0A0A, b"\0") + extension(0xFAFA, b"")
NAMED = message(body(GREASE, sni(b"Www.Example.COM"), extension(0xFE0D, bytes(200))))

GOOD = [
    (client_hello("a.example"), b"a.example"),
    (client_hello("b.example", ("h2", "http/1.1")), b"b.example"),
    (client_hello(None), b""),
    (records(NAMED), b"www.example.com"),
    (records(NAMED, 1), b"www.example.com"),
    (records(NAMED, 7, b"\3\3"), b"www.example.com"),
    (records(message(body())), b""),
    (records(message(body(b""))), b""),
    (records(message(body(GREASE))), b""),
    (records(message(body(sni(b"x" * 255)))), b"x" * 255),
    (records(message(body(sni(b"192.0.2.1")))), b"192.0.2.1"),
    (records(message(body(sni(b"a.example."), session=b""))), b"a.example."),
    (records(message(body(extension(21, bytes(20000)), sni(b"padded.example")))), b"padded.example"),
]
WRONG = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",  # SSL 2
    b"\x15\3\1\0\2\2\x28",  # an alert
    b"\x17\3\3\0\5hello",
    b"\x16\2\0\0\5",
    b"\x16\3\1\0\0",
    b"\x16\3\1\x40\1",
    records(message(body(), kind=2)),
    records(b"\1" + (MAX_MESSAGE).to_bytes(3, "big")),
    records(message(b"")),
    records(message(body()[:-1])),
    records(message(body() + b"\0")),
    records(message(body(session=bytes(32))[:40])),
    records(message(body(sni(b"a.example")) + b"x")),
    records(message(body(sni(b"a.example")[:-1]))),
    records(message(body(b"\0\1\0\5abc"))),
    records(message(body(sni(b"a.example"), sni(b"b.example")))),
    records(message(body(sni(b"a.example", b"b.example")))),
    records(message(body(sni(b"a.example", kind=1)))),
    records(message(body(sni(b"")))),
    records(message(body(sni()))),
    records(message(body(extension(0, b"")))),
    records(message(body(sni(b"a\0.example")))),
    records(message(body(sni(b"a b")))),
    records(message(body(sni("ä.example".encode())))),
    records(message(body(sni(b"x" * 256)))),
]


@pytest.mark.parametrize("data, name", GOOD)
def test_the_name_is_found(data: bytes, name: bytes) -> None:
    assert read([data]) == (WHOLE, name)
    assert read([data + b"early data, perhaps"]) == (WHOLE, name)
    assert read([data[:-1]])[0] == MORE


@pytest.mark.parametrize("data", WRONG)
def test_what_is_no_client_hello_is_refused(data: bytes) -> None:
    assert read([data])[0] == BAD


@pytest.mark.parametrize("data", [data for data, _ in GOOD] + WRONG)
def test_octet_by_octet_it_is_the_same(data: bytes) -> None:
    assert read([bytes((octet,)) for octet in data]) == read([data])


@given(st.sampled_from([data for data, _ in GOOD]), st.lists(st.integers(0, 1 << 16), max_size=20))
def test_any_split_gives_the_same(data: bytes, places: list[int]) -> None:
    assert read(cut(data, places)) == read([data])


@given(
    st.sampled_from([client_hello("a.example"), records(NAMED), records(NAMED, 5)]),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3), st.integers(0, 3)), max_size=4),
    st.lists(st.integers(0, 1 << 16), max_size=20),
)
def test_mutated_hellos_never_crash_and_no_split_matters(
    data: bytes, edits: list[tuple[int, bytes, int]], places: list[int]
) -> None:
    for place, inserted, removed in edits:
        place %= len(data) + 1
        data = data[:place] + inserted + data[place + removed :]
    assert read(cut(data, places)) == read([data])


@given(st.binary(max_size=200))
def test_any_bytes_have_a_verdict(junk: bytes) -> None:
    assert read([junk])[0] in (MORE, BAD)
    assert read([b"\x16\3\1\0\xff\1" + junk])[0] in (MORE, BAD, WHOLE)


def test_records_of_one_byte_are_bounded() -> None:
    long = message(body(extension(21, bytes(MAX_MESSAGE - 200))))
    assert read([records(long)])[0] == WHOLE
    data = records(long, 1)
    reader = HelloReader()
    fed = 0
    while reader.feed(data[fed : fed + 1000]) == MORE:
        fed += 1000
    assert fed <= MAX_RAW


def test_other_protocols_are_refused_at_the_first_byte() -> None:
    assert read([b"G"])[0] == BAD
    assert read([b"\x16\2"])[0] == BAD
    assert read([b"\x16\3\1\0\5\2"])[0] == BAD
