from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.core.http.target import MAX_HOST, TARGET, normal_host, split_absolute


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"example.com", b"example.com"),
        (b"EXAMPLE.com", b"example.com"),
        (b"example.com:8080", b"example.com"),
        (b"example.com:", b"example.com"),
        (b"example.com.", b"example.com"),
        (b"example.com.:80", b"example.com"),
        (b"a_b-c.d", b"a_b-c.d"),
        (b"192.0.2.1:65535", b"192.0.2.1"),
        (b"a:0", b"a"),
        (b"[::1]", b"[::1]"),
        (b"[2001:DB8::1]:443", b"[2001:db8::1]"),
        (b"[::ffff:192.0.2.1]", b"[::ffff:192.0.2.1]"),
        (b"a" * MAX_HOST, b"a" * MAX_HOST),
    ],
)
def test_a_host_is_compared_in_lower_case_without_port_and_final_dot(value: bytes, host: bytes) -> None:
    assert normal_host(value) == host


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b":80",
        b".",
        b"..",
        b"a..",
        b".a",
        b"a:65536",
        b"a:123456",
        b"a:x",
        b"a:-1",
        b"a:+1",
        b"a:8 0",
        b"a:80:80",
        b"u@a",
        b"u:p@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"a b",
        b"a,b",
        b"a%41",
        b"\xc3\xa4",
        b"a;b",
        b"a'b",
        b"(a)",
        b"[::1",
        b"::1",
        b"[]",
        b"[:]",
        b"[::1]80",
        b"[::1]:x",
        b"[::1]a",
        b"[1.2.3.4]",
        b"[::g]",
        b"[fe80::1%eth0]",
        b"[:::]",
        b"[1:2:3]",
        b"[::1]:99999",
        b"[v1.a:b]",
        b"[[::1]]",
        b"a" * (MAX_HOST + 1),
        b"a" * 1000,
        b"<script>",
        b"a\tb",
        b"a\x00",
    ],
)
def test_anything_else_is_no_host(value: bytes) -> None:
    assert normal_host(value) is None


@given(st.binary(max_size=40))
def test_hosts_no_bytes_raise_and_the_normal_form_is_normal(value: bytes) -> None:
    for candidate in (value, b"[" + value + b"]", b"a:" + value):
        host = normal_host(candidate)
        if host is not None:
            assert normal_host(host) == host


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://a/b?c", (b"a", b"/b?c")),
        (b"HTTP://a/", (b"a", b"/")),
        (b"hTTps://a:1/b", (b"a:1", b"/b")),
        (b"http://a", (b"a", b"")),
        (b"http://a?b/c", (b"a", b"/?b/c")),
        (b"http://a/b?c/d?e", (b"a", b"/b?c/d?e")),
        (b"http://u@a/", (b"u@a", b"/")),
        (b"http:///b", (b"", b"/b")),
        (b"http://a//b/../c", (b"a", b"//b/../c")),
    ],
)
def test_an_absolute_form_target_is_split(target: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_absolute(target) == parts


@pytest.mark.parametrize(
    "target", [b"ftp://a/", b"a", b"a:80", b"http:/a", b"http:a", b"http", b"*", b"//a/b", b"ws://a"]
)
def test_other_forms_are_not(target: bytes) -> None:
    assert split_absolute(target) is None


def test_targets_are_visible_ascii_without_a_fragment() -> None:
    allowed = bytes(c for c in range(256) if TARGET[c])
    assert allowed == bytes(c for c in range(0x21, 0x7F) if c != ord("#"))
