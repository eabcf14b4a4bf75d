from __future__ import annotations

import itertools
import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txlb.core.crc32c import crc32c
from txlb.core.proxy_announcement import Announced, TlsFacts, announce, announce_nobody
from txlb.core.proxy_protocol import BAD, MAX_LENGTH, MORE, SIGNATURE, WHOLE, HeaderReader

Facts = tuple[str, int, str, int]


def read(pieces: list[bytes]) -> tuple[int, Facts | None, int]:
    """The verdict, what was said, and how many bytes it took."""
    reader = HeaderReader()
    used = 0
    verdict = MORE
    for piece in pieces:
        verdict = reader.feed(piece)
        used += reader.used
        if verdict != MORE:
            break
        assert reader.used == len(piece)
    header = reader.header
    said = None
    if header is not None:
        said = (header.source, header.source_port, header.destination, header.destination_port)
    return verdict, said, used


def v2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", size) + rest


INET = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.9") + struct.pack(">HH", 40000, 443)
INET6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack(">HH", 1, 65535)
SAID: Facts = ("192.0.2.1", 40000, "198.51.100.9", 443)
NOBODY: Facts = ("", 0, "", 0)

GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.9 40000 443\r\n", SAID),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", ("0.0.0.0", 0, "255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", ("2001:db8::7", 1, "::1", 2)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.9 40000 443\r\n", SAID),
    (
        b"PROXY TCP6 %b %b 65535 65535\r\n" % (b":".join([b"ffff"] * 8), b":".join([b"ffff"] * 8)),
        (":".join(["ffff"] * 8), 65535, ":".join(["ffff"] * 8), 65535),
    ),
    (b"PROXY UNKNOWN\r\n", NOBODY),
    (b"PROXY UNKNOWN whatever \xff it \r says\r\n", NOBODY),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", NOBODY),
    (v2(0x21, 0x11, INET), SAID),
    (v2(0x21, 0x12, INET), SAID),
    (v2(0x21, 0x21, INET6), ("2001:db8::7", 1, "2001:db8::7", 65535)),
    (
        v2(0x21, 0x21, b"".join(bytes(10) + b"\xff\xff" + INET[n : n + 4] for n in (0, 4)) + INET[8:]),
        SAID,
    ),
    (v2(0x21, 0x11, INET + b"\x04\0\0"), SAID),
    (v2(0x21, 0x11, INET + b"\xe0\0\3abc" + b"\x05\0\1u" + b"\x20\0\5\1\0\0\0\0"), SAID),
    (v2(0x21, 0x11, INET + b"\x04" + struct.pack(">H", MAX_LENGTH - 15) + bytes(MAX_LENGTH - 15)), SAID),
    (v2(0x21, 0x00, b""), NOBODY),
    (v2(0x21, 0x00, b"\x04\0\1x"), NOBODY),
    (v2(0x21, 0x10, INET), NOBODY),
    (v2(0x21, 0x31, bytes(216)), NOBODY),
    (v2(0x20, 0x00, b""), NOBODY),
    (v2(0x20, 0x11, INET), NOBODY),
    (v2(0x20, 0xFF, b"junk"), NOBODY),
]

WRONG = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00",
    b"\n",
    b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 ::1 ::2 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 \xb2 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
    b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN\xff\r\n",
    b"PROXY UNKNOWN\n\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY \r\n",
    SIGNATURE[:5] + b"x",
    SIGNATURE[:-1] + b"\r",
    v2(0x11, 0x11, INET),  # version 1
    v2(0x31, 0x11, INET),
    v2(0x22, 0x11, INET),  # a command that there is not
    v2(0x21, 0x41, bytes(300)),
    v2(0x21, 0x13, INET),
    v2(0x21, 0x11, INET[:11]),
    v2(0x21, 0x21, INET6[:35]),
    v2(0x21, 0x31, bytes(215)),
    v2(0x21, 0x11, b"", MAX_LENGTH + 1),
    v2(0x20, 0x00, b"", MAX_LENGTH + 1),
    v2(0x21, 0x11, INET + b"\x04"),
    v2(0x21, 0x11, INET + b"\x04\0"),
    v2(0x21, 0x11, INET + b"\x04\0\2x"),
    v2(0x21, 0x11, INET + b"\x04\0\1xy"),
    v2(0x21, 0x11, INET + b"\x03\0\4abcd"),
    v2(0x21, 0x11, INET + b"\x03\0\0"),
    v2(0x21, 0x00, b"x"),
]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[one:other] for one, other in itertools.pairwise(places)]


@pytest.mark.parametrize("data, said", GOOD)
def test_a_header_is_read_and_nothing_behind_it(data: bytes, said: Facts) -> None:
    for behind in (b"", b"x", b"\r\n\r\nPROXY ", data):
        assert read([data + behind]) == (WHOLE, said, len(data))


@pytest.mark.parametrize("data, said", GOOD)
def test_an_unfinished_header_waits_for_more(data: bytes, said: Facts) -> None:
    for end in range(len(data)):
        assert read([data[:end]]) == (MORE, None, end)


@pytest.mark.parametrize("data", WRONG)
def test_what_is_not_a_header_is_refused(data: bytes) -> None:
    verdict, said, used = read([data])
    assert (verdict, said) == (BAD, None)
    assert used <= len(data)


@pytest.mark.parametrize("data", [data for data, _ in GOOD] + WRONG)
def test_octet_by_octet_it_is_the_same(data: bytes) -> None:
    assert read([bytes((octet,)) for octet in data])[:2] == read([data])[:2]


@given(st.sampled_from([data for data, _ in GOOD]), st.binary(max_size=20), st.lists(st.integers(0, 5000)))
def test_any_split_gives_the_same(data: bytes, behind: bytes, cuts: list[int]) -> None:
    whole = data + behind
    assert read(split(whole, cuts)) == read([whole])


@given(
    st.sampled_from([data for data, _ in GOOD]),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3), st.integers(0, 3)), max_size=4),
    st.lists(st.integers(0, 5000)),
)
@example(SIGNATURE, [], [])
def test_mutated_headers_never_crash_and_no_split_matters(
    data: bytes, edits: list[tuple[int, bytes, int]], cuts: list[int]
) -> None:
    for place, inserted, removed in edits:
        place %= len(data) + 1
        data = data[:place] + inserted + data[place + removed :]
    verdict, said, used = read([data])
    assert read(split(data, cuts))[:2] == (verdict, said)
    assert used <= len(data)
    assert (said is not None) == (verdict == WHOLE)
    assert used <= 16 + MAX_LENGTH


def test_a_line_that_never_ends_is_refused_at_107_bytes() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 1000
    assert read([line[:106]]) == (MORE, None, 106)
    assert read([line]) == (BAD, None, 107)


def test_what_begins_like_neither_version_is_refused_at_once() -> None:
    assert read([b"PROXZ"])[0] == BAD
    assert read([b"\r\n\r\r"])[0] == BAD


def test_each_octet_is_looked_at_once() -> None:
    reader = HeaderReader()
    data = v2(0x21, 0x11, INET + b"\x04" + struct.pack(">H", 4000) + bytes(4000))
    for octet in data[:-1]:
        assert reader.feed(bytes((octet,))) == MORE
        assert reader.used == 1
    assert reader.feed(data[-1:] + b"more") == WHOLE
    assert reader.used == 1
    assert len(reader.data) == len(data)


def test_a_checksum_is_verified() -> None:
    start = v2(0x21, 0x11, INET + b"\x03\0\4", len(INET) + 7)
    right = start + struct.pack(">I", crc32c(start + bytes(4)))
    assert read([right])[:2] == (WHOLE, SAID)
    for place in (*range(16, 28), *range(29, len(right))):  # 28: then it is no checksum
        wrong = bytearray(right)
        wrong[place] ^= 1
        assert read([bytes(wrong)])[0] == BAD


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ports = st.integers(0, 65535)


@given(st.sampled_from([1, 2]), addresses, ports, addresses, ports, st.booleans())
def test_what_is_announced_is_read_back(
    version: int, source: str, source_port: int, destination: str, destination_port: int, tls: bool
) -> None:
    facts = TlsFacts("TLSv1.3") if tls else None
    header = announce(version, Announced(source, source_port, destination, destination_port, facts))
    verdict, said, used = read([header + b"GET /"])
    assert (verdict, used) == (WHOLE, len(header))
    assert said is not None
    assert said[1::2] == (source_port, destination_port)
    if "ffff" not in source + destination:
        assert said[::2] == (source, destination)


@pytest.mark.parametrize("version", [1, 2])
def test_nobody_is_read_back_as_nobody(version: int) -> None:
    for header in (announce_nobody(version), announce(version, Announced("", 0, "", 0))):
        assert read([header]) == (WHOLE, NOBODY, len(header))
