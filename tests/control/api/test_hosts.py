"""`txlb.control.api.hosts`: the Host and Origin matrix."""

from __future__ import annotations

import pytest

from txlb.control.api.hosts import host_allowed, host_of, origins_allowed, split_target

ALLOWED = ["lb.internal"]
GOOD = ["localhost", "LOCALHOST:9900", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:9900", "10.0.0.5",
        "10.0.0.5:9900", "lb.internal", "LB.internal:9900"]  # fmt: skip
BAD = ["", "evil.test", "127.evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.6", "[::1",
       "[::1]x", "[::1]:x", "a:b:c", "127.0.0.1:x", "127.1", "0x7f000001", "2130706433",
       "lb.internal.evil.test", "evil.test#localhost",       "user@localhost", "localhost."]  # fmt: skip


@pytest.mark.parametrize("host", GOOD)
def test_these_are_allowed(host: str):
    assert host_allowed(host, "10.0.0.5", ALLOWED)
    assert origins_allowed([f"http://{host}"], "10.0.0.5", ALLOWED)
    assert origins_allowed([f"https://{host}"], "10.0.0.5", ALLOWED)


@pytest.mark.parametrize("host", BAD)
def test_these_are_not(host: str):
    assert not host_allowed(host, "10.0.0.5", ALLOWED)
    assert not origins_allowed([f"http://{host}"], "10.0.0.5", ALLOWED)


@pytest.mark.parametrize("origin", ["null", "", "localhost", "file://", "ftp://localhost", "http://"])
def test_other_origins_are_not(origin: str):
    assert not origins_allowed([origin], "127.0.0.1", ALLOWED)
    assert not origins_allowed(["http://localhost", origin], "127.0.0.1", ALLOWED)


def test_on_a_unix_socket_any_host_and_no_origin():
    assert host_allowed("anything", "", ())
    assert origins_allowed([], "", ())
    assert not origins_allowed(["http://localhost"], "", ())


def test_ports_and_brackets_are_taken_off():
    assert [host_of(one) for one in ("A:1", "[::1]:2", " b ", "[x")] == ["a", "::1", "b", ""]


@pytest.mark.parametrize(
    ("target", "authority", "path"),
    [
        (b"/", None, b"/"),
        (b"/a?b=http://c/", None, b"/a?b=http://c/"),
        (b"//a/b", None, b"//a/b"),
        (b"*", None, b"*"),
        (b"http://a:1/b?c", b"a:1", b"/b?c"),
        (b"HTTPS://[::1]:9//b", b"[::1]:9", b"//b"),
        (b"http://a", b"a", b"/"),
        (b"http://a?b/c", b"a", b"/?b/c"),
    ],
)
def test_a_target_is_a_path_or_the_url_of_one(target: bytes, authority: bytes | None, path: bytes):
    assert split_target(target) == (authority, path)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"health",
        b"a:9900",
        b"ftp://a/",
        b"http:/a",
        b"http:///a",
        b"http://u:p@a/",
        b"http://a#b",
        b"**",
    ],
)
def test_other_targets_are_none(target: bytes):
    with pytest.raises(ValueError, match="target"):
        split_target(target)
