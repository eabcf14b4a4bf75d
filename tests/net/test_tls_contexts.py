"""`txlb.net.tls_contexts`: who gets which certificate, under which rule, and which sessions are taken up."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from support.handshakes import client_of, shake
from support.ocsp import HOUR, Responder, stapled
from support.tls import Authority, spec_of

from txlb.net.tls import Handshake
from txlb.net.tls_contexts import ServerTls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def others(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "others")


versions = pytest.mark.parametrize("version", ["1.2", "1.3"])


def test_exact_then_wildcard_of_one_label_then_the_first(authority: Authority) -> None:
    server = ServerTls(
        spec_of(
            authority.certificate("first.example"),
            authority.certificate("*.example.com"),
            authority.certificate("www.example.com"),
        ),
        "web",
        True,
    )
    client = client_of()
    for asked, got in {
        "first.example": "first.example",
        "WWW.example.com": "www.example.com",
        "mail.example.com": "*.example.com",
        "a.b.example.com": "first.example",
        "example.com": "first.example",
        "other.example": "first.example",
        None: "first.example",
    }.items():
        assert shake(server, asked, client).names == (got,), asked


@versions
def test_unknown_names_are_refused_where_that_is_wanted(authority: Authority, version: str) -> None:
    server = ServerTls(spec_of(authority.certificate("a.example"), unknown_name="refuse"), "web", True)
    client = client_of(version)
    assert shake(server, "a.example", client).through
    assert not shake(server, "b.example", client).through
    assert not shake(server, None, client).through


@versions
def test_rsa_and_ecdsa_side_by_side_each_with_its_own_chain(authority: Authority, version: str) -> None:
    second = Authority(authority.folder, "second")
    spec = spec_of(
        authority.certificate("a.example", kind="rsa"), second.certificate("a.example", kind="ec", label="e")
    )
    server = ServerTls(spec, "web", True)
    assert "EC" in shake(server, "a.example", client_of(version)).key
    if version == "1.2":
        only_rsa = client_of(version, ciphers=b"ECDHE-RSA-AES128-GCM-SHA256")
        assert "RSA" in shake(server, "a.example", only_rsa).key


@versions
def test_sessions_are_resumed(authority: Authority, version: str) -> None:
    server = ServerTls(spec_of(authority.certificate("a.example")), "web", True)
    client = client_of(version)
    first = shake(server, "a.example", client)
    assert not first.resumed
    assert shake(server, "a.example", client, first.session).resumed


@versions
def test_another_generation_knows_no_old_session(authority: Authority, version: str) -> None:
    spec = spec_of(authority.certificate("a.example"))
    client = client_of(version)
    first = shake(ServerTls(spec, "web", True), "a.example", client)
    again = shake(ServerTls(spec, "web", True), "a.example", client, first.session)
    assert again.through
    assert not again.resumed


@versions
def test_a_certificate_is_demanded_for_all_names(
    authority: Authority, others: Authority, version: str
) -> None:
    spec = spec_of(
        authority.certificate("a.example"), authority.certificate("b.example"), client_ca=authority.path
    )
    server = ServerTls(spec, "web", True)
    good = client_of(version, authority.certificate("me", label="me"))
    bad = client_of(version, others.certificate("me", label="bad"))
    for name in ("a.example", "b.example", "c.example", None):
        assert not shake(server, name, client_of(version)).through
        assert not shake(server, name, bad).through
        assert shake(server, name, good).shown
    first = shake(server, "a.example", good)
    again = shake(server, "a.example", good, first.session)
    assert again.resumed
    assert again.shown  # the session remembers it


@versions
def test_optional_takes_none_but_no_bad_one(authority: Authority, others: Authority, version: str) -> None:
    spec = spec_of(authority.certificate("a.example"), client_ca=authority.path, client_auth="optional")
    server = ServerTls(spec, "web", True)
    assert shake(server, "a.example", client_of(version)).through
    assert not shake(server, "a.example", client_of(version, others.certificate("me", label="bad"))).through
    assert shake(server, "a.example", client_of(version, authority.certificate("me", label="me"))).shown


@versions
@pytest.mark.parametrize("order", ["public first", "private first"])
def test_no_way_around_a_rule_by_name_or_session(
    authority: Authority, others: Authority, version: str, order: str
) -> None:
    public = authority.certificate("public.example")
    private = {**authority.certificate("private.example"), "client_ca": authority.path}
    elsewhere = {**authority.certificate("else.example"), "client_ca": others.path}
    pairs = [public, private, elsewhere] if order == "public first" else [private, public, elsewhere]
    server = ServerTls(spec_of(*pairs), "web", True)
    bare = client_of(version)
    assert shake(server, "public.example", bare).through
    assert not shake(server, "private.example", bare).through
    assert not shake(server, "else.example", bare).through
    assert shake(server, None, bare).through == (order == "public first")
    session = shake(server, "public.example", bare).session
    assert shake(server, "public.example", bare, session).resumed
    for name in ("private.example", "else.example"):
        again = shake(server, name, bare, session)
        # In 1.2 a session brings its own name along: the client is where it was before.
        assert not again.through or server.realms[again.realm].ca == ""
    # A certificate that is good here is not good there, session or not.
    mine = client_of(version, authority.certificate("me", label="me"))
    inside = shake(server, "private.example", mine)
    assert inside.shown
    assert not shake(server, "else.example", mine, inside.session).through
    assert not shake(server, "private.example", mine, inside.session).resumed


def test_names_know_their_rule(authority: Authority) -> None:
    private = {**authority.certificate("private.example", "*.private.example"), "client_ca": authority.path}
    server = ServerTls(spec_of(authority.certificate("a.example"), private), "web", True)
    again = ServerTls(spec_of(private), "web", True)
    assert server.realm_of("a.example").key == server.realm_of("unknown.example").key == ""
    assert server.realm_of("x.private.example").key == again.realm_of("private.example").key != ""
    assert server.asks_clients()


@versions
def test_another_response_costs_nobody_a_session(authority: Authority, version: str) -> None:
    pairs = [
        stapled(authority.certificate("a.example"), authority),
        stapled(authority.certificate("b.example"), authority),
    ]
    before = spec_of(*pairs)
    server = ServerTls(before, "web", True)
    client = client_of(version)
    first = shake(server, "b.example", client, status=True)
    new = Responder(authority).response(pairs[1], ends=99 * HOUR)
    pairs[1] = stapled(pairs[1], authority, new)
    after = spec_of(*pairs)
    assert after != before
    assert server.takes(after)
    assert server.spec == after
    assert shake(server, "b.example", client, first.session).resumed
    assert first.stapled != new
    assert shake(server, "b.example", client_of(version), status=True).stapled == new
    assert shake(server, "a.example", client_of(version), status=True).stapled not in (new, b"")


def test_anything_else_needs_other_contexts(authority: Authority) -> None:
    pair = authority.certificate("a.example")
    both = stapled(pair, authority)
    server = ServerTls(spec_of(both), "web", True)
    for other in (
        spec_of(pair),
        spec_of({**both, "client_ca": authority.path}),
        spec_of(both, min_version="1.3"),
        spec_of(both, authority.certificate("b.example")),
    ):
        assert not server.takes(other)
        assert server.spec == spec_of(both)
    assert server.takes(spec_of(both))


def test_alpn_never_ends_a_handshake(authority: Authority) -> None:
    spec = spec_of(authority.certificate("a.example"), authority.certificate("b.example"))
    for http, offered, got in (
        (True, [b"h2", b"http/1.1"], b"http/1.1"),
        (True, [b"h2"], b""),
        (False, [b"h2", b"http/1.1"], b""),
    ):
        server = ServerTls(spec, "web", http)
        for name in ("a.example", "b.example"):
            outcome = shake(server, name, client_of(), alpn=offered)
            assert (outcome.through, outcome.alpn) == (True, got)


def test_old_versions_and_weak_ciphers_are_not_spoken(authority: Authority) -> None:
    server = ServerTls(spec_of(authority.certificate("a.example", kind="rsa")), "web", True)
    for weak in (b"AES128-GCM-SHA256", b"ECDHE-RSA-AES128-SHA256", b"ECDHE-RSA-AES256-SHA"):
        assert not shake(server, "a.example", client_of("1.2", ciphers=weak)).through
    strict = ServerTls(spec_of(authority.certificate("a.example"), min_version="1.3"), "web", True)
    assert not shake(strict, "a.example", client_of("1.2")).through
    assert shake(strict, "a.example", client_of("1.3")).through


def test_the_clients_library_agrees(authority: Authority) -> None:
    """The chain that is sent is one that another OpenSSL verifies."""
    server = ServerTls(spec_of(authority.certificate("a.example")), "web", True)
    near, far = socket.socketpair()
    with (
        near,
        authority.client().wrap_socket(
            far, server_hostname="a.example", do_handshake_on_connect=False
        ) as tls,
    ):
        near.setblocking(False)
        tls.setblocking(False)
        handshake = Handshake(server.connection(near))
        for _ in range(4):
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            handshake.step()
        tls.do_handshake()
        assert tls.version() == "TLSv1.3"
