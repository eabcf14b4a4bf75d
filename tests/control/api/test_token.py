"""`txlb.control.api.token`: what it prints is a token and its line."""

from __future__ import annotations

import pytest

from txlb.control.api.auth import Caller, parse_tokens
from txlb.control.api.token import main


def test_the_token_is_shown_and_its_hash_can_be_kept(capsys: pytest.CaptureFixture[str]):
    main(["ci", "write"])
    printed = capsys.readouterr()
    token = printed.err.split()[-1]
    assert len(token) >= 43
    assert token not in printed.out
    assert parse_tokens(printed.out.encode(), "-").find(token.encode()) == Caller("ci", "write")


@pytest.mark.parametrize("arguments", [["ci"], ["ci", "admin"], ["a b", "read"]])
def test_bad_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().out == ""
