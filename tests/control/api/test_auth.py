"""`txlb.control.api.auth`: token files, and whose token one is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.admin import READ_TOKEN, WRITE_TOKEN, token_file

from txlb.control.api.auth import (
    LARGEST_FILE,
    LONGEST_TOKEN,
    Caller,
    TokenFileError,
    bearer,
    hash_of,
    parse_tokens,
    read_tokens,
)


def test_each_token_has_its_label_and_role(tmp_path: Path):
    tokens = read_tokens(token_file(tmp_path))
    assert tokens.find(READ_TOKEN.encode()) == Caller("reader", "read")
    assert tokens.find(WRITE_TOKEN.encode()) == Caller("operator", "write")
    for wrong in (b"", READ_TOKEN[:-1].encode(), hash_of(READ_TOKEN).encode(), b"reader"):
        assert tokens.find(wrong) is None


def test_the_hash_of_a_token_is_its_sha256():
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_of("abc") == f"sha256:{known}"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602])
def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int):
    with pytest.raises(TokenFileError, match=f"has mode {mode:04o}: others may read or change"):
        read_tokens(token_file(tmp_path, mode))


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_other_modes_are_accepted(tmp_path: Path, mode: int):
    assert read_tokens(token_file(tmp_path, mode)).find(READ_TOKEN.encode())


def test_what_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(TokenFileError, match="cannot be read: No such file"):
        read_tokens(str(tmp_path / "absent"))
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(TokenFileError, match=r"is not a file|cannot be read"):
            read_tokens(str(path))
    huge = tmp_path / "huge"
    huge.touch(0o600)
    huge.write_bytes(b"#" * (LARGEST_FILE + 1))
    with pytest.raises(TokenFileError, match="longer than 1MiB"):
        read_tokens(str(huge))


def test_every_bad_line_is_told_and_none_is_repeated():
    good = "sha256:" + "0" * 64
    raw = "\n".join(
        [
            f"a read {good}",
            "SECRET",
            f"b admin {good}",
            f"a write {good}",
            f"c read {good.upper()}",
            "d read 00",
        ]
    )
    with pytest.raises(TokenFileError) as caught:
        parse_tokens(raw.encode(), "tokens")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5", "6"]
    assert "a is taken by line 1" in lines[2]
    assert "SECRET" not in str(caught.value)


def test_a_file_without_tokens_is_refused():
    with pytest.raises(TokenFileError, match="holds no token"):
        parse_tokens(b"# nothing\n\n", "tokens")


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        (["Bearer abc"], b"abc"),
        (["bearer  abc "], b"abc"),
        ([], None),
        (["abc"], None),
        (["Basic abc"], None),
        (["Bearer "], None),
        (["Bearer a", "Bearer a"], None),
        (["Bearer " + "x" * LONGEST_TOKEN], None),
    ],
)
def test_what_an_authorization_field_holds(fields: list[str], token: bytes | None):
    assert bearer(fields) == token
