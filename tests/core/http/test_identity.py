from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from txlb.core.http.fields import scan_fields
from txlb.core.http.forward import EVERYBODY, NOBODY, TRUSTED, VIA_CHAIN, ForwardPolicy, request_head
from txlb.core.http.head import FieldCache, parse_request
from txlb.core.http.identity import MAX_TEXT, identity_fields, without_identity


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_certificate_ends_a_field_and_begins_another(subject: str, name: str) -> None:
    block = identity_fields(subject, name, 0xABC, "00ff")
    fields = scan_fields(block, True, 10)
    assert not fields.refusal
    assert fields.count <= 5
    assert fields.get(b"x-ssl-client-verify") == b"SUCCESS"
    assert fields.get(b"x-ssl-client-serial") == b"ABC"
    assert without_identity(block) == b""


def test_values_are_printable_and_never_cut() -> None:
    assert b"X-SSL-Client-CN: J\\C3\\B6rg\\0D\\0Ax\r\n" in identity_fields("CN=x", "Jörg\r\nx", 1, "00")
    assert b"Subject" not in identity_fields("x" * (MAX_TEXT + 1), "", 1, "00")


def sent(identity: int, trusted: bool, field: bytes = b"X-SSL-client-Verify: SUCCESS") -> bytes:
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\nX-Other: 1\r\n\r\n"
    head = parse_request(data, 0, len(data) - 4, FieldCache(100), 8192)
    assert head.status == 0
    policy = ForwardPolicy(False, VIA_CHAIN, b"https")
    policy.identity = identity
    return request_head(head, policy, trusted, b"192.0.2.1\r\n\r\n")


def test_what_clients_say_of_certificates_is_removed() -> None:
    for identity, trusted, kept in (
        (EVERYBODY, False, True),
        (TRUSTED, False, False),
        (TRUSTED, True, True),
        (NOBODY, False, False),
        (NOBODY, True, False),
    ):
        head = sent(identity, trusted)
        assert (b"SUCCESS" in head) == kept
        assert b"X-Other: 1\r\n" in head


def test_any_field_of_the_family_is_removed_others_are_not() -> None:
    assert b"Zz" not in sent(NOBODY, False, b"X-SSL-Client-Something-New: Zz")
    assert b"Zz" in sent(NOBODY, False, b"X-SSL-Clientele: Zz")
