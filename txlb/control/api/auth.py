"""Bearer tokens of the admin API: kept as hashes, each with a label and a role.

Rules:

* A line of a token file is ``LABEL ROLE sha256:HEX``, the hash of a random token; ``#`` begins a comment.
  Roles are ``read`` and ``write``; who may write may read. Several are valid at a time, so that one can
  be replaced.
* The file is refused as a whole if anything in it is wrong, if it holds no token, if others may read it,
  or if anybody but its owner may write it. Neither errors nor logs repeat what stands in it.
* What a caller presents is hashed and compared with every hash, in a time that does not tell which one
  matched.
* A token never is an argument, a variable of the environment, or part of a path: only a header field.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from txlb.errors import TxlbError

READ = "read"
WRITE = "write"
LARGEST_FILE = 1 << 20
LONGEST_TOKEN = 1024
_LINE = re.compile(r"(?P<label>[A-Za-z0-9._-]{1,64})\s+(?P<role>read|write)\s+sha256:(?P<hash>[0-9a-f]{64})")


class TokenFileError(TxlbError):
    """The token file cannot be used."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what it may do. ``label`` is "" where no tokens are asked for."""

    label: str
    role: str


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of one token."""

    caller: Caller
    digest: bytes


class Tokens:
    """All that are valid."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    def find(self, presented: bytes) -> Caller | None:
        """Whose token this is."""
        digest = hashlib.sha256(presented).digest()
        found: Caller | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token.caller
        return found


def hash_of(token: str) -> str:
    """As a token file has it."""
    return "sha256:" + hashlib.sha256(token.encode("utf-8")).hexdigest()


def bearer(fields: Sequence[str]) -> bytes | None:
    """The token in a request's Authorization fields; None if there is none, or more than one."""
    if len(fields) != 1 or len(fields[0]) > LONGEST_TOKEN:
        return None
    scheme, _, token = fields[0].strip().partition(" ")
    return token.strip().encode("utf-8") if scheme.lower() == "bearer" and token.strip() else None


def read_tokens(path: str) -> Tokens:
    """Raises `TokenFileError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TokenFileError(f"admin.token_file: {path} cannot be read: {error.strerror}") from None
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
    except TokenFileError:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise TokenFileError(f"admin.token_file: {path} is longer than 1MiB")
    return parse_tokens(raw, path)


def _check_mode(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise TokenFileError(f"admin.token_file: {path} is not a file")
    if mode & 0o026:
        raise TokenFileError(
            f"admin.token_file: {path} has mode {stat.S_IMODE(mode):04o}: others may read or change it"
            " (chmod 0600, or 0640 with a group of txlb's own)"
        )


def parse_tokens(raw: bytes, path: str) -> Tokens:
    """The tokens of a file's text; raises `TokenFileError` with every bad line."""
    tokens: list[Token] = []
    problems: list[str] = []
    labels: dict[str, int] = {}
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        where = f"{path}:{number}:1: admin.token_file"
        match = _LINE.fullmatch(text)
        if match is None:
            problems.append(
                f"{where}: not a line of the form LABEL read|write sha256:HEX"
                " (python -m txlb.control.api.token LABEL ROLE makes one)"
            )
        elif match["label"] in labels:
            problems.append(f"{where}: {match['label']} is taken by line {labels[match['label']]}")
        else:
            labels[match["label"]] = number
            tokens.append(Token(Caller(match["label"], match["role"]), bytes.fromhex(match["hash"])))
    if not problems and not tokens:
        problems.append(f"{path}:1:1: admin.token_file: holds no token, so nobody could call the admin API")
    if problems:
        raise TokenFileError("\n".join(problems))
    return Tokens(tokens)
