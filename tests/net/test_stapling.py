"""`txlb.net.stapling`: who is shown which response, and until when; in handshakes that OpenSSL makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from support.handshakes import client_of, shake
from support.ocsp import HOUR, Responder, signed, stapled
from support.tls import Authority, spec_of

from txlb.core.model import TlsSpec
from txlb.net.stapling import Stapling
from txlb.net.tls_contexts import ServerTls

versions = pytest.mark.parametrize("version", ["1.2", "1.3"])


class Clock:
    """POSIX time, and how often somebody looked at it."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


def at(spec: TlsSpec, place: int = 0, after: float = 1.0) -> Clock:
    """So many seconds after the response at that place began to hold."""
    response = spec.certificates[place].ocsp
    assert response is not None
    return Clock(response.begins + after)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def data(pair: dict[str, str]) -> bytes:
    return Path(pair["ocsp"]).read_bytes()


@versions
@pytest.mark.parametrize("first", ["with", "without"])
def test_each_name_has_its_own_or_none(authority: Authority, version: str, first: str) -> None:
    one = stapled(authority.certificate("one.example"), authority)
    two = stapled(authority.certificate("two.example"), authority)
    none = authority.certificate("none.example")
    spec = spec_of(*((one, two, none) if first == "with" else (none, one, two)))
    server = ServerTls(spec, "web", True, at(spec, 0 if first == "with" else 1, 7200))
    for name, wanted in (("one.example", data(one)), ("two.example", data(two)), ("none.example", b"")):
        outcome = shake(server, name, client_of(version), status=True)
        assert (outcome.names, outcome.stapled) == ((name,), wanted)
    unknown = shake(server, "other.example", client_of(version), status=True)
    assert unknown.stapled == (data(one) if first == "with" else b"")


@versions
def test_who_does_not_ask_is_not_even_looked_at(authority: Authority, version: str) -> None:
    pair = stapled(authority.certificate("a.example"), authority)
    spec = spec_of(pair)
    clock = at(spec)
    server = ServerTls(spec, "web", True, clock)
    assert shake(server, "a.example", client_of(version)).through
    assert clock.looks == 0
    assert shake(server, "a.example", client_of(version), status=True).stapled == data(pair)
    assert clock.looks == 1


@versions
def test_only_while_it_holds(authority: Authority, version: str) -> None:
    pair = authority.certificate("a.example")
    pair = stapled(pair, authority, Responder(authority).response(pair, begins=-HOUR, ends=HOUR))
    spec = spec_of(pair)
    for after, wanted in ((-1.0, b""), (0.0, data(pair)), (7199.0, data(pair)), (7200.0, b"")):
        server = ServerTls(spec, "web", True, at(spec, after=after))
        outcome = shake(server, "a.example", client_of(version), status=True)
        assert (outcome.through, outcome.stapled) == (True, wanted), after


@versions
def test_of_rsa_and_ecdsa_the_one_that_is_shown(authority: Authority, version: str) -> None:
    rsa = stapled(authority.certificate("a.example", kind="rsa"), authority)
    ec = stapled(authority.certificate("a.example", kind="ec"), authority)
    spec = spec_of(rsa, ec)
    server = ServerTls(spec, "web", True, at(spec, after=7200))
    assert shake(server, "a.example", client_of(version), status=True).stapled == data(ec)
    only_rsa = b"ECDHE-RSA-AES128-GCM-SHA256"
    if version == "1.2":
        found = shake(server, "a.example", client_of(version, ciphers=only_rsa), status=True)
        assert found.stapled == data(rsa)
        rsa.pop("ocsp")
        spec = spec_of(rsa, ec)
        server = ServerTls(spec, "web", True, at(spec, 1, 7200))
        assert shake(server, "a.example", client_of(version), status=True).stapled == data(ec)
        found = shake(server, "a.example", client_of(version, ciphers=only_rsa), status=True)
        assert (found.through, found.stapled) == (True, b"")


def test_of_two_certificates_each_gets_its_new_one(authority: Authority) -> None:
    rsa = stapled(authority.certificate("a.example", kind="rsa"), authority)
    ec = stapled(authority.certificate("a.example", kind="ec"), authority)
    spec = spec_of(rsa, ec)
    server = ServerTls(spec, "web", True, at(spec, after=7200))
    for pair in (rsa, ec):
        stapled(pair, authority, Responder(authority).response(pair, ends=99 * HOUR))
    assert server.takes(spec_of(rsa, ec))
    assert shake(server, "a.example", client_of("1.2"), status=True).stapled == data(ec)
    only_rsa = client_of("1.2", ciphers=b"ECDHE-RSA-AES128-GCM-SHA256")
    assert shake(server, "a.example", only_rsa, status=True).stapled == data(rsa)


@versions
def test_with_a_session_there_is_no_certificate_to_speak_of(authority: Authority, version: str) -> None:
    pair = stapled(authority.certificate("a.example"), authority)
    spec = spec_of(pair)
    server = ServerTls(spec, "web", True, at(spec))
    client = client_of(version)
    first = shake(server, "a.example", client, status=True)
    again = shake(server, "a.example", client, first.session, status=True)
    assert (first.resumed, again.resumed, again.through) == (False, True, True)


def test_an_ed25519_certificate_has_its_own(authority: Authority) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    ed = stapled(signed(authority, "a.example", key, "ed"), authority)
    rsa = stapled(authority.certificate("a.example", kind="rsa"), authority)
    spec = spec_of(ed, rsa)
    assert spec.certificates[0].kind == "ed25519"
    server = ServerTls(spec, "web", True, at(spec, after=7200))
    outcome = shake(server, "a.example", client_of("1.3"), status=True)
    assert (outcome.key, outcome.stapled) == ("Ed25519PublicKey", data(ed))
    only_rsa = client_of("1.2", ciphers=b"ECDHE-RSA-AES128-GCM-SHA256")
    assert shake(server, "a.example", only_rsa, status=True).stapled == data(rsa)


def test_without_responses_it_has_none(authority: Authority) -> None:
    spec = spec_of(authority.certificate("a.example"))
    assert Stapling(spec.certificates, Clock(0.0)).response(None, None) == b""
    assert ServerTls(spec, "web", True).staplings == []
