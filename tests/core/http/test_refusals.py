from __future__ import annotations

import pytest
from support.http_oracles import h11_answer, llhttp_answer

from txlb.core.http.refusals import REASONS, Refusals

DEFAULT = Refusals({})


@pytest.mark.parametrize("status", sorted(REASONS))
def test_answers_are_small_well_formed_and_silent_about_the_inside(status: int) -> None:
    answer = DEFAULT.answer(status, False, 1, False)
    for seen, why in (h11_answer(answer), llhttp_answer(answer)):
        assert why == ""
        assert (seen[0].start, seen[0].complete) == ((status,), True)
        assert dict(seen[0].fields)[b"connection"] == b"close"
    assert len(answer) < 256
    for word in (b"txlb", b"twisted", b"python", b"backend", b"server:", b"rule"):
        assert word not in answer.lower()
    assert answer == DEFAULT.answer(status, False, 1, False)


def test_an_answer_to_head_has_the_length_but_no_body() -> None:
    whole, bare = (DEFAULT.answer(503, True, 1, to_head) for to_head in (False, True))
    assert whole == bare + b"503 Service Unavailable\n"
    assert b"Content-Length: 24\r\n" in bare


def test_connection_says_what_the_version_does_not_imply() -> None:
    assert b"Connection" not in DEFAULT.answer(503, True, 1, False)
    assert b"Connection: keep-alive\r\n" in DEFAULT.answer(503, True, 0, False)
    for minor in (0, 1):
        assert b"Connection: close\r\n" in DEFAULT.answer(503, False, minor, False)


def test_errors_are_not_cached() -> None:
    assert b"Cache-Control: no-store\r\n" in DEFAULT.answer(404, False, 1, False)


def test_the_last_hop_says_what_is_allowed() -> None:
    """Max-Forwards: 0 (RFC 9110 §7.6.2): OPTIONS is answered, TRACE is not done here."""
    assert b"Allow: OPTIONS, GET" in DEFAULT.answer(200, False, 1, False)
    assert DEFAULT.answer(200, False, 1, False).endswith(b"\r\n\r\n")
    assert b"Allow: " in DEFAULT.answer(405, False, 1, False)
    assert b"Allow: " not in DEFAULT.answer(404, False, 1, False)


def test_configured_answers_replace_type_and_body_never_the_status() -> None:
    configured = Refusals({502: ("application/json", '{"error": "ä"}')})
    answer = configured.answer(502, False, 1, False)
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    seen, why = h11_answer(answer)
    assert (why, seen[0].body) == ("", '{"error": "ä"}'.encode())
    assert dict(seen[0].fields)[b"content-type"] == b"application/json"
    assert configured.answer(503, False, 1, False) == DEFAULT.answer(503, False, 1, False)


def test_a_status_without_a_reason_of_ours() -> None:
    assert DEFAULT.answer(418, False, 1, False).startswith(b"HTTP/1.1 418 Error\r\n")
