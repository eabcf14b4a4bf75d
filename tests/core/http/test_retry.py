from __future__ import annotations

from itertools import product

import pytest

from txlb.core.http.retry import MAX_CONNECTS, may_connect_again, may_resend


def test_connects_that_failed_are_bounded() -> None:
    assert [tries for tries in range(6) if may_connect_again(tries)] == list(range(MAX_CONNECTS))


IDEMPOTENT = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"]


@pytest.mark.parametrize("method", IDEMPOTENT)
def test_an_idempotent_request_on_a_stale_connection_goes_out_once_more(method: bytes) -> None:
    assert may_resend(method, reused=True, answer_begun=False, held=True, resent=False)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"get", b"LOCK", b""])
def test_others_do_not(method: bytes) -> None:
    assert not may_resend(method, reused=True, answer_begun=False, held=True, resent=False)


@pytest.mark.parametrize(
    ("reused", "begun", "held", "resent"),
    [case for case in product((True, False), repeat=4) if case != (True, False, True, False)],
)
def test_every_other_circumstance_forbids_it(reused: bool, begun: bool, held: bool, resent: bool) -> None:
    """A fresh connection, an answer begun, bytes no longer held, once already."""
    assert not may_resend(b"GET", reused, begun, held, resent)
