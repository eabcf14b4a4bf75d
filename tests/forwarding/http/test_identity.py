from __future__ import annotations

import trustme
from cryptography.x509 import load_pem_x509_certificate

from txlb.forwarding.http.identity import identity_lines


def test_a_certificate_is_told_field_by_field() -> None:
    issued = trustme.CA().issue_cert("someone@example.com", common_name="Some One")
    certificate = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    lines = identity_lines("web", certificate).split(b"\r\n")
    assert lines[0] == b"X-SSL-Client-Verify: SUCCESS"
    assert b"X-SSL-Client-CN: Some One" in lines
    assert b"X-SSL-Client-Serial: %X" % certificate.serial_number in lines


def test_without_one_it_is_said_where_somebody_asks() -> None:
    assert identity_lines("web", None) == b"X-SSL-Client-Verify: NONE\r\n"
    assert identity_lines("", None) == b""
