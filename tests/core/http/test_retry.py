from __future__ import annotations

from itertools import product

import pytest

from txlb.core.http.retry import may_repeat

IDEMPOTENT = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"]


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_an_idempotent_request_may_be_sent_again(method: bytes) -> None:
    assert may_repeat(method, unanswered=True, held=True)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"get", b"LOCK", b""])
def test_others_may_not(method: bytes) -> None:
    assert not may_repeat(method, unanswered=True, held=True)


@pytest.mark.parametrize(
    ("unanswered", "held"), [case for case in product((True, False), repeat=2) if case != (True, True)]
)
def test_an_answer_begun_or_bytes_no_longer_held_forbid_it(unanswered: bool, held: bool) -> None:
    assert not may_repeat(b"GET", unanswered, held)
