from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.choosing import Asking

from txlb.core.algorithms import hash_key as module
from txlb.core.algorithms.hash_key import (
    MISSING,
    REMEMBERED,
    HashKey,
    cookie_in,
    network_of,
    number_of,
    parse_hash_key,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("client_ip", "client_ip"),
        ("CLIENT_IP", "client_ip"),
        ("client-ip", "client_ip"),
        ("path", "path"),
        ("header:X-User", "header:x-user"),
        ("Header: X-User", "header:x-user"),
        ("cookie:Session", "cookie:Session"),
    ],
)
def test_spellings(text: str, canonical: str) -> None:
    assert parse_hash_key(text) == canonical
    assert parse_hash_key(canonical) == canonical


@pytest.mark.parametrize(
    "text", ["", "ip", "header", "header:", "cookie: ", "header:a b", "path:x", "client_ip:", "header:é"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be client_ip, header:NAME, cookie:NAME or path"):
        HashKey(text)


@pytest.mark.parametrize("prefixes", [(0, 64), (33, 64), (32, 0), (32, 129)])
def test_prefixes_have_bounds(prefixes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no such prefixes"):
        HashKey("client_ip", *prefixes)


def of(key: HashKey, **facts: str) -> int:
    return key.of(Asking(**facts))


def test_one_household_is_one_client() -> None:
    key = HashKey()
    assert of(key, client_ip="2001:db8::1") == of(key, client_ip="2001:db8:0:0:ffff::2")
    assert of(key, client_ip="2001:db8::1") != of(key, client_ip="2001:db8:0:1::1")
    assert of(key, client_ip="192.0.2.1") != of(key, client_ip="192.0.2.2")
    wide = HashKey("client_ip", 24, 48)
    assert of(wide, client_ip="192.0.2.1") == of(wide, client_ip="192.0.2.2")
    assert of(wide, client_ip="192.0.2.1") != of(wide, client_ip="192.0.3.1")
    assert of(wide, client_ip="2001:db8::1") == of(wide, client_ip="2001:db8:0:1::1")


@pytest.mark.parametrize("prefix", [32, 24])
def test_an_ipv4_address_is_the_same_in_ipv6_clothes(prefix: int) -> None:
    plain = network_of("192.0.2.1", prefix, 64)
    assert network_of("::ffff:192.0.2.1", prefix, 64) == plain
    assert network_of("::ffff:c000:201", prefix, 64) == plain


def test_zones_do_not_matter_and_no_address_is_just_text() -> None:
    assert network_of("fe80::1%eth0", 32, 64) == network_of("fe80::1%wlan0", 32, 64)
    assert network_of("nowhere", 24, 64) == "nowhere"
    assert network_of("a:b", 32, 64) == "a:b"


def test_headers_cookies_and_paths() -> None:
    assert of(HashKey("header:X-User"), x_user="ann") == number_of("ann")
    assert of(HashKey("path"), path="/a") == number_of("/a")
    assert of(HashKey("cookie:id"), cookie="x=1; id=ann; y=2") == number_of("ann")


@pytest.mark.parametrize(
    "key", [HashKey("header:x"), HashKey("cookie:x"), HashKey("path"), HashKey("client_ip")]
)
def test_absent_or_empty_is_missing(key: HashKey) -> None:
    assert key.of(Asking(client_ip="", path=None)) == MISSING
    assert of(key, client_ip="", path="", x="", cookie="x=; y=1") == MISSING


@pytest.mark.parametrize(
    ("field", "value"),
    [("id=1", "1"), (" id = 1 ;id=2", "1"), ("idx=1;xid=2", ""), ("id", ""), ("a;id=b=c", "b=c")],
)
def test_cookies(field: str, value: str) -> None:
    assert cookie_in(field, "id") == value


@given(st.text(max_size=200))
def test_numbers_have_32_bits_and_are_remembered_right(text: str) -> None:
    key = HashKey("path")
    if text:
        assert 0 <= of(key, path=text) < 1 << 32
        assert of(key, path=text) == of(key, path=text) == number_of(text)


def test_what_is_remembered_is_bounded() -> None:
    key = HashKey("path")
    for number in range(3 * REMEMBERED):
        key.of(Asking(path=f"/{number}"))
    key.of(Asking(path="/" * (module.LONGEST + 1)))
    remembered = len(key._young) + len(key._old)
    assert REMEMBERED <= remembered <= 2 * REMEMBERED
    assert not any(len(text) > module.LONGEST for text in [*key._young, *key._old])


def test_the_numbers_are_those_of_keyed_blake2b() -> None:
    """Written down once: hash() differs from process to process."""
    assert [number_of(text) for text in ("192.0.2.1", "ann", "/")] == [866765147, 148860074, 549944869]
