from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txlb.config import addresses


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("0.0.0.0:8080", "0.0.0.0:8080"),
        ("[::]:80", "[::]:80"),
        ("[0:0::1]:80", "[::1]:80"),
        ("localhost:80", "127.0.0.1:80"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ],
)
def test_binds(text: str, bind: str) -> None:
    assert addresses.parse_bind(text) == bind


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (8080, "write 0.0.0.0:8080"),
        ("*:80", "write 0.0.0.0:80 (all of IPv4) or [::]:80"),
        (":80", "write 0.0.0.0:80"),
        ("::1:80", "needs brackets"),
        ("[::1]", "is not a port"),
        ("10.0.0.1", "lacks a port"),
        ("10.0.0.1:http", "is not a port"),
        ("10.0.0.1:65536", "is not a port"),
        ("10.0.0.1:080", "is not a port"),
        ("example.com:80", "is not an IP address"),
        ("[10.0.0.1]:80", "is not an IP address"),
        ("[fe80::1%eth0]:80", "is not an IP address"),
        ("[::ffff:10.0.0.1]:80", "is not an IP address"),
        ("unix:/run/lb.sock", "is not supported yet here: write host:port"),
        ("systemd:web", "is not supported yet here: write host:port"),
        ("tcp:8080", "write only host:port"),
        (None, "must be an address"),
        (["x"], "must be an address"),
    ],
)
def test_what_is_no_bind_says_what_to_write(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        addresses.parse_bind(value)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("[::]:80", "[::]:80"),
        ("unix:/run/txlb/web.sock", "unix:/run/txlb/web.sock"),
        ("unix://run/./txlb//web.sock", "unix:/run/txlb/web.sock"),
        ("systemd:web.socket", "systemd:web.socket"),
    ],
)
def test_binds_of_listeners(text: str, bind: str) -> None:
    assert addresses.parse_listener_bind(text) == bind


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (8080, "write 0.0.0.0:8080"),
        ("unix:web.sock", "the path must be absolute"),
        ("unix:", "the path must be absolute"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("unix:/a\0b", "is no path for a socket"),
        ("systemd:", "write systemd:NAME"),
        ("systemd:a:b", "write systemd:NAME"),
        ("systemd:a b", "write systemd:NAME"),
    ],
)
def test_what_is_no_bind_of_a_listener_says_what_to_write(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        addresses.parse_listener_bind(value)


def test_a_bind_splits() -> None:
    assert addresses.split_bind("[::1]:80") == ("::1", 80)
    assert addresses.split_bind("10.0.0.1:0") == ("10.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("FD00:0::1", "fd00::1"),
        ("[::1]", "::1"),
        ("Web_1.Example.COM", "web_1.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_hosts_of_backends(text: str, host: str) -> None:
    assert addresses.parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.256", "is not an IP address"),
        ("10.0.1", "is not an IP address"),
        ("10.0.0.1:80", "holds a port"),
        ("http://web", "is a URL"),
        ("bücher.example", "xn--"),
        ("a..b", "is not a host name"),
        ("a b", "is not a host name"),
        ("-a", "is not a host name"),
        ("a\n", "is not a host name"),
        ("example.com.", "the dot at the end"),
        ("x" * 64, "is not a host name"),
        (".".join(["x" * 60] * 5), "is not a host name"),
        ("", "is not a host name"),
        ("*.example.com", "is not a host name"),
    ],
)
def test_what_is_no_host_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        addresses.parse_host(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("API.example.com", "api.example.com"),
        ("*.Example.com", "*.example.com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[0::1]", "[::1]"),
    ],
)
def test_hosts_of_rules(text: str, host: str) -> None:
    assert addresses.parse_rule_host(text) == host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*", "leave host out"),
        ("a.*.com", "whole first label"),
        ("*example.com", "whole first label"),
        ("*.*.com", "is not a host name"),
        ("example.com:80", "without scheme or port"),
        ("::1", "in brackets"),
        ("[10.0.0.1]", "is not an IPv6 address"),
        ("bücher.example", "xn--"),
    ],
)
def test_what_no_host_field_can_match_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        addresses.parse_rule_host(text)


def test_networks() -> None:
    assert addresses.parse_network("10.0.0.0/8") == "10.0.0.0/8"
    assert addresses.parse_network("10.1.2.3") == "10.1.2.3/32"
    assert addresses.parse_network("FD00::/8") == "fd00::/8"
    with pytest.raises(ValueError, match=re.escape("write 10.0.0.0/8, or 10.0.0.1 alone")):
        addresses.parse_network("10.0.0.1/8")
    for wrong in ("10.0.0.0/33", "example.com", "", "10.0.0.0/8/8"):
        with pytest.raises(ValueError, match="is not a network"):
            addresses.parse_network(wrong)


def test_path_prefixes() -> None:
    assert addresses.parse_path_prefix("/api") == "/api"
    assert addresses.parse_path_prefix("/api/") == "/api"
    assert addresses.parse_path_prefix("/a%20b/~x") == "/a%20b/~x"
    assert addresses.parse_path_prefix("/") == "/"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("api", "must start with /"),
        ("", "must start with /"),
        ("/a?b", "a query"),
        ("/a#b", "a fragment"),
        ("/a/*", "a wildcard"),
        ("/a b", "%20"),
        ("/ä", "%20"),
        ("/a\n", "%20"),
        ("/a//b", "empty segment"),
        ("/" + "a" * 2048, "longer"),
    ],
)
def test_what_no_path_starts_with_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        addresses.parse_path_prefix(text)


PARSERS = [
    addresses.parse_bind,
    addresses.parse_host,
    addresses.parse_rule_host,
    addresses.parse_network,
    addresses.parse_path_prefix,
]


@given(st.sampled_from(PARSERS), st.text(max_size=40) | st.text("0123456789.:[]/*%abf-", max_size=30))
def test_normal_forms_are_stable(parse: Callable[[object], str], text: str) -> None:
    try:
        once = parse(text)
    except ValueError:
        return
    assert parse(once) == once
    assert once.isascii()
    assert once.isprintable()
