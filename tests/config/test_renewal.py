"""`txlb.config.renewal`: what is read again comes into force or leaves things as they are, and says which."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ocsp import HOUR, Responder, demanding, stapled, tampered, with_issuer
from support.tls import Authority, spec_of

from txlb.config.certificates import read_text
from txlb.config.renewal import reread_listener
from txlb.core.model import CertificateSpec, OcspSpec, TlsSpec


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def read(name: str) -> str:
    return read_text(Path(name))


def again(spec: TlsSpec) -> tuple[TlsSpec, list[str]]:
    said: list[str] = []
    return reread_listener(spec, read, said.append), said


def response_in(one: CertificateSpec) -> OcspSpec:
    assert one.ocsp is not None
    return one.ocsp


def test_files_are_read_again_by_content(authority: Authority) -> None:
    pair = authority.certificate("a.example", label="a")
    spec = spec_of(pair, client_ca=authority.path)
    assert again(spec)[0] is spec
    authority.certificate("b.example", label="a")
    fresh, _ = again(spec)
    assert fresh.certificates[0].names == ("b.example",)
    assert fresh.client_ca_pem == spec.client_ca_pem
    other = authority.certificate("c.example", label="c")
    Path(pair["key"]).write_bytes(Path(other["key"]).read_bytes())
    with pytest.raises(ValueError, match="is not the key"):
        again(spec)


def test_a_new_response_is_taken_up(authority: Authority) -> None:
    pair = stapled(with_issuer(authority.certificate("a.example"), authority), authority)
    spec = spec_of(pair)
    assert again(spec)[0] is spec
    stapled(pair, authority, Responder(authority).response(pair, ends=99 * HOUR))
    fresh, said = again(spec)
    assert said == []
    assert response_in(fresh.certificates[0]).ends > response_in(spec.certificates[0]).ends


def test_a_bad_response_leaves_the_one_before_and_holds_up_nothing(authority: Authority) -> None:
    pair = stapled(with_issuer(authority.certificate("a.example"), authority), authority)
    spec = spec_of(pair, authority.certificate("b.example", label="b"))
    good = Path(pair["ocsp"]).read_bytes()
    for bad, why in (
        (b"<html>", "holds no OCSP response"),
        (tampered(good), "is not signed by the issuer"),
        (None, "cannot be read"),
    ):
        if bad is None:
            Path(pair["ocsp"]).unlink()
        else:
            stapled(pair, authority, bad)
        same, said = again(spec)
        assert same is spec
        (line,) = said
        assert why in line
        assert line.endswith("; what was read before stays in force")
    stapled(pair, authority, b"<html>")
    authority.certificate("c.example", label="b")
    fresh, _ = again(spec)
    assert fresh.certificates[0] == spec.certificates[0]
    assert fresh.certificates[1].names == ("c.example",)


def test_a_new_certificate_waits_for_no_response(authority: Authority) -> None:
    pair = stapled(with_issuer(authority.certificate("a.example", label="a"), authority), authority)
    spec = spec_of(pair)
    with_issuer(authority.certificate("b.example", label="a"), authority)
    fresh, said = again(spec)
    assert fresh.certificates[0].names == ("b.example",)
    assert fresh.certificates[0].ocsp == OcspSpec(pair["ocsp"])
    assert said == [
        f"{pair['ocsp']} is for another certificate than the first one in {pair['chain']}; nothing is stapled"
    ]
    assert again(fresh) == (fresh, said)
    stapled(pair, authority)
    assert response_in(again(fresh)[0].certificates[0]).der


def test_unless_it_demands_one(authority: Authority) -> None:
    pair = stapled(demanding(authority, "a.example", "a"), authority)
    spec = spec_of(pair)
    demanding(authority, "b.example", "a")
    same, (line,) = again(spec)
    assert same is spec
    assert line.endswith(f"; {pair['chain']} demands one, and what was read before stays in force")
    stapled(pair, authority)
    fresh, said = again(spec)
    assert (fresh.certificates[0].names, said) == (("b.example",), [])
    assert response_in(fresh.certificates[0]).der


def test_who_may_come_in_does_not_wait_for_it(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    pair = stapled(demanding(authority, "a.example", "a"), authority)
    spec = spec_of({**pair, "client_ca": clients.path})
    demanding(authority, "b.example", "a")
    Authority(tmp_path, "clients")
    fresh, said = again(spec)
    assert (fresh.certificates[0].names, len(said)) == (("a.example",), 1)
    assert fresh.certificates[0].client_ca_pem == Path(clients.path).read_text()
