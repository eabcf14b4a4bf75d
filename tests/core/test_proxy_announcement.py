from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from txlb.core.crc32c import crc32c
from txlb.core.proxy_announcement import Announced, TlsFacts, announce, announce_nobody
from txlb.core.proxy_protocol import SIGNATURE, WHOLE, HeaderReader


def tlvs(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        kind, size = struct.unpack_from(">BH", data)
        found[kind] = data[3 : 3 + size]
        data = data[3 + size :]
    return found


def test_the_lines_of_version_1() -> None:
    assert announce(1, Announced("192.0.2.1", 40000, "198.51.100.9", 80)) == (
        b"PROXY TCP4 192.0.2.1 198.51.100.9 40000 80\r\n"
    )
    assert announce(1, Announced("2001:db8::1", 1, "::1", 2)) == b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"
    assert announce_nobody(1) == announce(1, Announced("", 0, "10.0.0.1", 80)) == b"PROXY UNKNOWN\r\n"


def test_different_families_are_both_written_as_ipv6() -> None:
    assert announce(1, Announced("192.0.2.1", 1, "::1", 2)) == b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"
    mixed = announce(2, Announced("2001:db8::1", 1, "192.0.2.1", 2))
    assert mixed[13] == 0x21
    assert mixed[32:48] == bytes(10) + b"\xff\xff\xc0\0\2\1"


def test_an_unknown_destination_is_all_zeros() -> None:
    assert announce(1, Announced("192.0.2.1", 1, "", 0)) == b"PROXY TCP4 192.0.2.1 0.0.0.0 1 0\r\n"


def test_the_bytes_of_version_2() -> None:
    header = announce(2, Announced("192.0.2.1", 40000, "198.51.100.9", 80))
    assert header[:12] == SIGNATURE
    assert header[12:16] == b"\x21\x11\x00\x13"
    assert header[16:28] == bytes((192, 0, 2, 1, 198, 51, 100, 9)) + struct.pack(">HH", 40000, 80)
    assert header[28:31] == b"\x03\0\4"
    assert struct.unpack(">I", header[31:])[0] == crc32c(header[:31] + bytes(4))
    nobody = announce_nobody(2)
    assert nobody[12:16] == b"\x20\0\0\x07"
    assert announce(2, Announced("", 0, "", 0))[12:14] == b"\x21\0"


def test_the_tls_of_the_client_is_told() -> None:
    facts = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "www.example.com", b"http/1.1")
    plain = tlvs(announce(2, Announced("192.0.2.1", 1, "192.0.2.2", 2, facts))[28:])
    assert plain[0x01] == b"http/1.1"
    assert plain[0x02] == b"www.example.com"
    assert plain[0x20][:5] == b"\x01\0\0\0\1"  # TLS, no certificate verified
    assert tlvs(plain[0x20][5:]) == {0x21: b"TLSv1.3", 0x23: b"TLS_AES_128_GCM_SHA256"}
    facts.certificate = facts.verified = True
    facts.common_name = "client Ä"
    known = tlvs(announce(2, Announced("192.0.2.1", 1, "192.0.2.2", 2, facts))[28:])
    assert known[0x20][:5] == b"\x07\0\0\0\0"
    assert tlvs(known[0x20][5:])[0x22].decode() == "client Ä"


def test_a_server_name_alone_says_nothing_of_tls() -> None:
    header = announce(2, Announced("192.0.2.1", 1, "192.0.2.2", 2, None, "www.example.com"))
    found = tlvs(header[28:])
    assert found[0x02] == b"www.example.com"
    assert 0x20 not in found


@given(st.text(min_size=200, max_size=400))
def test_no_text_makes_a_header_long(text: str) -> None:
    facts = TlsFacts("TLSv1.2", text, text, text.encode("utf-8", "replace"))
    facts.common_name = text
    header = announce(2, Announced("::1", 1, "::1", 2, facts))
    assert len(header) < 1536
    assert HeaderReader().feed(header) == WHOLE
    tlvs(header[52:])[0x02].decode()  # cut between characters
