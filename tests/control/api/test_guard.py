"""`txlb.control.api.guard`: the order of refusals, and who may do what."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.admin import READ_TOKEN, WRITE_TOKEN

from txlb.control.api.auth import Caller, Tokens, hash_of, parse_tokens
from txlb.control.api.failures import LIMIT, WINDOW
from txlb.control.api.guard import EVERYBODY, Guard, Refusal

JSON = "application/json"


class Fields(dict[str, list[str]]):
    def getRawHeaders(self, name: str) -> Sequence[str] | None:
        return self.get(name)


def fields(host: str = "localhost", token: str | None = None, **more: str) -> Fields:
    found = Fields({name.replace("_", "-"): [value] for name, value in more.items()}, host=[host])
    if token is not None:
        found["authorization"] = [f"Bearer {token}"]
    return found


class Checked:
    def __init__(self) -> None:
        self.now = 0.0
        lines = f"reader read {hash_of(READ_TOKEN)}\noperator write {hash_of(WRITE_TOKEN)}\n"
        self.tokens: Tokens = parse_tokens(lines.encode(), "-")
        self.guard = Guard(self.tokens, ["lb.internal"], lambda: self.now)

    def identify(self, asked: Fields, source: str = "192.0.2.1") -> Caller | Refusal:
        return self.guard.identify(asked, "127.0.0.1", source)

    def status(self, asked: Fields, source: str = "192.0.2.1") -> int:
        verdict = self.identify(asked, source)
        return verdict.status if isinstance(verdict, Refusal) else 200


@pytest.fixture
def checked() -> Checked:
    return Checked()


def test_without_a_token_file_everybody_may_everything():
    guard = Guard(None, (), lambda: 0.0)
    assert guard.identify(fields(), "127.0.0.1", "127.0.0.1") == EVERYBODY
    assert guard.permit(EVERYBODY, b"DELETE", fields(), False) is None


def test_with_one_a_token_says_who_calls(checked: Checked):
    assert checked.identify(fields(token=READ_TOKEN)) == Caller("reader", "read")
    assert checked.identify(fields("lb.internal", WRITE_TOKEN)) == Caller("operator", "write")
    for asked in (fields(), fields(token="wrong"), fields(authorization=f"Basic {READ_TOKEN}")):
        verdict = checked.identify(asked)
        assert isinstance(verdict, Refusal)
        assert verdict.status == 401
        assert dict(verdict.fields)[b"www-authenticate"].startswith(b'Bearer realm="txlb"')


def test_tokens_may_change_while_it_runs(checked: Checked):
    checked.guard.tokens = parse_tokens(f"new read {hash_of('n' * 30)}".encode(), "-")
    assert checked.status(fields(token=READ_TOKEN)) == 401
    assert checked.identify(fields(token="n" * 30)) == Caller("new", "read")


def test_a_wrong_host_or_origin_is_refused_whatever_the_token(checked: Checked):
    assert checked.status(fields("evil.test", WRITE_TOKEN)) == 403
    assert checked.status(fields(token=WRITE_TOKEN, origin="https://evil.test")) == 403
    assert checked.status(fields(token=WRITE_TOKEN, origin="http://localhost:9900")) == 200
    two = fields(token=WRITE_TOKEN)
    two["host"] = ["localhost", "localhost"]
    assert checked.status(two) == 403
    assert checked.status(Fields(authorization=[f"Bearer {WRITE_TOKEN}"])) == 403


def test_who_guesses_must_wait_even_with_the_right_token(checked: Checked):
    for _ in range(LIMIT):
        assert checked.status(fields(token="guess")) == 401
    checked.now = 20.5
    verdict = checked.identify(fields(token=WRITE_TOKEN))
    assert isinstance(verdict, Refusal)
    assert (verdict.status, dict(verdict.fields)) == (429, {b"retry-after": b"40"})
    assert checked.status(fields(token=WRITE_TOKEN), "192.0.2.2") == 200
    checked.now = WINDOW
    assert checked.status(fields(token=WRITE_TOKEN)) == 200


def test_no_token_is_no_guess(checked: Checked):
    for _ in range(LIMIT + 1):
        assert checked.status(fields()) == 401
    assert checked.status(fields(token=READ_TOKEN)) == 200


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"BREW"])
def test_a_token_that_reads_may_only_read(checked: Checked, method: bytes):
    reader, writer = Caller("", "read"), Caller("", "write")
    refusal = checked.guard.permit(reader, method, fields(content_type=JSON), True)
    assert refusal is not None
    assert refusal.status == 403
    assert checked.guard.permit(writer, method, fields(content_type=JSON), True) is None
    assert checked.guard.permit(reader, b"GET", fields(), False) is None
    assert checked.guard.permit(reader, b"HEAD", fields(), False) is None


@pytest.mark.parametrize(
    ("method", "content_type", "has_body", "status"),
    [
        (b"POST", "application/json", True, 0),
        (b"POST", "Application/JSON; charset=utf-8", False, 0),
        (b"POST", "text/plain", True, 415),
        (b"POST", "application/x-www-form-urlencoded", True, 415),
        (b"POST", "", False, 0),
        (b"POST", "", True, 415),
        (b"POST", "text/plain", False, 415),  # a form that is empty
        (b"PUT", "application/jsonx", True, 415),
        (b"PATCH", "multipart/form-data", True, 415),
        (b"DELETE", "", False, 0),
        (b"DELETE", "", True, 415),
        (b"OPTIONS", "", False, 0),  # the routes say 405
        (b"TRACE", "", False, 0),
        (b"BREW", "text/plain", True, 0),
        (b"post", "text/plain", True, 400),
        (b"get", "", False, 400),
    ],
)
def test_a_change_is_json(checked: Checked, method: bytes, content_type: str, has_body: bool, status: int):
    asked = fields(content_type=content_type) if content_type else fields()
    refusal = checked.guard.permit(EVERYBODY, method, asked, has_body)
    assert (0 if refusal is None else refusal.status) == status
