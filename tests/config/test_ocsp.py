"""`txlb.config.ocsp`: what may be stapled, until when, and what is said about the rest."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_pem_x509_certificates, ocsp
from support.configuration import loaded, problems
from support.ocsp import DER, HOUR, Responder, delegate, demanding, first_of, stapled, tampered, with_issuer
from support.tls import Authority, spec_of

from txlb.config.effective import effective
from txlb.config.load import loads
from txlb.config.ocsp import must_staple, ocsp_of, stapling_warning
from txlb.core.model import OcspSpec
from txlb.core.scoreboard import Columns
from txlb.core.snapshot import decode_now, encode

CONFIG = """\
listeners:
  - id: web
    bind: "127.0.0.1:8443"
    tls:
      certificates:
        - {chain: %(chain)s, key: %(key)s, ocsp: %(ocsp)s}
backends:
  - {id: web-1, host: 10.0.0.1, port: 80}
routing_rules:
  - backends: [web-1]
"""
PLACE = "listeners[0].tls.certificates[0]"
Make = Callable[[Authority, dict[str, str]], bytes]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> dict[str, str]:
    return with_issuer(authority.certificate("a.example", label="a"), authority)


def read(pair: dict[str, str], data: bytes) -> OcspSpec:
    certificates = load_pem_x509_certificates(Path(pair["chain"]).read_bytes())
    return ocsp_of("a.ocsp", data.decode("latin-1"), pair["chain"], certificates)


def test_what_is_read_is_in_the_spec_and_travels(authority: Authority, pair: dict[str, str]) -> None:
    pair = stapled(pair, authority)
    snapshot = loaded(CONFIG % pair).snapshot
    tls = snapshot.listeners[0].tls
    assert tls is not None
    found = tls.certificates[0].ocsp
    assert found is not None
    data = Path(pair["ocsp"]).read_bytes()
    (single,) = ocsp.load_der_ocsp_response(data).responses
    assert single.next_update_utc is not None
    assert (found.path, found.der.encode("latin-1")) == (pair["ocsp"], data)
    assert (found.begins, found.ends) == (
        single.this_update_utc.timestamp(), single.next_update_utc.timestamp(),
    )  # fmt: skip
    assert decode_now(b"".join(encode(snapshot, Columns.for_snapshot(snapshot))))[0] == snapshot
    assert loads(effective(snapshot).encode(), {}).snapshot == snapshot
    assert found.der not in repr(snapshot)


@pytest.mark.parametrize("named", list(ocsp.OCSPResponderEncoding))
@pytest.mark.parametrize("how", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])
def test_the_issuer_signs_or_whom_it_lets_sign(
    authority: Authority,
    pair: dict[str, str],
    named: ocsp.OCSPResponderEncoding,
    how: hashes.HashAlgorithm,
) -> None:
    for responder in (Responder(authority), delegate(authority)):
        assert read(pair, responder.response(pair, named=named, how=how)).der


def test_a_certificate_may_have_signed_itself(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = {"chain": authority.path, "key": ""}
    assert read(pair, Responder(authority).response(pair)).der
    with pytest.raises(ValueError, match="not signed by the issuer"):
        read(pair, tampered(Responder(authority).response(pair)))


def test_rsa_signs_too(authority: Authority) -> None:
    authority.ca = trustme.CA(key_type=trustme.KeyType.RSA)
    Path(authority.path).write_bytes(authority.ca.cert_pem.bytes())
    pair = with_issuer(authority.certificate("a.example"), authority)
    data = Responder(authority).response(pair)
    assert read(pair, data).der
    with pytest.raises(ValueError, match="not signed by the issuer"):
        read(pair, tampered(data))


def forged(authority: Authority, pair: dict[str, str]) -> bytes:
    return tampered(Responder(authority).response(pair))


def of_another_name(authority: Authority, pair: dict[str, str]) -> bytes:
    """Of an issuer with the same key."""
    responder = Responder(authority)
    (single,) = ocsp.load_der_ocsp_response(responder.response(pair)).responses
    now = datetime.now(UTC)
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        bytes(20), single.issuer_key_hash, single.serial_number, hashes.SHA1(),
        ocsp.OCSPCertStatus.GOOD, now, now + HOUR, None, None,
    )  # fmt: skip
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.mine)
    return builder.sign(responder.key, hashes.SHA256()).public_bytes(DER)


def of_another_key(authority: Authority, pair: dict[str, str]) -> bytes:
    return Responder(Authority(authority.folder, "another")).response(pair)


def for_another(authority: Authority, pair: dict[str, str]) -> bytes:
    return Responder(authority).response(authority.certificate("a.example", label="other"))


def status(said: ocsp.OCSPCertStatus) -> Make:
    return lambda authority, pair: Responder(authority).response(pair, said)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda authority, pair: b"junk", "holds no OCSP response, or a broken one (DER is expected)"),
        (lambda authority, pair: Responder(authority).response(pair)[:-9], "holds no OCSP response"),
        (lambda authority, pair: b"", "holds no OCSP response"),
        (
            lambda authority, pair: ocsp.OCSPResponseBuilder.build_unsuccessful(
                ocsp.OCSPResponseStatus.TRY_LATER
            ).public_bytes(DER),
            "is a responder's refusal: try later",
        ),
        (for_another, "is for another certificate than the first one in {chain}"),
        (of_another_name, "is for another certificate than the first one in {chain}"),
        (of_another_key, "is for another certificate than the first one in {chain}"),
        (status(ocsp.OCSPCertStatus.REVOKED), "says that {chain} is revoked"),
        (status(ocsp.OCSPCertStatus.UNKNOWN), "says that the responder does not know {chain}"),
        (
            lambda authority, pair: Responder(authority).response(pair, ends=None),
            "does not say until when it holds",
        ),
        (forged, "is not signed by the issuer of {chain}"),
        (
            lambda authority, pair: delegate(authority, may_sign=False).response(pair),
            "is not signed by the issuer of {chain}",
        ),
        (lambda authority, pair: bytes(2 << 20), "is longer than 1MiB"),
    ],
)
def test_what_is_of_no_use_is_told_with_file_and_line(
    authority: Authority, pair: dict[str, str], make: Make, said: str
) -> None:
    pair = stapled(pair, authority, make(authority, pair))
    (line,) = problems(CONFIG % pair)
    assert line.startswith("6:")
    assert f"{PLACE}.ocsp: {pair['ocsp']} {said.format(**pair)}" in line


def test_a_file_that_is_not_there(authority: Authority, pair: dict[str, str]) -> None:
    (line,) = problems(CONFIG % {**pair, "ocsp": "none.ocsp"})
    assert f"{PLACE}.ocsp: " in line
    assert "none.ocsp cannot be read: No such file or directory" in line


def test_a_delegate_of_another_issuer_does_not_count(authority: Authority, pair: dict[str, str]) -> None:
    stranger = delegate(Authority(authority.folder, "another"))
    data = Responder(authority, stranger.mine, stranger.key).response(pair)
    with pytest.raises(ValueError, match="not signed by the issuer"):
        read(pair, data)


def test_without_the_issuer_serial_and_its_name_must_do(authority: Authority) -> None:
    pair = authority.certificate("a.example", label="a")
    assert read(pair, forged(authority, pair)).der
    with pytest.raises(ValueError, match="for another certificate"):
        read(pair, for_another(authority, pair))
    with pytest.raises(ValueError, match="for another certificate"):
        read(pair, of_another_name(authority, pair))


@pytest.mark.integration(needs="openssl")
def test_openssls_responder_may_speak_of_others_first(authority: Authority, pair: dict[str, str]) -> None:
    other = authority.certificate("b.example", label="b")
    folder = authority.folder
    (folder / "ca.key").write_bytes(authority.ca.private_key_pem.bytes())
    (folder / "index").write_text(
        "".join(
            f"{letter}\t491231235959Z\t{when}\t{first_of(one).serial_number:040X}\tunknown\t/CN=x\n"
            for letter, when, one in (("R", "200101000000Z", other), ("V", "", pair))
        )
    )
    command = "openssl ocsp -index index -ndays 1 -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem"
    subprocess.run(
        [*command.split(), "-cert", "b.pem", "-cert", "a.pem", "-respout", "both.ocsp"],
        cwd=folder, check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    data = (folder / "both.ocsp").read_bytes()
    assert len(list(ocsp.load_der_ocsp_response(data).responses)) == 2
    assert read(pair, data).der
    with pytest.raises(ValueError, match=r"says that .*b\.pem is revoked"):
        read(other, data)


@pytest.mark.parametrize(("begins", "ends"), [(-48 * HOUR, -HOUR), (HOUR, 48 * HOUR)])
def test_out_of_its_time_it_is_a_warning(
    authority: Authority, pair: dict[str, str], begins: timedelta, ends: timedelta
) -> None:
    pair = stapled(pair, authority, Responder(authority).response(pair, begins=begins, ends=ends))
    result = loaded(CONFIG % pair)
    (warning,) = result.warnings
    assert f"{PLACE}.ocsp: {pair['ocsp']} " in warning
    assert ("expired 1.0 hours ago" if ends < HOUR else "begins to hold in 1.0 hours") in warning
    assert warning.endswith(": nothing is stapled")


def test_the_responders_certificate_may_make_it_shorter(authority: Authority, pair: dict[str, str]) -> None:
    whole = read(pair, delegate(authority).response(pair, ends=8 * HOUR))
    short = read(pair, delegate(authority, ends=2 * HOUR).response(pair, ends=8 * HOUR))
    assert whole.ends - whole.begins == 9 * 3600
    assert short.ends - short.begins < 4 * 3600
    late = read(pair, delegate(authority, begins=HOUR).response(pair, ends=8 * HOUR))
    assert late.ends - late.begins < 8 * 3600


def test_it_is_current_from_its_beginning_to_before_its_end() -> None:
    spec = OcspSpec("a.ocsp", "x", 100.0, 200.0)
    assert [spec.is_current(now) for now in (99.9, 100.0, 199.9, 200.0)] == [False, True, True, False]
    assert not OcspSpec("a.ocsp").is_current(0.0)


def test_what_is_said_as_time_goes_by(authority: Authority, pair: dict[str, str]) -> None:
    (one,) = spec_of(pair).certificates
    assert stapling_warning(one, 0.0) == ""
    one = replace(one, ocsp=OcspSpec("a.ocsp", "x", 0.0, 100 * 3600.0))
    assert stapling_warning(one, 74 * 3600.0) == ""
    assert stapling_warning(one, 76 * 3600.0).startswith("a.ocsp holds for 24.0 hours more")
    assert stapling_warning(one, 103 * 3600.0) == "a.ocsp expired 3.0 hours ago: nothing is stapled"
    one = replace(one, ocsp=OcspSpec("a.ocsp"))
    assert stapling_warning(one, 0.0) == f"a.ocsp does not fit {one.chain}: nothing is stapled"


def test_a_certificate_that_demands_stapling_is_told_what_it_lacks(authority: Authority) -> None:
    pair = demanding(authority, "a.example", "a")
    assert must_staple(first_of(pair))
    assert not must_staple(first_of(authority.certificate("b.example")))
    (warning,) = loaded(CONFIG.replace(", ocsp: %(ocsp)s", "") % pair).warnings
    assert f"{PLACE}.chain: {pair['chain']} demands OCSP stapling: clients refuse it without ocsp" in warning
    pair = stapled(pair, authority)
    assert loaded(CONFIG % pair).warnings == ()
    stapled(pair, authority, Responder(authority).response(pair, ends=-HOUR / 2))
    (warning,) = loaded(CONFIG % pair).warnings
    assert f"nothing is stapled, and clients refuse {pair['chain']}, which demands it" in warning


def test_backends_do_not_ask_a_client_for_it(authority: Authority) -> None:
    pair = demanding(authority, "a.example", "a")
    text = f"""\
        listeners:
          - {{id: web, bind: "127.0.0.1:8443"}}
        backends:
          - {{id: web-1, host: 10.0.0.1, port: 80, tls: {{client_certificate: {{chain: {pair["chain"]},
              key: {pair["key"]}}}}}}}
        routing_rules:
          - backends: [web-1]
    """
    assert loaded(text).warnings == ()
